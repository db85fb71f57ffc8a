"""`canary-router check`: load what the aliases name, as the gateway would, before callers depend on it."""

import asyncio
import os
from pathlib import Path
from typing import Any

import click
import orjson
from msgspec.structs import replace

from router.adapters.config.file import load_settings
from router.app.backends import Backends, open_backends
from router.cli.split import find_model
from router.core.ids import PRODUCTION, Alias, VersionId
from router.core.scores import OutputSpec, describe, to_json
from router.errors import RegistryError, RouterError
from router.protocol.messages import VersionInfo
from router.serving.harness import load_spec
from router.settings import ModelSettings, Settings


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
            for mismatch in row.get("mismatches", ()):
                click.echo(f"     {mismatch}")
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
            rows.append(row)
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
    limit = settings.registry.download_timeout_seconds
    row: dict[str, Any] = {"alias": alias, "version": version.number}
    try:
        directory = await backends.fetcher.fetch(version, deadline_seconds=limit)
        spec = load_spec(version, directory, wanted, production_scores)
        spec = replace(spec, warm_up_required=wanted.warm_up)
        worker = await backends.loader.load(spec, deadline_seconds=limit)
    except RouterError as error:
        return {**row, "ok": False, "told": str(error)}, None
    info = worker.info
    await worker.close()
    phases = ", ".join(f"{phase} {seconds:.2f} s" for phase, seconds in info.phase_seconds.items())
    signature = "signature" if info.has_signature else "no signature"
    example = "input example" if info.has_example else "no input example, so no warm-up"
    batching = info.batching
    facts = [f"flavor {info.flavor}", phases, signature, example]
    if info.scores:
        facts.append(f"counts {' and '.join(map(describe, info.scores))}")
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
    return row, info


class _Silent:
    def record(self, event: object) -> None:
        """Drop it: the rows hold everything."""
