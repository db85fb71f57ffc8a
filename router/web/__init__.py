"""The only room that knows aiohttp: routes, bodies, headers and HTTP status codes."""
