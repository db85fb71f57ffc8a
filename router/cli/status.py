"""`canary-router status`: what a running gateway serves; works without importing mlflow."""

import os
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import URLError

import click
import orjson
from rich.console import Console
from rich.table import Table

from router.adapters.config_file import load_settings
from router.cli.urls import base_url
from router.errors import ConfigRefused

TIMEOUT_SECONDS = 5.0


def show_status(config_path: Path, url: str | None, *, watch: bool, output: str) -> int:
    """Print the state; returns 0 when healthy, 1 when not, 3 when nobody answers."""
    base = url or _admin_url(config_path)
    console = Console()
    try:
        while True:
            code = _show_once(base, console, output, clear=watch and console.is_terminal)
            if not watch:
                return code
            time.sleep(1.0)
    except KeyboardInterrupt:
        return 0


def _show_once(base: str, console: Console, output: str, *, clear: bool) -> int:
    try:
        state = _fetch(base)
    except (URLError, OSError, ValueError) as error:
        click.echo(f"no gateway answers at {base}: {getattr(error, 'reason', error)}", err=True)
        return 3
    if clear:
        console.clear()
    if output == "json":
        click.echo(orjson.dumps(state, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(state, console)
    return 0 if _healthy(state) else 1


def _fetch(base: str) -> dict[str, Any]:
    if not base.startswith(("http://", "https://")):
        raise click.UsageError("--url must begin with http:// or https://")
    url = base.rstrip("/") + "/v1/state"
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - the scheme was checked
        told = orjson.loads(answer.read())
    if not isinstance(told, dict) or "models" not in told:
        raise ValueError("what answers there is no canary-router")
    return told


def _admin_url(config_path: Path) -> str:
    try:
        server = load_settings(config_path, os.environ, {}).settings.server
    except ConfigRefused as refused:
        hint = "status reads the gateway's address in that file; with --url http://HOST:PORT it needs no file"
        raise ConfigRefused([*refused.problems, hint]) from None
    return base_url(*server.admin, encrypted=server.admin_tls is not None)


def _healthy(state: dict[str, Any]) -> bool:
    models = state["models"].values()
    wrong = any(version["error"] for model in models for version in model["versions"].values())
    stale = any(alias["stale"] for model in models for alias in model["aliases"].values())
    trouble = state["config"].get("error") or state["registry"]["error"]
    return bool(state["ready"] and not trouble and not wrong and not stale)


def _print(state: dict[str, Any], console: Console) -> None:
    table = Table(title=f"canary-router {state['version']}: {'ready' if state['ready'] else 'NOT READY'}")
    for heading in ("model", "alias", "registry", "serves", "share", "state", "in flight"):
        table.add_column(heading, justify="right" if heading in ("share", "in flight") else "left")
    for name, model in state["models"].items():
        for role, alias in model["aliases"].items():
            version = model["versions"].get(str(alias["bound"]), {})
            condition = (
                "stale" if alias["stale"] else "pending" if alias["pending"] else version.get("state", "–")
            )
            table.add_row(
                name,
                role,
                _v(alias["aspired"]),
                _v(alias["bound"]),
                f"{model['split'].get(role, 0):g} %",
                condition,
                str(version.get("in_flight", "–")),
            )
    console.print(table)
    for line in _troubles(state):
        console.print(line, markup=False, highlight=False)


def _failure(told: dict[str, Any]) -> str:
    again = f" (next try within {told['retry_seconds']:g} s)" if told["state"] == "error" else ""
    return f"{told['error']}{again}"


def _v(number: int | None) -> str:
    return f"v{number}" if number is not None else "–"


def _troubles(state: dict[str, Any]) -> list[str]:
    lines = []
    if state["registry"]["error"]:
        lines.append(f"registry: {state['registry']['error']}")
    if state["config"].get("error"):
        lines.append(f"configuration: {state['config']['error']}")
    for name, model in state["models"].items():
        lines += [f"{name} v{v}: {_failure(told)}" for v, told in model["versions"].items() if told["error"]]
        lines += [f"{name}: {warning}" for warning in model["warnings"]]
    return lines
