"""Asks a running gateway for one of its documents; works without importing mlflow."""

import os
import ssl
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import click
import orjson

from router.adapters.config.file import load_settings
from router.cli.urls import base_url
from router.errors import ConfigRefused

TIMEOUT_SECONDS = 5.0
_OTHER_NAME = (62, 64)
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""
SYMBOLS: Mapping[str, str] = {"pass": "✔ pass", "fail": "✘ FAIL", "not_enough_data": "… not enough data"}
"""A verdict as terminals show it: in a word and a symbol, whatever its colour."""


def said(verdict: str, why: str) -> str:
    """A verdict and its sentence on one line, without saying twice that there is too little."""
    sign = SYMBOLS[verdict]
    return f"{sign[0] if verdict == 'not_enough_data' else sign}: {why}"


class Unreachable(Exception):
    """Nobody answers there, or something that is no canary-router."""


def gateway_address(config_path: Path, url: str | None) -> str:
    """`url`, or the admin address of the configuration. Raises ConfigRefused."""
    if url is not None:
        return url
    try:
        server = load_settings(config_path, os.environ, {}).settings.server
    except ConfigRefused as refused:
        hint = "the gateway's address is read in that file; with --url http://HOST:PORT none is needed"
        raise ConfigRefused([*refused.problems, hint]) from None
    return base_url(*server.admin, encrypted=server.admin_tls is not None)


def ask(base: str, path: str, *keys: str) -> dict[str, Any]:
    """The document at `path`, which has `models` and these `keys`. Raises Unreachable."""
    if not base.startswith(("http://", "https://")):
        raise click.UsageError("--url must begin with http:// or https://")
    try:
        with urllib.request.urlopen(base.rstrip("/") + path, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - the scheme was checked
            told = orjson.loads(answer.read())
    except HTTPError as error:
        raise Unreachable(f"no gateway answers at {base} with {path}: {error}") from error
    except (URLError, OSError, ValueError) as error:
        if isinstance(reason := getattr(error, "reason", error), ssl.SSLCertVerificationError):
            raise Unreachable(_distrust(base, reason)) from error
        raise Unreachable(f"no gateway answers at {base}: {reason}") from error
    if not isinstance(told, dict) or not {"models", *keys} <= told.keys():
        raise Unreachable(f"no gateway answers at {base}: what answers there is no canary-router")
    return told


def _distrust(base: str, error: ssl.SSLCertVerificationError) -> str:
    remedy = "SSL_CERT_FILE=FILE names the certificates to trust"
    if error.verify_code in _OTHER_NAME:
        remedy = "--url https://NAME:PORT asks by the name in it"
    why = error.verify_message.rstrip(".")
    return f"the certificate of {base} is not trusted here: {why}; {remedy}"
