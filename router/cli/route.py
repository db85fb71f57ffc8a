"""`canary-router route`: explain one key's assignment offline."""

import os
from pathlib import Path

import click
import orjson

from router.adapters.config.file import load_settings
from router.core.split import BUCKETS, bucket_of
from router.settings import ModelSettings, Settings


def find_model(settings: Settings, name: str) -> ModelSettings:
    """Settings of a configured model. Raises a usage error that names those there are."""
    if (found := settings.models.get(name)) is None:
        raise click.UsageError(
            f"no model {name!r} in the configuration; there are: {', '.join(settings.models)}"
        )
    return found


def explain(config_path: Path, model: str, key: str, output: str) -> int:
    """Print alias, bucket and the arithmetic that gave it; returns the exit code."""
    if not key:
        raise click.UsageError("an empty key counts as missing: such a request is not routed by it")
    settings = find_model(load_settings(config_path, os.environ, {}).settings, model)
    bucket = bucket_of(settings.salt, key)
    alias = settings.split.alias_of(bucket)
    low, high = settings.split.range_of(alias)
    told = {"model": model, "alias": alias, "bucket": bucket, "reason": "hash", "salt": settings.salt}
    if output == "json":
        click.echo(orjson.dumps({**told, "range": [low, high]}, option=orjson.OPT_INDENT_2).decode())
        return 0
    click.echo(f"{model}: this key goes to {alias} (reason hash)")
    click.echo(
        f"  bucket   {bucket}: first 8 hex digits of sha256('{settings.salt}:' + key) × {BUCKETS} >> 32"
    )
    click.echo(f"  {alias:<9}owns [{low}, {high}), which is {(high - low) / 1000:g} %")
    click.echo(f"  Where {alias} serves no version, production answers.") if alias != "production" else None
    return 0
