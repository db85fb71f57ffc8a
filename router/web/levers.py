"""Verbs that lower the shares of canaries and give them back, and what there is of caps."""

import asyncio
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from router.control.alerts import AlertmanagerMessage
from router.control.caps import cap_to_json
from router.core.caps import check_reason
from router.core.ids import PRODUCTION
from router.core.lever_events import MoveExplained
from router.core.split import whole_buckets
from router.errors import CapRefused, CapUnknown, NothingServed
from router.web.context import GATEWAY, WebState
from router.web.incoming import read_whole
from router.web.responses import document

LONGEST_LOOK_SECONDS = 10.0
"""For which `POST /-/poll` waits for the registry."""
_LARGEST_VERB = 16_384
_LARGEST_WEBHOOK = 1 << 20
"""Bytes: Alertmanager puts all alerts of a group into one."""
_ALERTS_AT_ONCE = 10
"""Of a webhook, in one turn of the event loop."""
_LONGEST_SENTENCE = 300
"""Characters: some quote what was sent."""
_STATUS: dict[type[CapRefused], int] = {CapUnknown: 404, NothingServed: 409}

Body = TypeVar("Body")


class _Abort(Struct, forbid_unknown_fields=True):
    model: str
    reason: str
    by: str
    alias: str | None = None
    version: int | None = None
    to: float = 0.0
    all_versions: bool = False


class _Resume(Struct, forbid_unknown_fields=True):
    reason: str
    by: str
    model: str | None = None
    alias: str | None = None
    version: int | None = None
    all: bool = False


class _Poll(Struct, forbid_unknown_fields=True):
    model: str | None = None
    """Whose aliases were moved; with it go who did so, and why."""
    by: str | None = None
    reason: str | None = None


async def caps(request: web.Request) -> web.Response:
    """`GET /v1/caps`: who this is, and all caps that it knows, lifted ones too, as its peers read them."""
    gateway = request.app[GATEWAY]
    return document({**_who(gateway), **gateway.caps.records()})


async def caps_to_show(request: web.Request) -> web.Response:
    """The same on the traffic listener, with texts as `/v1/state` has them."""
    gateway = request.app[GATEWAY]
    return document({**_who(gateway), **gateway.caps.records_to_show()})


async def abort(request: web.Request) -> web.Response:
    """`POST /-/abort`: caps an alias, in force before this answers. 200 also where it was as low before."""
    gateway = request.app[GATEWAY]
    asked = await _body(request, _Abort)
    if isinstance(asked, web.Response):
        return asked
    problems = [*_of_texts(asked.reason, asked.by), *_of_share(asked.to), *_of_alias(asked.alias)]
    if asked.all_versions and asked.version is not None:
        problems.append("version: goes without all_versions, which is every version")
    if problems:
        return _refused(422, problems)
    try:
        targets = gateway.caps.targets(
            asked.model, asked.alias, asked.version, all_versions=asked.all_versions
        )
    except CapRefused as refused:
        return _refused(_STATUS.get(type(refused), 422), [str(refused)])
    held = gateway.caps.cap(targets, whole_buckets("to", asked.to), by=asked.by, reason=asked.reason)
    to_come = gateway.caps.next_versions(targets)
    done = {
        "capped": [cap_to_json(*cap) for cap in held.items()],
        "next_versions": [{"alias": target.alias, "version": target.version} for target in to_come],
    }
    return await _done(gateway, asked.model, done)


async def resume(request: web.Request) -> web.Response:
    """`POST /-/resume`: lifts the caps of a model; with `all`, ends break-glass, and lifts no cap."""
    gateway = request.app[GATEWAY]
    asked = await _body(request, _Resume)
    if isinstance(asked, web.Response):
        return asked
    problems = [*_of_texts(asked.reason, asked.by), *_of_alias(asked.alias)]
    if asked.all and any(one is not None for one in (asked.model, asked.alias, asked.version)):
        problems.append("all: goes alone: it ends break-glass, of all models")
    if asked.model is None and not asked.all:
        problems.append("model: is missing")
    if problems:
        return _refused(422, problems)
    if asked.model is None:
        held_by = await gateway.break_glass.resume(f"{asked.by}: {asked.reason}")
        return _refused(409, [f"all: {held_by}"]) if held_by else await _done(gateway, None, {"lifted": []})
    try:
        targets = gateway.caps.caps_of(asked.model, asked.alias, asked.version)
    except CapRefused as refused:
        return _refused(_STATUS.get(type(refused), 422), [str(refused)])
    free = gateway.caps.lift(targets, by=asked.by, reason=asked.reason)
    lifted = [{"alias": target.alias, "version": target.version} for target in free]
    return await _done(gateway, asked.model, {"lifted": lifted})


async def poll(request: web.Request) -> web.Response:
    """`POST /-/poll`: has the registry looked at now, and answers when that is over, or has taken 10 s.

    Who moved an alias may say so, and why: it stands before the move in journal and log.
    """
    gateway = request.app[GATEWAY]
    asked = await _body(request, _Poll)
    if isinstance(asked, web.Response):
        return asked
    if (refused := _note_move(gateway, asked)) is not None:
        return refused
    try:
        async with asyncio.timeout(LONGEST_LOOK_SECONDS):
            await gateway.look_at_registry()
    except TimeoutError:
        looked = False
    else:
        looked = True
    state = gateway.state()
    models = {
        name: {"registry_error": model["registry_error"], "aliases": model["aliases"]}
        for name, model in state.get("models", {}).items()
    }
    return document({"looked": looked, "models": models})


def _note_move(gateway: WebState, asked: _Poll) -> web.Response | None:
    """Record who moved aliases, and why, where that is said; the answer where it is not said rightly."""
    model, by, reason = asked.model, asked.by, asked.reason
    if model is None and by is None and reason is None:
        return None
    if model is None or by is None or reason is None:
        return _refused(422, ["model, by and reason go together"])
    if problems := list(_of_texts(reason, by)):
        return _refused(422, problems)
    if model not in gateway.models.managers:
        return _refused(404, ["model: no such registered model here"])
    gateway.recorder.record(MoveExplained(model, by, reason))
    return None


async def alertmanager(request: web.Request) -> web.Response:
    """`POST /-/alertmanager`: a webhook of Alertmanager, version 4; 200 with what was done for each alert.

    Also when that is nothing: of a 4xx Alertmanager makes an alert of its own.
    """
    gateway = request.app[GATEWAY]
    webhook = await _body(request, AlertmanagerMessage, most=_LARGEST_WEBHOOK)
    if isinstance(webhook, web.Response):
        return webhook
    done: list[dict[str, Any]] = []
    for first in range(0, len(webhook.alerts), _ALERTS_AT_ONCE):
        done += gateway.alerts.take(webhook.alerts[first : first + _ALERTS_AT_ONCE])
        await asyncio.sleep(0)  # a webhook may hold thousands, and requests of others do not wait for all
    return await _done(gateway, None, {"alerts": done})


def _who(gateway: WebState) -> dict[str, str]:
    return {"gateway": gateway.identity.process, "host": gateway.identity.host}


async def _done(gateway: WebState, model: str | None, done: dict[str, Any]) -> web.Response:
    """200, once what was changed is durable or can not be made so: what was done, and what holds now."""
    not_durable_because = await gateway.caps.settled()
    return document(
        {
            **({"model": model, "caps": gateway.caps.of_model(model)} if model is not None else {}),
            **done,
            "break_glass": gateway.caps.break_glass_to_json(),
            "durable": not not_durable_because,
            "not_durable_because": not_durable_because,
        }
    )


def _of_texts(reason: str, by: str) -> Iterable[str]:
    for field, text in (("reason", reason), ("by", by)):
        try:
            check_reason(text)
        except ValueError as error:
            yield f"{field}: {error}"


def _of_share(percent: float) -> Iterable[str]:
    try:
        whole_buckets("to:", percent)
    except ValueError as error:
        yield str(error)


def _of_alias(alias: str | None) -> Iterable[str]:
    if alias == PRODUCTION:
        yield "alias: production has no cap: all that is taken from others goes to it"


def _refused(status: int, problems: list[str]) -> web.Response:
    return document({"errors": [problem[:_LONGEST_SENTENCE] for problem in problems]}, status=status)


async def _body(request: web.Request, kind: type[Body], *, most: int = _LARGEST_VERB) -> Body | web.Response:
    """The body, of `most` bytes at most, as JSON of this `kind`; or why it is not."""
    gateway = request.app[GATEWAY]
    too_large = f"the body is over {most} bytes"
    if (request.content_length or 0) > most:
        return _refused(413, [too_large])
    try:
        async with gateway.requests.reading(gateway.settings.current.server.body_timeout_seconds):
            body = await read_whole(request.content, most)
    except TimeoutError:
        return _refused(408, ["the body did not come in time"])
    except (web.HTTPException, ValueError, OSError):
        return _refused(400, ["the body could not be read"])
    if body is None:
        return _refused(413, [too_large])
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _refused(422, [f"the body: {error}"])
