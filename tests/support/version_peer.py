"""An engine in a process of its own that serves one saved version by the Open Inference Protocol.

Run by itself: `python version_peer.py DIRECTORY NAME VERSION HOST PORT`. The version's code really runs, in
threads, as in an engine of its kind; paths and answers are those of an application of Ray Serve.
"""

import sys

from aiohttp import web

from router.core.ids import VersionId
from router.protocol.messages import LoadSpec
from router.worker.load import load_version
from router.worker.version_server import VersionServer


def main(directory: str, name: str, number: int, host: str, port: int) -> None:
    """Serve until the process is ended."""
    version = VersionId(name, number)
    server = VersionServer(version, load_version(LoadSpec(version, directory, None)), threads=8)

    async def answer(request: web.Request) -> web.Response:
        content_type = request.headers.get("Content-Type")
        status, body, answered = await server.answer(
            request.method, request.path, content_type, await request.read()
        )
        return web.Response(status=status, body=body, headers={"Content-Type": answered})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    web.run_app(app, host=host, port=port, print=None)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
