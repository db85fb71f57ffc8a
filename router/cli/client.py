"""Asks a gateway over HTTP: a running one for a document, this machine's own for its health.

Works without importing mlflow. This machine is asked directly. For every other host the environment's
`http_proxy`, `https_proxy` and `no_proxy` count, and an error names the proxy that was used.
"""

import os
import ssl
from collections.abc import Mapping
from http.client import HTTPResponse
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPSHandler, ProxyHandler, build_opener, getproxies, proxy_bypass

import click
import orjson

from router.adapters.config.file import load_settings
from router.core.redaction import redact_uri
from router.errors import ConfigRefused
from router.settings import is_loopback

TIMEOUT_SECONDS = 5.0
_OTHER_NAME = (62, 64)
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""


class Unreachable(Exception):
    """No gateway answers there; or what answers is something else, or can not be trusted."""


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
    """`url`, or the admin address of the configuration. Raises ConfigRefused."""
    if url is not None:
        return url
    try:
        server = load_settings(config_path, os.environ, {}).settings.server
    except ConfigRefused as refused:
        hint = "the gateway's address is read in that file; with --url http://HOST:PORT none is needed"
        raise ConfigRefused([*refused.problems, hint]) from None
    return own_url(server.admin, encrypted=server.admin_tls is not None)


def ask(base: str, path: str, *keys: str) -> Mapping[str, Any]:
    """The document at `path`, which has `models` and these `keys`. Raises Unreachable."""
    if not base.startswith(("http://", "https://")):
        raise click.UsageError("--url must begin with http:// or https://")
    proxy = None
    try:
        proxy = _proxy_for(base)
        with _open(base.rstrip("/") + path, TIMEOUT_SECONDS, proxy) as answer:
            document = orjson.loads(answer.read())
    except HTTPError as error:
        error.close()
        raise Unreachable(f"no gateway answers at {base}{_through(proxy)} with {path}: {error}") from error
    except (URLError, OSError, ValueError) as error:
        if isinstance(reason := getattr(error, "reason", error), ssl.SSLCertVerificationError):
            raise Unreachable(_distrust(base, proxy, reason)) from error
        raise Unreachable(f"no gateway answers at {base}{_through(proxy)}: {reason}") from error
    if not isinstance(document, dict) or not {"models", *keys} <= document.keys():
        raise Unreachable(
            f"no gateway answers at {base}{_through(proxy)}: what answers there is no canary-router"
        )
    return document


def answers_well(url: str, timeout_seconds: float) -> None:
    """Return when this machine's own listener answers `url` with success.

    Asked directly, whatever address it listens on. Its certificate is not verified: it is made for the name
    that clients use, and nothing secret is sent. Raises HTTPError for another status, else OSError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _open(url, timeout_seconds, None, context).close()


def _open(
    url: str, timeout_seconds: float, proxy: str | None, context: ssl.SSLContext | None = None
) -> HTTPResponse:
    proxies = ProxyHandler({urlsplit(url).scheme: proxy} if proxy else {})
    answer = build_opener(proxies, HTTPSHandler(context=context)).open(url, timeout=timeout_seconds)
    return cast(HTTPResponse, answer)


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
