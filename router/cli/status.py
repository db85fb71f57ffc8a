"""`canary-router status`: what a running gateway serves; works without importing mlflow."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from router.cli.client import Unreachable, ask, gateway_address
from router.cli.compare import together, verdict_line
from router.cli.levers import cap_line
from router.core.ids import PRODUCTION

_MOST_DIFFERENCES = 3
_FIGURES = {
    "flips": "share of decisions that flipped",
    "agreement": "share of equal labels",
    "mean_difference": "mean difference of scores",
    "latency_ratio": "predict time by production's",
}


def show_status(config_path: Path, url: str | None, *, watch: bool, output: str) -> int:
    """Print the state; returns 0 when healthy, 1 when not, 3 when nobody answers."""
    base = gateway_address(config_path, url)
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
        state = ask(base, "/v1/state", "config")
    except Unreachable as error:
        click.echo(str(error), err=True)
        return 3
    if clear:
        console.clear()
    if output == "json":
        click.echo(orjson.dumps(state, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(state, console)
    return 0 if _healthy(state) else 1


def _healthy(state: Mapping[str, Any]) -> bool:
    models = state["models"].values()
    wrong = any(version["error"] for model in models for version in model["versions"].values())
    stale = any(alias["stale"] for model in models for alias in model["aliases"].values())
    refused = state["config"].get("error") or state["registry"]["error"]
    refusing = state.get("last_minute", {}).get("refusing")  # an older gateway does not say it
    return bool(
        state["ready"]
        and not refused
        and not _unserved(state)
        and not wrong
        and not stale
        and not refusing
        and not _open_breakers(state)
        and not _not_passed(state)
    )


def _print(state: Mapping[str, Any], console: Console) -> None:
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
                escape(name),
                escape(role),
                _v(alias["aspired"]),
                _v(alias["bound"]),
                f"{model['split'].get(role, 0):g} %",
                condition,
                str(version.get("in_flight", "–")),
            )
    console.print(table)
    for line in [
        *_verdicts(state),
        *_gateways(state),
        *_rollbacks(state),
        *_gates(state),
        *_preflights(state),
        *_cpu_threads(state),
        *_environments(state),
        *_elsewhere(state),
        *_troubles(state),
    ]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _verdicts(state: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} {alias} {verdict_line(one['verdict'], one['why'])}"
        for name, model in state["models"].items()
        for alias, one in model.get("verdicts", {}).items()
    ]


def _gateways(state: Mapping[str, Any]) -> list[str]:
    """Whose answers make these verdicts, where it is not this gateway alone."""
    gateways = state.get("fleet", {}).get("gateways")  # an older gateway has none
    phrase = together(gateways) if gateways else ""
    return [f"judged {phrase}"] if phrase else []


def _rollbacks(state: Mapping[str, Any]) -> list[str]:
    """Of models that know what they would go back to."""
    return [
        f"{name}: {_rollback(rollback)}"
        for name, model in state["models"].items()
        if (rollback := model.get("rollback"))
        and rollback["version"] is not None  # an older gateway has none
    ]


def _rollback(rollback: Mapping[str, Any]) -> str:
    until = rollback["until"]
    kept = f", until {time.strftime('%H:%M:%S', time.localtime(until))}" if until is not None else ""
    how = ("is not ready", "would take a load", "would serve at once")[rollback["ready"]]
    why = f": {rollback['reason']}" if rollback["reason"] else ""
    return f"a rollback to v{rollback['version']} {how}{why}{kept}"


def _gates(state: Mapping[str, Any]) -> list[str]:
    """Of what has passed; what has not is among the warnings."""
    return [
        f"{name} {role} {_v(alias['bound'])} and the gate: {gate['why']}"
        for name, model in state["models"].items()
        for role, alias in model["aliases"].items()
        if (gate := alias.get("gate")) and gate["state"] in ("passed", "not_judged")  # an older one has none
    ]


def _preflights(state: Mapping[str, Any]) -> list[str]:
    """Of versions that answered the last requests before they were bound; what failed is a warning, too."""
    return [
        f"{name} v{number} and the last requests: {preflight_line(preflight)}"
        for name, model in state["models"].items()
        for number, version in model["versions"].items()
        if (preflight := version.get("preflight"))  # an older gateway has none
    ]


def preflight_line(preflight: Mapping[str, Any]) -> str:
    """What they showed, in a sentence."""
    verdict = str(preflight["verdict"]).replace("_", " ").upper()
    if "why" not in preflight:
        return verdict
    figures = [
        f"{text} {figure:.3g}" for key, text in _FIGURES.items() if (figure := preflight.get(key)) is not None
    ]
    return "; ".join((f"{verdict}, {preflight['why']}", *figures))


def _not_passed(state: Mapping[str, Any]) -> bool:
    """Whether the gate holds a canary, or production has not passed it."""
    return any(
        gate["state"] == "held" or (gate["state"] == "not_passed" and role == PRODUCTION)
        for model in state["models"].values()
        for role, alias in model["aliases"].items()
        if (gate := alias.get("gate"))
    )


def _cpu_threads(state: Mapping[str, Any]) -> list[str]:
    """Of versions whose predicts compute on more than one processor."""
    return [
        f"{name} v{number}: {threads['threads']} threads for linear algebra: {threads['why']}"
        for name, model in state["models"].items()
        for number, version in model["versions"].items()
        if (threads := version.get("cpu_threads")) and threads["threads"] > 1
    ]


def _environments(state: Mapping[str, Any]) -> list[str]:
    """Python environments of versions that have their own, and which are being built."""
    return [
        f"{name} v{number}: {_environment(version)}"
        for name, model in state["models"].items()
        for number, version in model["versions"].items()
        if version.get("environment") or _is_built(version)  # an older gateway has neither
    ]


def _elsewhere(state: Mapping[str, Any]) -> list[str]:
    """Versions that serve behind addresses, and which of them their engines do not confirm."""
    return [
        f"{name} v{number}: at {where['address']}"
        f"{'' if where['verified'] else ', unverified'}{_scores(where)}"
        for name, model in state["models"].items()
        for number, version in model["versions"].items()
        if (where := version.get("where"))  # an older gateway has none
    ]


def _scores(where: Mapping[str, Any]) -> str:
    """Of how many of its answers the scores are known, once it answered, and why none are read now; an older
    gateway does not say."""
    scores = where.get("scores") or {}
    share, error = scores.get("share"), scores.get("error")
    of_how_many = "" if share is None else f"; scores read of {share:.1%} of its answers".replace("%", " %")
    return of_how_many + (f"; scores are not read now: {error}" if error else "")


def _environment(version: Mapping[str, Any]) -> str:
    if _is_built(version):
        return "its environment is looked for, or built"
    own = version["environment"]
    details = "; ".join([*own["differs"][:_MOST_DIFFERENCES], *([own["note"]] if own["note"] else [])])
    named = f"own environment, Python {own['python']}, pins {own['pins'][:12]}"
    return f"{named}: {details}" if details else named


def _is_built(version: Mapping[str, Any]) -> bool:
    return bool(version["state"] == "loading" and version.get("phase") == "environment")


def _failure(version: Mapping[str, Any]) -> str:
    if version["state"] != "error":
        return str(version["error"])
    seconds = version["retry_seconds"]
    again = "not tried again by itself" if seconds is None else f"next try within {seconds:g} s"
    return f"{version['error']} ({again})"


def _v(number: int | None) -> str:
    return f"v{number}" if number is not None else "–"


def _troubles(state: Mapping[str, Any]) -> list[str]:
    lines = []
    if state["registry"]["error"]:
        lines.append(f"registry: {state['registry']['error']}")
    if state["config"].get("error"):
        lines.append(f"configuration: {state['config']['error']}")
    lines += state.get("warnings", [])
    lines += _unserved(state)
    for name, model in state["models"].items():
        failed = {number: version for number, version in model["versions"].items() if version["error"]}
        lines += [f"{name} v{number}: {_failure(version)}" for number, version in failed.items()]
        lines += [f"{name}: {warning}" for warning in model["warnings"]]
    return [*_caps(state), *_not_durable(state), *lines, *_open_breakers(state)]


def _unserved(state: Mapping[str, Any]) -> list[str]:
    """Of models whose production has no worker alive."""
    return [
        f"{name}: production has no worker that answers: its callers wait for one, or get 503"
        for name, model in state["models"].items()
        if not model.get("ready", True)  # an older gateway does not say it
    ]


def _caps(state: Mapping[str, Any]) -> list[str]:
    """Who took which share away, since when; also of versions that serve no more, which would find it."""
    glass = state.get("break_glass")
    return [
        *([f"every canary is off since {_time(glass['since'])}: {glass['why']}"] if glass else []),
        *(
            f"{name} {cap_line(cap)} (since {_time(cap['timestamp'])})"
            for name, model in state["models"].items()
            for cap in model.get("caps", ())
        ),
    ]


def _not_durable(state: Mapping[str, Any]) -> list[str]:
    kept = state.get("state_dir", {"durable": True})  # an older gateway has none
    return [] if kept["durable"] else [f"caps and journal are not durable: {kept['reason']}"]


def _time(timestamp: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(timestamp))


def _open_breakers(state: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} v{number}: its breaker is open, production has its share: {breaker['why']}"
        for name, model in state["models"].items()
        for number, version in model["versions"].items()
        if (breaker := version.get("breaker")) and breaker["state"] == "open"
    ]
