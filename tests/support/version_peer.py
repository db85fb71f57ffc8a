"""An engine in a process of its own that serves one saved version by the Open Inference Protocol.

Run by itself: `python version_peer.py DIRECTORY NAME VERSION HOST PORT`. The version's code really runs, in
threads, as in an engine of its kind; what it says of itself is what MLServer says.
"""

import asyncio
import sys

from aiohttp import web

from router.core.ids import VersionId
from router.protocol.messages import LoadSpec, Query, ScoringProtocol
from router.worker.load import load_version


def main(directory: str, name: str, number: int, host: str, port: int) -> None:
    """Serve until the process is ended."""
    scorer = load_version(LoadSpec(VersionId(name, number), directory, None)).scorer

    async def infer(request: web.Request) -> web.Response:
        query = Query(await request.read(), None, protocol=ScoringProtocol.V2)
        answer = await asyncio.to_thread(scorer.answer, query)
        return web.Response(
            status=answer.status, body=answer.body, headers={"Content-Type": answer.content_type}
        )

    async def metadata(_: web.Request) -> web.Response:
        return web.json_response({"name": name, "versions": [str(number)], "platform": "", "inputs": []})

    async def ready(_: web.Request) -> web.Response:
        return web.json_response({"name": name, "ready": True})

    app = web.Application()
    app.router.add_get(f"/v2/models/{name}/ready", ready)
    app.router.add_get(f"/v2/models/{name}", metadata)
    app.router.add_post(f"/v2/models/{name}/infer", infer)
    web.run_app(app, host=host, port=port, print=None)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
