"""`canary-router environments`: the Python environments kept for versions; works beside a gateway."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from router.adapters.config.file import load_settings
from router.app.backends import Backends, open_backends
from router.app.directories import own_directories
from router.core.ids import VersionId
from router.core.utc import utc
from router.core.version_environment import FOLDER
from router.environments import store
from router.environments.eviction import PACKAGES_NAME, evict, needed_places
from router.errors import CacheRefused, RegistryError, RouterError
from router.settings import Settings

_MIB = 1 << 20
_MOST_VERSIONS = 4


def show_environments(config_path: Path, output: str) -> int:
    """List what is kept; returns 0."""
    document = _document(_cache_of(load_settings(config_path, os.environ, {}).settings))
    if output == "json":
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(document)
    return 0


def prune_environments(config_path: Path, output: str) -> int:
    """Remove what no gateway uses and no last good version needs, what was downloaded, and what builds that
    were killed left; returns 0."""
    cache_dir = _cache_of(load_settings(config_path, os.environ, {}).settings)
    store.remove_leftovers(cache_dir / FOLDER)
    swept = evict(cache_dir, 0)
    document = {
        "removed": list(swept.removed),
        "removed_bytes": swept.removed_bytes,
        "left_bytes": swept.left_bytes,
    }
    if output == "json":
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    else:
        named = [f"the {PACKAGES_NAME} cache" if name == PACKAGES_NAME else name for name in swept.removed]
        click.echo(
            f"removed {', '.join(named) or 'nothing'}: {swept.removed_bytes / _MIB:,.0f} MiB;"
            f" {swept.left_bytes / _MIB:,.0f} MiB are left"
        )
    return 0


def build_environments(config_path: Path, output: str) -> int:
    """Prepare what is served, recorded as last good, or named as previous, of models that say
    `environment: own`; returns 0 when all of it is there, 1 when something is not."""
    settings = load_settings(config_path, os.environ, {}).settings
    rows = asyncio.run(_build(settings))
    well = all(row["ok"] for row in rows)
    if output == "json":
        click.echo(orjson.dumps({"ok": well, "versions": rows}, option=orjson.OPT_INDENT_2).decode())
    elif not rows:
        click.echo("no model says `environment: own`, or none of its aliases names a version")
    else:
        for row in rows:
            click.echo(f"{'ok  ' if row['ok'] else 'FAIL'} {row['message']}")
    return 0 if well else 1


def _cache_of(settings: Settings) -> Path:
    return own_directories(settings.registry.places(os.environ)).cache_dir.absolute()


def _document(cache_dir: Path) -> dict[str, Any]:
    root = cache_dir / FOLDER
    needed = needed_places(cache_dir)
    rows = [
        row for place in store.places_in(root) if (row := _row(place, needed=place in needed)) is not None
    ]
    packages_bytes = store.size_of(root / store.UV / store.PACKAGES)
    return {
        "directory": str(root),
        "size_bytes": packages_bytes + sum(row["size_bytes"] for row in rows),
        "packages_bytes": packages_bytes,
        "environments": sorted(rows, key=lambda row: str(row["last_used"]), reverse=True),
    }


def _row(place: Path, *, needed: bool) -> dict[str, Any] | None:
    """None where it is torn, or has just been removed: nothing can use it."""
    kept = store.read(place)
    if kept is None:
        return None
    used_at = 0.0
    with suppress(OSError):
        used_at = place.stat().st_mtime
    return {
        "digest": kept.about.key,
        "python": kept.about.python,
        "pins": kept.about.pins,
        "size_bytes": kept.about.size_bytes,
        "build_seconds": kept.about.build_seconds,
        "gateway": kept.gateway,
        "versions": store.versions_of(place),
        "last_used": utc(used_at, "seconds"),
        "in_use": store.is_in_use(place),
        "last_good": needed,
    }


def _print(document: Mapping[str, Any]) -> None:
    rows = document["environments"]
    if not rows:
        click.echo(f"no environment is kept in {document['directory']}")
        return
    table = Table(title=f"{len(rows)} environments, {document['size_bytes'] / _MIB:,.0f} MiB in all")
    for heading in ("environment", "Python", "MiB", "versions", "last used (UTC)", "needed by"):
        table.add_column(heading, justify="right" if heading == "MiB" else "left")
    for row in rows:
        needed = "a gateway" if row["in_use"] else "last good" if row["last_good"] else "–"
        table.add_row(
            row["digest"][:12],
            escape(row["python"]),
            f"{row['size_bytes'] / _MIB:,.0f}",
            escape(_some(row["versions"])),
            row["last_used"].replace("T", " ").removesuffix("Z"),
            needed,
        )
    Console().print(table)


def _some(versions: Sequence[str]) -> str:
    more = len(versions) - _MOST_VERSIONS
    return ", ".join(versions[:_MOST_VERSIONS]) + (f" and {more} more" if more > 0 else "")


@dataclass(slots=True)
class _Wanted:
    """Versions of one model, and what could not be learnt of them."""

    versions: set[VersionId]
    problem: str = ""


async def _build(settings: Settings) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    own = [model for model, wanted in settings.models.items() if wanted.environment == "own"]
    if not own:
        return rows
    async with open_backends(settings, _Silent()) as backends:
        for model in own:
            wanted = await _wanted(backends, settings, model)
            if wanted.problem:
                rows.append({"model": model, "version": None, "ok": False, "message": wanted.problem})
            rows += [await _prepare(backends, settings, version) for version in sorted(wanted.versions)]
    return rows


async def _wanted(backends: Backends, settings: Settings, model: str) -> _Wanted:
    aliases = settings.models[model].polled_aliases
    wanted = _Wanted(set())
    with suppress(CacheRefused):  # what the registry names is built all the same
        wanted.versions |= set((await backends.source.last_known_good(model, aliases)).values())
    try:
        wanted.versions |= set((await backends.source.poll(model, aliases)).values())
    except RegistryError as error:
        wanted.problem = f"{model}: the registry: {error}"
    return wanted


async def _prepare(backends: Backends, settings: Settings, version: VersionId) -> dict[str, Any]:
    row: dict[str, Any] = {"model": version.model, "version": version.number}
    limit = settings.registry.download_timeout_seconds
    try:
        directory = await backends.fetcher.fetch(version, deadline_seconds=limit)
        prepared = await backends.environments.prepare(version, directory)
    except RouterError as error:
        return {**row, "ok": False, "message": str(error)}
    about = prepared.about
    message = (
        f"{version}: environment {about.short}, Python {about.python}, {about.size_bytes / _MIB:,.0f} MiB"
    )
    if prepared.note:
        message = f"{message}; {prepared.note}"
    return {**row, "ok": True, "message": message, "environment": about.to_json(prepared.note)}


class _Silent:
    def record(self, event: object) -> None:
        """Drop it: the rows hold everything."""
