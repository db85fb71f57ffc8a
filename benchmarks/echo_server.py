"""The bare server: aiohttp parses the JSON and gives a constant answer. None on it is faster: `… PORT`."""

import sys

import orjson
import uvloop
from aiohttp import web

_ANSWER = b'{"predictions": [0.5]}'


async def _answer(request: web.Request) -> web.Response:
    orjson.loads(await request.read())
    return web.Response(body=_ANSWER, content_type="application/json")


async def _ping(_: web.Request) -> web.Response:
    return web.Response(text="\n")


def main(port: str) -> None:
    """Serve until ended."""
    app = web.Application()
    app.router.add_post("/invocations", _answer)
    app.router.add_get("/ping", _ping)
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=int(port), access_log=None, print=None, loop=loop)


if __name__ == "__main__":
    main(*sys.argv[1:])
