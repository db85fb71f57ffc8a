"""One loaded version that is asked over HTTP, whatever listens there: paths and answers, and no socket.

Requests are decoded, predicted and answered as a worker's are, each by a predict of its own.
"""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import NamedTuple

import orjson

from router.core.ids import VersionId
from router.protocol.messages import Answer, Query, ScoringProtocol
from router.protocol.v2_documents import model_metadata, model_readiness
from router.worker.decode.request_decoder import JSON
from router.worker.load import Loaded


class Response(NamedTuple):
    """An answer over HTTP."""

    status: int
    body: bytes
    content_type: str = JSON


class VersionServer:
    """Answers requests to one version, as many at once as it has threads; the others wait.

    Predicts run in threads, so a probe is answered while all of them are busy.
    """

    def __init__(
        self, version: VersionId, loaded: Loaded, *, threads: int, max_rows: int | None = None
    ) -> None:
        """`threads`: predicts side by side. `max_rows`: of one request; above it 413. None: any number."""
        self._scorer = loaded.scorer
        self._max_rows = max_rows
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="predict")
        self._began: dict[object, float] = {}
        """When each request that is in a thread got there."""
        name, info = version.model, loaded.info
        documents = {
            "": model_metadata(name, [version.number], info.inputs, info.outputs),
            "/ready": model_readiness(name, ready=True),
        }
        self._documents = {rest: orjson.dumps(document) for rest, document in documents.items()}
        self._model_path = re.compile(
            rf"/v2/models/{re.escape(name)}(?:/versions/{version.number})?(?P<rest>/ready|/infer|)"
        )

    @property
    def longest_seconds(self) -> float:
        """For how long the oldest request that is in a thread has been there; 0.0 without any."""
        now = monotonic()
        return now - min(tuple(self._began.values()), default=now)

    async def answer(self, method: str, path: str, content_type: str | None, body: bytes) -> Response:
        """The answer to one request. Cancelled while it waits for a thread, it is never predicted.

        `path`: decoded, without what is before the version's own. `content_type`: None when none was sent.
        """
        if path in ("/ping", "/health"):
            return Response(200, b"\n") if method == "GET" else _only("GET")
        if path == "/invocations":
            query = Query(body, content_type, self._max_rows)
            return await self._predict(query) if method == "POST" else _only("POST")
        found = self._model_path.fullmatch(path)
        if found is None:
            return _error(404, "this is the address of one version, which has no such path")
        if found["rest"] != "/infer":
            return Response(200, self._documents[found["rest"]]) if method == "GET" else _only("GET")
        query = Query(body, None, self._max_rows, ScoringProtocol.V2)
        return await self._predict(query) if method == "POST" else _only("POST")

    async def _predict(self, query: Query) -> Response:
        answer = await asyncio.get_running_loop().run_in_executor(self._threads, self._score, query)
        return Response(answer.status, answer.body, answer.content_type)

    def _score(self, query: Query) -> Answer:
        mine = object()
        self._began[mine] = monotonic()
        try:
            return self._scorer.answer(query)
        finally:
            del self._began[mine]


def _only(method: str) -> Response:
    return _error(405, f"this path takes {method} only")


def _error(status: int, message: str) -> Response:
    """In the words of either protocol."""
    return Response(status, orjson.dumps({"error": message, "message": message}))
