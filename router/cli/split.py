"""`canary-router split` and `route`: change the canary's share in the file; explain one key by the file."""

import os
from decimal import Decimal, InvalidOperation
from pathlib import Path

import click
import orjson

from router.adapters.config.edit import edit_split
from router.adapters.config.file import load_settings
from router.core.keys import KeyKind, key_text, text_key
from router.core.split import BUCKETS, bucket_of
from router.settings import ModelSettings, Settings


def find_model(settings: Settings, name: str) -> ModelSettings:
    """Settings of a configured model. Raises a usage error that lists the configured ones."""
    if (found := settings.models.get(name)) is None:
        raise click.UsageError(
            f"no model {name!r} in the configuration; there are: {', '.join(settings.models)}"
        )
    return found


def set_share(config_path: Path, model: str, percent: str) -> int:
    """Edit the file and print the difference; returns the exit code."""
    try:
        share = Decimal(percent)
    except InvalidOperation:
        raise click.UsageError(f"PERCENT is a number such as 5 or 0.125, not {percent!r}") from None
    diff = edit_split(config_path, model, share)
    click.echo(diff or f"{model}: the canary has {percent} % already; nothing changed", nl=not diff)
    return 0


def explain_key(config_path: Path, model: str, key: str, output: str) -> int:
    """Print alias, bucket and the arithmetic that gave it; returns the exit code."""
    if not key:
        raise click.UsageError("an empty key counts as missing: such a request is not routed by it")
    settings = find_model(load_settings(config_path, os.environ, {}).settings, model)
    if (key_text(key) if settings.key.kind is KeyKind.JSON else text_key([key])) is None:
        raise click.UsageError("this key is not UTF-8 and counts as missing: it is not routed by it")
    bucket = bucket_of(settings.salt, key)
    alias = settings.split.alias_of(bucket)
    low, high = settings.split.range_of(alias)
    document = {"model": model, "alias": alias, "bucket": bucket, "reason": "hash", "salt": settings.salt}
    if output == "json":
        click.echo(orjson.dumps({**document, "range": [low, high]}, option=orjson.OPT_INDENT_2).decode())
        return 0
    click.echo(f"{model}: this key goes to {alias} (reason hash)")
    click.echo(
        f"  bucket   {bucket}: first 8 hex digits of sha256('{settings.salt}:' + key) × {BUCKETS} >> 32"
    )
    click.echo(f"  {alias:<9}owns [{low}, {high}), which is {(high - low) / 1000:g} %")
    if alias != "production":
        click.echo(f"  Where {alias} serves no version, production answers.")
    return 0
