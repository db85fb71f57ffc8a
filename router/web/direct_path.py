"""Plain prediction requests, from the parser to their answers, without the library's objects in between.

Nearly all traffic is of this kind, and what the library makes for each request (a task, a writer, a request
with its lazy parts, an application's lookup) costs as much as everything else that is done for it.
"""

import re

from aiohttp import HttpVersion11, StreamReader, web
from aiohttp.http import RawRequestMessage

from router.protocol.messages import ScoringProtocol
from router.serving.caller import Caller
from router.web.connections import Target
from router.web.context import WebState
from router.web.incoming import IncomingRequest, choose_request_id
from router.web.invocations import answer_request
from router.web.responses import sign

_MLFLOW, _V2 = ScoringProtocol.MLFLOW, ScoringProtocol.V2
"""Under names of their own: an enumeration looks its members up, and these are asked for by every request."""
_MODELS, _INVOCATIONS = "/models/", "/invocations"
_V2_MODELS, _INFER = "/v2/models/", "/infer"
_PLAIN_NAME = re.compile(r"[\w.-]+", re.ASCII)
"""Of a model, as it stands in a path without anything quoted."""


class DirectPath:
    """Which requests take it, and their answers. Everything else is left to the application."""

    def __init__(self, gateway: WebState) -> None:
        self._gateway = gateway

    def target(self, message: RawRequestMessage) -> Target | None:
        """The model that a plain request asks: in HTTP/1.1, with a length, for the split and no alias."""
        if message.method != "POST" or message.version != HttpVersion11:
            return None
        headers = message.headers
        if (
            message.should_close
            or "Transfer-Encoding" in headers
            or "Expect" in headers
            or "Upgrade" in headers
        ):
            return None
        path = message.path
        if path == _INVOCATIONS:
            return self._gateway.first_model, _MLFLOW
        if path.endswith(_INVOCATIONS) and path.startswith(_MODELS):
            name, protocol = path[len(_MODELS) : -len(_INVOCATIONS)], _MLFLOW
        elif path.endswith(_INFER) and path.startswith(_V2_MODELS):
            name, protocol = path[len(_V2_MODELS) : -len(_INFER)], _V2
        else:
            return None
        return (name, protocol) if _PLAIN_NAME.fullmatch(name) else None

    async def answer(
        self, message: RawRequestMessage, payload: StreamReader, target: Target, caller: Caller
    ) -> web.StreamResponse:
        """The answer to a request with that `target`; never raises."""
        model, protocol = target
        headers = message.headers
        request_id = choose_request_id(headers.get("X-Request-Id", ""))
        request = IncomingRequest(headers, payload, request_id, caller)
        response = await answer_request(self._gateway, request, model, None, protocol)
        if self._gateway.traffic.stopping:
            response.force_close()
        sign(response, request_id)
        return response
