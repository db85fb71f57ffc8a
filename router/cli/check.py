"""`canary-router check`: load what the aliases name, as the gateway would, before callers depend on it."""

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import orjson

from router.adapters.config.file import load_settings
from router.app.backends import Backends, open_backends
from router.cli.ready_version import bring_here, load
from router.cli.split import find_model
from router.control.gate_keys import GateKeys
from router.control.gate_watch import judged
from router.core.ids import PRODUCTION, Alias, VersionId
from router.core.redaction import redact_uri
from router.core.requirement_lines import plain_requirements, unpinned
from router.core.scores import OutputSpec, describe, to_json
from router.core.version_address import NOT_KNOWN, AtAddress
from router.core.version_environment import GATEWAYS_OWN
from router.errors import RegistryError, RouterError
from router.protocol.messages import VersionInfo
from router.serving.effects import left_out
from router.settings import ModelSettings, Settings

REQUIREMENTS = "requirements.txt"
_MOST_NAMES = 5
HOW_TO_VERIFY = {
    "v2": "unverified: have GET /v2/models/NAME name the version under `versions`, as MLServer does with"
    ' `"versions": ["7"]` in model-settings.json, or MLSERVER_MODEL_VERSIONS',
    "mlflow": "unverified: MLflow's server does not tell which version it serves",
}
"""By protocol, how an engine can say which version it holds."""
_REPEATED = {"preflight": "pre-flights", "shadow": "shadows"}


def check_model(config_path: Path, model: str, output: str) -> int:
    """Print how each alias's version did; returns 0 when all are well, 1 when one is not."""
    settings = load_settings(config_path, os.environ, {}).settings
    rows = asyncio.run(_check(settings, model, find_model(settings, model)))
    well = all(row["ok"] for row in rows)
    if output == "json":
        click.echo(
            orjson.dumps({"model": model, "ok": well, "aliases": rows}, option=orjson.OPT_INDENT_2).decode()
        )
    else:
        for row in rows:
            mark = "ok  " if row["ok"] else "FAIL"
            at = "" if row["alias"] == "*" else f"@{row['alias']}"
            click.echo(f"{mark} {model}{at}" + (f" v{row['version']}" if row["version"] else ""))
            click.echo(f"     {row['told']}")
            for line in (
                *_where_lines(row),
                *_gate_lines(row),
                *_left_out_lines(row),
                *_environment_lines(row),
                *row.get("mismatches", ()),
                *row.get("advice", ()),
            ):
                click.echo(f"     {line}")
    return 0 if well else 1


async def _check(settings: Settings, model: str, wanted: ModelSettings) -> list[dict[str, Any]]:
    async with open_backends(settings, _Silent()) as backends:
        try:
            aspired = await backends.source.poll(model, wanted.aliases)
        except RegistryError as error:
            return [{"alias": "*", "version": None, "ok": False, "told": f"the registry: {error}"}]
        rows: list[dict[str, Any]] = []
        production_scores: tuple[OutputSpec, ...] | None = None
        # Production first: what it counts of its own accord is counted of the others, too.
        for alias, name in sorted(wanted.aliases.items(), key=lambda role: role[0] != PRODUCTION):
            version = aspired.get(alias)
            if version is None:
                # A canary is optional; without production nothing is served.
                why = f"the registry has no alias {name} for this model"
                rows.append({"alias": alias, "version": None, "ok": alias != PRODUCTION, "told": why})
                continue
            own = version == aspired.get(PRODUCTION)
            scores = None if own else production_scores
            row, info = await _check_version(backends, settings, wanted, alias, version, scores)
            rows.append(row | await _gate(backends, wanted, alias, version))
            if alias == PRODUCTION and info is not None:
                production_scores = info.suggested_scores
        return rows


async def _check_version(
    backends: Backends,
    settings: Settings,
    wanted: ModelSettings,
    alias: Alias,
    version: VersionId,
    production_scores: tuple[OutputSpec, ...] | None,
) -> tuple[dict[str, Any], VersionInfo | None]:
    """How it did, and what it reported of itself; None where it did not load."""
    row: dict[str, Any] = {"alias": alias, "version": version.number}
    try:
        here = await bring_here(backends, settings, wanted, version)
        if (own := here.environment) is not None:
            row |= {"environment": own.about.to_json(own.note), "advice": _advice(here.directory)}
        worker = await load(backends, settings, wanted, here, production_scores)
    except RouterError as error:
        return {**row, "ok": False, "told": str(error)}, None
    info, at = worker.info, worker.at_address
    await worker.close()
    if at is not None:
        row |= {"where": _where(at, wanted)}
    phases = ", ".join(f"{phase} {seconds:.2f} s" for phase, seconds in info.phase_seconds.items())
    signature = "signature" if info.has_signature else "no signature"
    example = "input example" if info.has_example else "no input example, so no warm-up"
    batching = info.batching
    facts = [f"flavor {info.flavor}", phases, signature, example]
    if info.scores:
        facts.append(f"counts {' and '.join(map(describe, info.scores))}")
    if wanted.where is None:
        facts.append(f"{'shares' if batching.merges else 'does not share'} predicts: {batching.why}")
    if info.note:
        facts.append(info.note)
    row = {
        **row,
        "ok": True,
        "told": "; ".join(facts),
        "mismatches": list(info.mismatches),
        "scores": [to_json(spec) for spec in info.scores],
        "batching": {"on": batching.merges, "why": batching.why},
    }
    for name, asks in (("preflight", wanted.preflight), ("shadow", wanted.shadow)):
        if asks is not None:
            why = left_out(asks.effects, info)
            row[name] = {"left_out": bool(why), "why": why}
    return row, info


def _where(at: AtAddress, wanted: ModelSettings) -> dict[str, Any]:
    return {
        "address": redact_uri(at.url),
        "protocol": at.engine,
        "verified": at.verified,
        "without_effect": list(wanted.without_effect),
    }


def _where_lines(row: Mapping[str, Any]) -> list[str]:
    """Of a version that runs elsewhere, where, and what does not apply to it; else nothing."""
    if (where := row.get("where")) is None:
        return []
    lines = [f"runs elsewhere: {where['address']}, asked by {where['protocol']}"]
    if not where["verified"]:
        lines.append(HOW_TO_VERIFY[where["protocol"]])
    if where["without_effect"]:
        lines.append(f"without effect there: {', '.join(where['without_effect'])}")
    return [*lines, f"not known of it: {', '.join(NOT_KNOWN)}"]


async def _gate(
    backends: Backends, wanted: ModelSettings, alias: Alias, version: VersionId
) -> dict[str, Any]:
    """Whether it has passed the gate, where that is asked for. It loads all the same, so `ok` stays as it is:
    who checks before a start must not be kept from starting."""
    if not wanted.gate.asks_for(alias):
        return {}
    ages = alias != PRODUCTION and wanted.gate.canary == "required"
    try:
        found = await judged(
            backends.gate_source, GateKeys(), version, wanted.gate, ages=ages, now=time.time()
        )
    except RegistryError as error:
        return {"gate": {"passes": False, "why": f"the registry: {error}"}}
    return {"gate": {"passes": found.passes, "why": found.why_not or found.by_what()}}


def _gate_lines(row: Mapping[str, Any]) -> list[str]:
    """What the gate says; nothing where it is not asked."""
    if (gate := row.get("gate")) is None:
        return []
    return [f"the gate: {'' if gate['passes'] else 'not passed: '}{gate['why']}"]


def _left_out_lines(row: Mapping[str, Any]) -> list[str]:
    """Why the gateway would repeat no request by it; nothing where it would, or repeats none."""
    found = [(what, row[name]) for name, what in _REPEATED.items() if name in row]
    return [f"left out of {what}: {one['why']}" for what, one in found if one["left_out"]]


def _environment_lines(row: Mapping[str, Any]) -> list[str]:
    """What its own environment is; nothing where it has none."""
    if (own := row.get("environment")) is None:
        return []
    size = f"{own['size_bytes'] / (1 << 20):.0f} MiB, built in {own['build_seconds']:.1f} s"
    lines = [f"own environment {own['digest'][:12]}: Python {own['python']}, pins {own['pins'][:12]}, {size}"]
    return [*lines, *own["differs"], *([own["note"]] if own["note"] else [])]


def _advice(files: Path) -> list[str]:
    """How the version in `files` should be logged, so that it gets the same packages everywhere."""
    text = (files / REQUIREMENTS).read_bytes()
    lines = plain_requirements(text, REQUIREMENTS, lambda name: (files / name).read_bytes()).lines
    loose = [name for name in unpinned(lines) if name not in GATEWAYS_OWN]
    if not loose:
        return []
    names = ", ".join(loose[:_MOST_NAMES]) + (", …" if len(loose) > _MOST_NAMES else "")
    advice = "log it with MLFLOW_LOCK_MODEL_DEPENDENCIES=true, and it gets the same ones everywhere"
    return [f"which release it gets of {names} was for the index to say: {advice}"]


class _Silent:
    def record(self, event: object) -> None:
        """Drop it: the rows hold everything."""
