"""`canary-router split` and `route`: change the canary's share in the file; explain one key by the file."""

import os
import sys
import time
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import click
import orjson

from router.adapters.config.edit import SplitEdit, edit_split
from router.adapters.config.file import load_settings
from router.cli.client import Refused, Unreachable, ask, gateway_address
from router.cli.plan import ask_plan, percent_argument, print_plan
from router.core.keys import KeyKind, key_text, text_key
from router.core.routing import Reason
from router.core.split import BUCKETS, hashed
from router.errors import ConfigRefused
from router.settings import ModelSettings, Settings

CONSULT_SECONDS = 2.0
"""What is asked before an edit is advice, and must not be in the way at 3 a.m."""
IN_FORCE_SECONDS = 5.0
"""Within which a gateway has a changed share in force, or has refused it; a busy one has twice as long."""
_LOOK_SECONDS = 0.25
_NOT_ASKED = 3
"""Exit code, where nobody answers."""


def find_model(settings: Settings, name: str) -> ModelSettings:
    """Settings of a configured model. Raises a usage error that lists the configured ones."""
    if (found := settings.models.get(name)) is None:
        raise click.UsageError(
            f"no model {name!r} in the configuration; there are: {', '.join(settings.models)}"
        )
    return found


def set_share(
    config_path: Path, url: str | None, model: str, percent: str, *, strict: bool, only_print: bool
) -> int:
    """Edit the file and print the difference, after what a gateway says of it; returns the exit code.

    It is 1 where the gateway that was asked does not have the changed file in force after a while.
    `only_print`: print the changed file instead, and leave it as it is. `strict`: with 1 or 3, and without a
    change, where something speaks against it or no gateway can be asked; a smaller share needs no leave. What
    the gateway says goes to standard error.
    """
    share = percent_argument(percent)
    edit = edit_split(config_path, model, share)
    base = _address(config_path, url)
    code = _consult(base, model, share) if base else _NOT_ASKED
    if strict and code and not edit.lowers:
        click.echo("nothing was changed", err=True)
        return code
    if only_print:
        sys.stdout.buffer.write(edit.new)
        sys.stdout.flush()
        return 0
    edit.write()
    unchanged = f"{model}: the canary has {percent} % already; nothing changed"
    click.echo(edit.diff or unchanged, nl=not edit.diff)
    return _wait_until_in_force(base, edit, model)


def _wait_until_in_force(base: str | None, edit: SplitEdit, model: str) -> int:
    """Print whether the gateway has the written file in force; the exit code, 1 where it has not."""
    try:
        why = _why_not_in_force(base, edit.new)
    except Unreachable:
        click.echo("Whether it is in force is not known.", err=True)
        return 0
    if why is None:
        click.echo(f"In force at {base}.", err=True)
        return 0
    click.echo(f"The file is written, and not in force at {base}: {why}", err=True)
    if edit.lowers or not edit.diff:
        click.echo(
            f"`canary-router abort {model} --reason TEXT` takes the canary's share away without the file.",
            err=True,
        )
    return 1


def _address(config_path: Path, url: str | None) -> str | None:
    try:
        return gateway_address(config_path, url)
    except ConfigRefused as error:
        click.echo(f"what this would do could not be asked: {error}", err=True)
        return None


def _consult(base: str, model: str, share: Decimal) -> int:
    """Print what a gateway says; 1 when something speaks against it, `_NOT_ASKED` when none can be asked."""
    try:
        plan = ask_plan(base, model, share, CONSULT_SECONDS)
    except (Refused, Unreachable) as error:
        click.echo(f"what this would do could not be asked: {error}", err=True)
        return _NOT_ASKED
    print_plan(plan, err=True)
    return 1 if plan["against"] else 0


def _why_not_in_force(base: str | None, content: bytes) -> str | None:
    """None as soon as the gateway has a file with this content in force; else, after a while, why not.

    What it says before it has looked at the file again is of the file as it was. Raises Unreachable, also
    where no address is known.
    """
    if base is None:
        raise Unreachable("no address of a gateway is known")
    wanted, began_at = sha256(content).hexdigest(), time.monotonic()
    while True:
        config = ask(base, "/v1/state", "config")["config"]
        if config.get("digest") == wanted:
            return None
        why = config.get("error")
        if time.monotonic() - began_at >= (IN_FORCE_SECONDS if why else 2 * IN_FORCE_SECONDS):
            return str(why or "it has another file in force; does it read this one?")
        time.sleep(_LOOK_SECONDS)


def explain_key(config_path: Path, model: str, key: str, output: str) -> int:
    """Print alias, bucket and the arithmetic that gave it; returns the exit code."""
    if not key:
        raise click.UsageError("an empty key counts as missing: such a request is not routed by it")
    settings = find_model(load_settings(config_path, os.environ, {}).settings, model)
    if (key_text(key) if settings.key.kind is KeyKind.JSON else text_key([key])) is None:
        raise click.UsageError("this key is not UTF-8 and counts as missing: it is not routed by it")
    bucket, digest = hashed(settings.salt, key)
    owner = settings.split.alias_of(bucket)
    pinned = settings.pins.compiled(settings.salt).aliases.get(digest)
    alias, reason = (owner, Reason.HASH) if pinned is None else (pinned, Reason.PINNED)
    low, high = settings.split.range_of(owner)
    document = {"model": model, "alias": alias, "bucket": bucket, "reason": reason, "salt": settings.salt}
    if output == "json":
        click.echo(orjson.dumps({**document, "range": [low, high]}, option=orjson.OPT_INDENT_2).decode())
        return 0
    click.echo(f"{model}: this key goes to {alias} (reason {reason})")
    click.echo(
        f"  bucket   {bucket}: first 8 hex digits of sha256('{settings.salt}:' + key) × {BUCKETS} >> 32"
    )
    click.echo(f"  {owner:<9}owns [{low}, {high}), which is {(high - low) / 1000:g} %")
    if pinned is not None:
        click.echo(f"  It is pinned to {pinned}, whatever its bucket.")
    if alias != "production":
        click.echo(f"  Where {alias} serves no version, production answers.")
    return 0
