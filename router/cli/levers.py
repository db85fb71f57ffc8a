"""`canary-router abort` and `resume`: cap what a canary gets, on all gateways, and give it back."""

import getpass
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import orjson

from router.cli.gateways import Answer, NoAnswer, Refusal, Reply, find_gateways
from router.cli.journal_text import plain
from router.core.caps import check_reason

EXIT_DONE, EXIT_REFUSED, EXIT_UNREACHABLE = 0, 1, 3


def abort_canary(
    config_path: Path,
    urls: Sequence[str],
    *,
    model: str,
    alias: str | None,
    version: int | None,
    to: float,
    all_versions: bool,
    reason: str,
    by: str | None,
    output: str,
) -> int:
    """Cap what serves beside production; returns the exit code: 0 when every gateway did."""
    body: dict[str, Any] = {"model": model, "to": to, "all_versions": all_versions}
    replies = _post(config_path, urls, "/-/abort", {**body, **_named(alias, version)}, reason, by)
    _print(replies, output, _what_is_capped)
    return _exit_code(replies)


def resume_canary(
    config_path: Path,
    urls: Sequence[str],
    *,
    model: str | None,
    alias: str | None,
    version: int | None,
    everything: bool,
    reason: str,
    by: str | None,
    output: str,
) -> int:
    """Lift the caps of a model, or with `everything` end break-glass; returns the exit code: 0 when every
    gateway did."""
    if everything == (model is not None):
        raise click.UsageError(
            "name a MODEL whose caps are lifted, or --all to end break-glass, and not both"
        )
    body: dict[str, Any] = {"all": True} if everything else {"model": model}
    replies = _post(config_path, urls, "/-/resume", {**body, **_named(alias, version)}, reason, by)
    _print(replies, output, _what_is_lifted)
    silent = [reply.gateway for reply in replies if isinstance(reply, NoAnswer)]
    if silent:
        click.echo(f"what these cap, they go on capping: {', '.join(silent)}", err=True)
    return _exit_code(replies)


def who_says(reason: str | None, by: str | None) -> str:
    """Who gives a command: `by`, else the user who runs it, as the system says.

    Raises a usage error for a `reason`, where one is given, or a name that can not be recorded.
    """
    by = by if by is not None else _user_name()
    for option, text in (("--reason", reason), ("--by", by)):
        try:
            if text is not None:
                check_reason(text)
        except ValueError as error:
            raise click.UsageError(f"{option} {error}") from None
    return by


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without an entry in /etc/passwd
        return f"user id {os.getuid()}"


def _post(
    config_path: Path, urls: Sequence[str], path: str, body: Mapping[str, Any], reason: str, by: str | None
) -> list[Reply]:
    by = who_says(reason, by)
    gateways = find_gateways(config_path, urls)
    return gateways.post(path, {**body, "reason": reason, "by": by})


def _named(alias: str | None, version: int | None) -> dict[str, Any]:
    named = {"alias": alias, "version": version}
    return {name: value for name, value in named.items() if value is not None}


def _print(
    replies: Sequence[Reply], output: str, lines: Callable[[Mapping[str, Any]], Iterator[str]]
) -> None:
    if output == "json":
        shown = [_to_json(reply) for reply in replies]
        click.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
    for reply in replies:
        if isinstance(reply, NoAnswer):
            click.echo(reply.why, err=True)
        elif isinstance(reply, Refusal):
            click.echo(f"{reply.gateway}: refused: {reply.why}", err=True)
        elif output == "table":
            for line in lines(reply.document):
                click.echo(plain(f"{reply.gateway}: {line}"))


def _what_is_capped(document: Mapping[str, Any]) -> Iterator[str]:
    for cap in document["capped"]:
        yield cap_line(cap)
    for one in document["next_versions"]:
        yield f"{_who(one)} is to serve next, and starts without this cap"
    yield from _what_else_holds(document)


def _what_is_lifted(document: Mapping[str, Any]) -> Iterator[str]:
    for one in document["lifted"]:
        yield f"{_who(one)} has its share back, as far as the configuration gives it one"
    if not document["lifted"] and "model" in document:
        yield "there was no such cap"
    for cap in document.get("caps", ()):
        yield f"still {cap_line(cap)}"
    if "model" not in document:
        yield "canaries have their shares back, but for those that are capped"
    yield from _what_else_holds(document)


def _what_else_holds(document: Mapping[str, Any]) -> Iterator[str]:
    if glass := document["break_glass"]:
        yield f"every canary is off: {glass['why']}"
    if not document["durable"]:
        yield f"not durable: {document['not_durable_because']}"


def cap_line(cap: Mapping[str, Any]) -> str:
    """`canary v8 is capped at 0 % by ann: slow`."""
    return f"{_who(cap)} is capped at {cap['to_percent']:g} % by {cap['by']}: {cap['reason']}"


def _who(one: Mapping[str, Any]) -> str:
    return f"{one['alias']} v{one['version']}" if one["version"] is not None else f"every {one['alias']}"


def _to_json(reply: Reply) -> dict[str, Any]:
    match reply:
        case Answer(gateway, document):
            return {"gateway": gateway, "answer": document}
        case Refusal(gateway, status, why):
            return {"gateway": gateway, "status": status, "refused": why}
        case NoAnswer(gateway, why):
            return {"gateway": gateway, "unreachable": why}


def _exit_code(replies: Sequence[Reply]) -> int:
    if any(isinstance(reply, Refusal) for reply in replies):
        return EXIT_REFUSED
    return EXIT_UNREACHABLE if any(isinstance(reply, NoAnswer) for reply in replies) else EXIT_DONE
