"""Promotion: the version that is the canary becomes production.

Order of the writes, each read back: `previous` names the old production; a tag of the promoted version has
the record; production names it; the canary's alias goes. So every state in between is a valid one, with both
roles on one version at worst, and the same command completes what was begun.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from router.core.ids import CANARY, PRODUCTION
from router.core.redaction import redact_uri
from router.errors import GatewaysUnreachable, PromotionRefused, RegistryError
from router.promotion.gateway_view import GatewayView, evidence_of, missing_evidence, view_of
from router.promotion.ports import (
    Command,
    Documents,
    Gateways,
    NoDocument,
    Operator,
    Registry,
    is_stage,
    require_active,
    shown,
)
from router.promotion.records import PROMOTION_TAG, promotion_record, read_record
from router.promotion.writes import ARCHIVED, Writes, have_gateways_look, numbered, wait_until_served


@dataclass(frozen=True, slots=True)
class Promotion:
    """How a promotion is done."""

    force: bool = False
    """Go on although a gateway says FAIL, or keeps the canary from its share."""
    keep_canary: bool = False
    """Leave the canary's alias where it is: on the version that is production then, too."""


def promote(
    registry: Registry, gateways: Gateways, command: Command, promotion: Promotion, operator: Operator
) -> None:
    """Returns when it is done, and every gateway serves it if that was to be waited for.

    Raises PromotionRefused, RegistryError. What was written until then stays.
    """
    model, names = command.model, command.names
    require_active(names.production)
    watched = [names.production, names.canary, names.previous]
    if is_stage(names.production):
        watched.append(ARCHIVED)
    found = registry.read(model, *watched)
    former, canary = found.get(names.production), found.get(names.canary)
    if canary is None:
        raise PromotionRefused(_no_canary(registry, command, former))
    writes = Writes(registry, command, {name: found.get(name) for name in watched}, operator)
    record = None if former == canary else _examine(gateways, command, promotion, operator, former, canary)
    try:
        _write(registry, writes, command, promotion, operator, former, canary, record)
    except RegistryError:
        if writes.begun:
            operator.report("what was written stays, and the same command completes it")
        raise
    have_gateways_look(gateways, command, operator)
    if command.wait_seconds is not None:
        wait_until_served(gateways, command, canary, operator, by_all=True)
    writes.check(only_written=True)
    writes.check_tag()


def _write(
    registry: Registry,
    writes: Writes,
    command: Command,
    promotion: Promotion,
    operator: Operator,
    former: int | None,
    canary: int,
    record: str | None,
) -> None:
    """All that is left to write. `record`: None where production names the canary's version already."""
    names = command.names
    if record is None:
        operator.report(f"{shown(names.production)} names v{canary} already: the rest is done")
        writes.found(names.production, canary)
        if read_record(registry.tags(command.model, canary), PROMOTION_TAG).get("to") != canary:
            facts = _facts(command, None, canary, None, forced=False)  # somebody else moved it
            writes.tag(canary, PROMOTION_TAG, promotion_record(facts, [], []))
    else:
        writes.check()  # to look at the gateways may have taken minutes
        operator.report(f"{command.model}: v{canary} becomes production in place of {numbered(former)}")
        if former is not None:
            writes.point(names.previous, former)
        writes.tag(canary, PROMOTION_TAG, record)
        writes.point(names.production, canary)
    if not promotion.keep_canary and writes.named(names.canary) == canary:
        writes.withdraw(names.canary, canary)


def _no_canary(registry: Registry, command: Command, production: int | None) -> str:
    """Why there is nothing to promote: often because it has been done already."""
    sentence = f"{shown(command.names.canary)} names no version of {command.model}: there is no canary"
    if production is None:
        return sentence
    record = read_record(registry.tags(command.model, production), PROMOTION_TAG)
    if record.get("to") != production:
        return sentence
    return (
        f"{sentence}; v{production}, which is production, was promoted at {record.get('time')} by"
        f" {record.get('by')}: {record.get('reason')}"
    )


def _examine(
    gateways: Gateways,
    command: Command,
    promotion: Promotion,
    operator: Operator,
    former: int | None,
    canary: int,
) -> str:
    """The record of a promotion that nothing speaks against, or that is forced. Raises PromotionRefused."""
    views = _views(gateways.get("/v1/state"), command.model)
    for view in views:
        _check_names(view, command)
        _check_served(view, command, former, canary)
    if len({view.configured_share for view in views}) > 1:
        each = ", ".join(f"{view.gateway} says {view.configured_share} %" for view in views)
        raise PromotionRefused(f"the gateways disagree on the canary's share: {each}")
    compared = gateways.get("/v1/compare")
    forced = _pass_obstacles(views, canary, promotion, operator)
    verdict = _pass_verdicts(views, compared, promotion, operator, forced)
    evidence = [evidence_of(view, _document(compared, view.gateway)) for view in views]
    for one in evidence:
        one["gateway"] = redact_uri(one["gateway"])
    facts = _facts(command, former, canary, verdict, forced=bool(forced))
    digests = sorted({view.digest for view in views})
    facts |= {"share": views[0].share, "configuration": digests[0] if len(digests) == 1 else digests[:3]}
    heads = sorted({view.journal_head for view in views} - {""})
    return promotion_record(facts, evidence, heads)


def _views(states: Documents, model: str) -> list[GatewayView]:
    """Of every gateway. Raises PromotionRefused where one does not answer, or does not serve `model`."""
    views = []
    away = [answer.why for answer in states.values() if isinstance(answer, NoDocument)]
    if away:
        raise GatewaysUnreachable("not every gateway answers: " + "; ".join(away))
    for gateway, state in states.items():
        assert not isinstance(state, NoDocument)  # see above
        view = view_of(gateway, model, state)
        if view is None:
            raise PromotionRefused(f"{gateway} serves no model {model}")
        views.append(view)
    return views


def _check_names(view: GatewayView, command: Command) -> None:
    for role, name in ((PRODUCTION, command.names.production), (CANARY, command.names.canary)):
        if (read := view.names.get(role)) != name:
            raise PromotionRefused(
                f"{view.gateway} reads its {role} from {shown(read) if read else 'nothing'}, and this"
                f" command's configuration says {shown(name)}"
            )


def _check_served(view: GatewayView, command: Command, former: int | None, canary: int) -> None:
    """Raises PromotionRefused unless the gateway serves what the registry names, ready."""
    for role, name, named in (
        (PRODUCTION, command.names.production, former),
        (CANARY, command.names.canary, canary),
    ):
        aspired, bound = view.aspired.get(role), view.bound.get(role)
        if aspired != named:
            raise PromotionRefused(
                f"{shown(name)} names {numbered(named)}, and {view.gateway} last saw {numbered(aspired)}:"
                " somebody has just moved it, or the gateway does not reach the registry"
            )
        if bound != named:
            trouble = view.trouble_of(named) if named is not None else ""
            why = f" ({trouble})" if trouble else ""
            raise PromotionRefused(
                f"v{named} is not ready as {role} at {view.gateway}, which serves {numbered(bound)}{why}"
            )
    if (state := view.version(canary).get("state")) != "ready":
        raise PromotionRefused(f"v{canary} is not ready at {view.gateway}: {state}")


def _pass_obstacles(
    views: Sequence[GatewayView], canary: int, promotion: Promotion, operator: Operator
) -> list[str]:
    """What is passed by force. Raises PromotionRefused where something is in the way, and not forced."""
    obstacles = [f"{view.gateway}: v{canary}: {each}" for view in views for each in view.obstacles(canary)]
    if obstacles and not promotion.force:
        raise PromotionRefused("; ".join(obstacles) + "; --force promotes it all the same")
    for obstacle in obstacles:
        operator.report(f"forced: {obstacle}")
    return obstacles


def _pass_verdicts(
    views: Sequence[GatewayView],
    compared: Documents,
    promotion: Promotion,
    operator: Operator,
    forced: list[str],
) -> str:
    """The worst verdict, where nothing speaks against going on; `forced` gets what is passed by force."""
    failed = [f"{view.gateway}: FAIL: {view.verdict[1]}" for view in views if view.verdict[0] == "fail"]
    if failed and not promotion.force:
        raise PromotionRefused("; ".join(failed) + "; --force promotes it all the same")
    for sentence in failed:
        operator.report(f"forced: {sentence}")
        forced.append(sentence)
    undecided = [view for view in views if view.verdict[0] == "not_enough_data"]
    for view in undecided:
        for sentence in missing_evidence(view, _document(compared, view.gateway)):
            operator.report(f"{view.gateway}: {sentence}")
    if undecided and not operator.confirm("There is not enough data to judge it. Promote it all the same?"):
        raise PromotionRefused("there is not enough data to judge it; --yes promotes it all the same")
    for view in views:
        if view.verdict[0] == "pass":
            operator.report(f"{view.gateway}: pass: {view.verdict[1]}")
    return "fail" if failed else "not_enough_data" if undecided else "pass"


def _facts(
    command: Command, former: int | None, canary: int, verdict: str | None, *, forced: bool
) -> dict[str, Any]:
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "by": command.by,
        "reason": command.reason,
        "model": command.model,
        "from": former,
        "to": canary,
        "verdict": verdict,
        "forced": forced,
    }


def _document(documents: Documents, gateway: str) -> Mapping[str, Any] | None:
    """None where the gateway gave none."""
    document = documents.get(gateway)
    return None if isinstance(document, NoDocument) else document
