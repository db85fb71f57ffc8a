"""Asks a gateway over HTTP: a running one for a document or a verb, this machine's own for its health.

Works without importing mlflow. This machine is asked directly. For every other host the environment's
`http_proxy`, `https_proxy` and `no_proxy` count, and an error names the proxy that was used.
"""

import os
import ssl
from collections.abc import Mapping
from http.client import HTTPException, HTTPMessage, HTTPResponse
from ipaddress import ip_address
from pathlib import Path
from typing import IO, Any, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    BaseHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    ProxyHandler,
    Request,
    build_opener,
    getproxies,
    proxy_bypass,
)

import click
import orjson

from router.adapters.config.file import load_settings
from router.core.redaction import redact_line, redact_uri
from router.errors import ConfigRefused
from router.settings import is_loopback

TIMEOUT_SECONDS = 5.0
_OTHER_NAME = (62, 64)
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""
_LONGEST_REFUSAL_BYTES = 65_536


class Unreachable(Exception):
    """No gateway answers there; or what answers is something else, or can not be trusted."""


class Refused(Exception):
    """A gateway answered that it does not do what it was asked; the message is its sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        """That of HTTP, 300 or more."""


def base_url(host: str, port: int, *, encrypted: bool) -> str:
    """`https://[::1]:8081` and the like, without a path."""
    return f"{'https' if encrypted else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def own_url(address: tuple[str, int], *, encrypted: bool) -> str:
    """Where this machine reaches its own listener: by loopback where it listens on every address."""
    host, port = address
    if _is_wildcard(host):
        host = "::1" if ":" in host else "127.0.0.1"
    return base_url(host, port, encrypted=encrypted)


def gateway_address(config_path: Path, url: str | None) -> str:
    """`url`, or the admin address of the configuration. Raises ConfigRefused, or a usage error for what is no
    address."""
    if url is not None:
        return checked_url(url)
    try:
        server = load_settings(config_path, os.environ, {}).settings.server
    except ConfigRefused as refused:
        hint = "the gateway's address is read in that file; with --url http://HOST:PORT none is needed"
        raise ConfigRefused([*refused.problems, hint]) from None
    return own_url(server.admin, encrypted=server.admin_tls is not None)


def checked_url(url: str) -> str:
    """`url` as somebody typed it, before anything else is done. Raises a usage error."""
    if not url.startswith(("http://", "https://")):
        raise click.UsageError("--url must begin with http:// or https://")
    return url


def ask(base: str, path: str, *keys: str) -> Mapping[str, Any]:
    """The document at `path`, which has `models` and these `keys`. Raises Unreachable."""
    try:
        return _document(base, path, ("models", *keys), None, TIMEOUT_SECONDS)
    except HTTPError as error:
        error.close()
        raise _no_gateway(base, path, error) from error


def request(
    base: str,
    path: str,
    *keys: str,
    body: Mapping[str, Any] | None = None,
    token: bytes | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Mapping[str, Any]:
    """The document, which has these `keys`, at `path`; with a `body`, what POST of it answers.

    `token` goes with a POST only, and never to where a redirect leads. Raises Refused, Unreachable.
    """
    sent = None if body is None else (orjson.dumps(body), token)
    try:
        return _document(base, path, keys, sent, timeout_seconds)
    except HTTPError as error:
        with error:
            sentence = _refusal(error)
        if sentence is None:
            raise _no_gateway(base, path, error) from error
        raise Refused(error.code, sentence) from error


def answers_well(url: str, timeout_seconds: float) -> None:
    """Return when this machine's own listener answers `url` with success.

    Asked directly, whatever address it listens on. Its certificate is not verified: it is made for the name
    that clients use, and nothing secret is sent. Raises HTTPError for another status, else OSError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _open(Request(url), timeout_seconds, None, context).close()  # noqa: S310 - built by `own_url`


class _NoRedirects(HTTPRedirectHandler):
    """A redirect is an error: what follows one would carry the token along, and drop the body."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def _document(
    base: str,
    path: str,
    keys: tuple[str, ...],
    sent: tuple[bytes, bytes | None] | None,
    timeout_seconds: float,
) -> Mapping[str, Any]:
    """`sent`: the body of a POST and its token. Raises HTTPError for another status than success."""
    proxy = None
    try:
        proxy = _proxy_for(base)
        with _open(_request(base.rstrip("/") + path, sent), timeout_seconds, proxy) as answer:
            document = orjson.loads(answer.read())
    except HTTPError:
        raise
    except (URLError, OSError, ValueError, HTTPException) as error:
        if isinstance(reason := getattr(error, "reason", error), ssl.SSLCertVerificationError):
            raise Unreachable(_distrust(base, proxy, reason)) from error
        raise Unreachable(f"no gateway answers at {base}{_through(proxy)}: {reason}") from error
    if not isinstance(document, dict) or not set(keys) <= document.keys():
        raise Unreachable(
            f"no gateway answers at {base}{_through(proxy)}: what answers there is no canary-router"
        )
    return document


def _request(url: str, sent: tuple[bytes, bytes | None] | None) -> Request:
    if sent is None:
        return Request(url)  # noqa: S310 - the scheme was looked at
    body, token = sent
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token.decode('latin-1')}"  # which is how headers are encoded
    return Request(url, body, headers, method="POST")  # noqa: S310 - as above


def _no_gateway(base: str, path: str, error: HTTPError) -> Unreachable:
    return Unreachable(f"no gateway answers at {base}{_through(_proxy_for(base))} with {path}: {error}")


def _refusal(error: HTTPError) -> str | None:
    """The sentence of a gateway's refusal in one line; None where no gateway answered."""
    if 300 <= error.code < 400:
        return "it sends elsewhere, and a verb is not sent after: name the gateway itself with --url"
    try:
        document = orjson.loads(error.read(_LONGEST_REFUSAL_BYTES))
    except (OSError, ValueError, HTTPException):
        return None
    if not isinstance(document, dict):
        return None
    sentences = [document.get(key) for key in ("detail", "message", "error")]
    if isinstance(errors := document.get("errors"), list):
        sentences.append("; ".join(map(str, errors)))
    return next((redact_line(sentence) for sentence in sentences if isinstance(sentence, str)), None)


def _open(
    asked: Request, timeout_seconds: float, proxy: str | None, context: ssl.SSLContext | None = None
) -> HTTPResponse:
    handlers: list[BaseHandler] = [
        ProxyHandler({asked.type: proxy} if proxy else {}),
        HTTPSHandler(context=context),
    ]
    if asked.get_method() != "GET":
        handlers.append(_NoRedirects())
    return cast(HTTPResponse, build_opener(*handlers).open(asked, timeout=timeout_seconds))


def _proxy_for(url: str) -> str | None:
    """The proxy that the environment names for `url`; None where it is asked directly."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or _is_wildcard(host) or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return getproxies().get(parts.scheme)


def _through(proxy: str | None) -> str:
    if proxy is None:
        return ""
    address = redact_uri(proxy if "://" in proxy else f"http://{proxy}")
    return f" through the proxy {address} of the environment"


def _is_wildcard(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _distrust(base: str, proxy: str | None, error: ssl.SSLCertVerificationError) -> str:
    remedy = "SSL_CERT_FILE=FILE names the certificates to trust"
    if error.verify_code in _OTHER_NAME:
        remedy = "--url https://NAME:PORT asks by the name in it"
    why = error.verify_message.rstrip(".")
    return f"the certificate of {base}{_through(proxy)} is not trusted here: {why}; {remedy}"
