"""`POST /-/evidence`: what other gateways of the fleet ask, and the answer; both are signed.

Reads and changes nothing: a request that is recorded and sent again is answered again.
"""

import asyncio
import logging

from aiohttp import web

from router.control.exchange_messages import MOST_PACKED
from router.core.signature import NONCE_BYTES, SIGNATURE_BYTES, signed_answer, verified_request
from router.errors import ConfigRefused
from router.web.admin import ExchangeKey
from router.web.context import GATEWAY
from router.web.levers import read_body, refused
from router.web.repeats import Repeats

_log = logging.getLogger(__name__)

_LARGEST = NONCE_BYTES + SIGNATURE_BYTES + MOST_PACKED


class ExchangeHandler:
    """Answers whoever signs with the key of this fleet."""

    def __init__(self, key: ExchangeKey | None) -> None:
        """Without a `key` nobody is answered."""
        self._key = key
        self._unsigned = Repeats()

    async def answer(self, request: web.Request) -> web.Response:
        """The handler. 401 and 404, which a gateway of a former version answers, are never its status."""
        if self._key is None:
            return refused(503, ["this gateway has no admin token, by which exchanges are signed"])
        sent = await read_body(request, _LARGEST)
        if isinstance(sent, web.Response):
            return sent
        try:
            key = await self._key.read()
        except ConfigRefused as error:
            _log.warning("the admin token is unusable: %s", error)
            return refused(503, ["this gateway has no usable admin token; see its log"])
        try:
            nonce, question = verified_request(key, sent)
        except ValueError as error:
            self._report_unsigned()
            return refused(403, [f"the request: {error}"])
        try:
            answer = await request.app[GATEWAY].exchange.answer(question)
        except ValueError as error:
            return refused(422, [f"the request: {error}"])
        return web.Response(body=signed_answer(key, nonce, answer), content_type="application/octet-stream")

    def _report_unsigned(self) -> None:
        self._unsigned.add("")
        for requests in self._unsigned.take(asyncio.get_running_loop().time()).values():
            _log.warning("%d exchanges were refused: not signed with the admin token", requests)
