"""`GET /`: the live page, one document that asks for nothing but `/v1/state` and `/v1/compare`.

On the admin listener it has levers as well, which ask for `/-/abort` and `/-/resume`.
"""

import re
from base64 import b64encode
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from aiohttp import ETag, web

SOURCES = Path(__file__).with_name("page")
_MARK = re.compile(r"/\* here: ([\w., \n]+) \*/")
"""Where `index.html` wants other files: their names, in the order in which they are joined."""


@dataclass(frozen=True, slots=True)
class Page:
    """The document as it is sent."""

    body: bytes
    policy: str
    """Its Content-Security-Policy: its own style and script by their digests, and nothing else."""
    tag: str
    """Its ETag, without quotes."""


@cache
def live_page(*, levers: bool = False) -> Page:
    """The page, with or without `levers`, joined from `router/web/page` once in a process.

    Raises ValueError when one of its files would end the element that it is put into.
    """
    document = _MARK.sub(_joined, (SOURCES / "index.html").read_text(encoding="utf-8"))
    if levers:
        document = document.replace("<body>", "<body data-levers>", 1)
    return Page(document.encode(), _policy(document), sha256(document.encode()).hexdigest()[:32])


async def show(request: web.Request) -> web.Response:
    """`GET /`: the page, or 304 for who has it."""
    return _shown(request, live_page())


async def show_with_levers(request: web.Request) -> web.Response:
    """The same on the admin listener."""
    return _shown(request, live_page(levers=True))


def _shown(request: web.Request, page: Page) -> web.Response:
    headers = {
        "Content-Security-Policy": page.policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    known = request.if_none_match or ()
    if any(tag.value in (page.tag, "*") for tag in known):
        response = web.Response(status=304, headers=headers)
    else:
        response = web.Response(body=page.body, headers=headers, content_type="text/html", charset="utf-8")
    response.etag = ETag(page.tag)
    return response


def _joined(mark: re.Match[str]) -> str:
    files = [SOURCES / name.strip() for name in mark[1].split(",")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    if "</s" in text.lower():
        raise ValueError(f"one of {mark[1]} would end its element")
    return text


def _policy(document: str) -> str:
    sources = {
        element: " ".join(
            _digest(text) for text in re.findall(rf"(?s)<{element}>(.*?)</{element}>", document)
        )
        for element in ("style", "script")
    }
    rules = {
        "default-src": "'none'",
        "style-src": sources["style"],
        "script-src": sources["script"],
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        # Markup made of text is refused by the browser itself: names and errors are other people's.
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    return "; ".join(f"{rule} {value}" for rule, value in rules.items())


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
