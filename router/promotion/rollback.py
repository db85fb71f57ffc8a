"""Rollback: production goes back to a version that it was before. No gateway stands in its way.

First a canary that has the version is capped; then a tag of that version has the record, and production names
the other one. `previous` stays: so a second rollback finds that production is where it points, and does not
go forward to the bad version.
"""

from collections.abc import Mapping
from typing import Any

from router.core.caps import LONGEST_REASON
from router.core.ids import PRODUCTION
from router.errors import PromotionRefused, RegistryError, RegistryUnavailable, VersionUnknown
from router.promotion.gateway_view import GatewayView, views_of
from router.promotion.ports import Command, Gateways, NoDocument, Operator, Registry, require_active, shown
from router.promotion.records import PROMOTION_TAG, ROLLBACK_TAG, facts_of, read_record, rollback_record
from router.promotion.writes import Writes, have_gateways_look, numbered, wait_until_served

CAP_SECONDS = 5.0
"""How long the gateways may take to cap the canary: the rollback waits for that."""


def rollback(
    registry: Registry, gateways: Gateways, command: Command, operator: Operator, *, to: int | None = None
) -> None:
    """Returns when it is done, and every gateway that answers serves it if that was to be waited for.

    `to`: the version; None: the one that `previous` names, else the one that gateways remember. Raises
    PromotionRefused, RegistryError. What was written until then stays.
    """
    model, names = command.model, command.names
    require_active(names.production)
    canaries = names.canaries
    named = registry.read(model, names.production, names.previous, *canaries.values())
    production = named.get(names.production)
    target = _target(registry, gateways, command, named) if to is None else to
    if target == production:
        which = f", which is what {shown(names.previous)} names" if to is None else ""
        raise PromotionRefused(
            f"{shown(names.production)} of {model} names v{production} already{which}; nothing was changed:"
            " --to VERSION names another one"
        )
    try:
        registry.tags(model, target)
    except VersionUnknown as unknown:
        raise PromotionRefused(str(unknown)) from unknown
    writes = Writes(registry, command, {names.production: production}, operator)
    operator.report(f"{model}: production goes back from {numbered(production)} to v{target}")
    if production is not None:
        for role, name in canaries.items():
            if named.get(name) == production:
                _cap(gateways, command, role, production, operator)
        _record(registry, command, production, target, operator)
    try:
        writes.point(names.production, target)
    except RegistryUnavailable:
        moved = f"whether {shown(names.production)} was moved is not known"
        operator.report(f"{moved}: the same command moves it, or says that it was")
        raise
    have_gateways_look(gateways, command, operator)
    if command.wait_seconds is not None:
        wait_until_served(gateways, command, target, operator, by_all=False)
    writes.check(only_written=True)


def _target(registry: Registry, gateways: Gateways, command: Command, named: Mapping[str, int]) -> int:
    """What `previous` names, else what gateways remember. Raises PromotionRefused where that is no version to
    go back to by itself."""
    model, names = command.model, command.names
    previous, production = named.get(names.previous), named.get(names.production)
    if previous is None:
        return _remembered(gateways, command, production)
    if previous == production:
        return previous
    try:
        left = read_record(registry.tags(model, previous), ROLLBACK_TAG)
    except VersionUnknown as unknown:
        raise PromotionRefused(f"{unknown}; name the one to go back to with --to") from unknown
    if production is None or left.get("to") != production:
        return previous
    promoted = read_record(registry.tags(model, production), PROMOTION_TAG)
    if promoted.get("from") != previous or str(promoted.get("time")) <= str(left.get("time")):
        raise PromotionRefused(
            f"{shown(names.previous)} names v{previous}, from which production was rolled back to"
            f" v{production} at {left.get('time')} by {left.get('by')}: {left.get('reason')}; --to {previous}"
            " goes there all the same"
        )
    return previous


def _remembered(gateways: Gateways, command: Command, production: int | None) -> int:
    """What production served before, by every gateway that knows it of the present one."""
    found = views_of(gateways, command.model).values()
    views = [view for view in found if isinstance(view, GatewayView)]
    before = {
        view.rollback_version
        for view in views
        if view.bound.get(PRODUCTION) == production and view.rollback_version is not None
    }
    if len(before) == 1:
        return before.pop()
    bound = (view.bound.get(PRODUCTION) for view in views)
    serving = sorted({version for version in bound if version is not None})
    why = "no gateway knows one"
    if before:
        why = f"gateways say {', '.join(map(numbered, sorted(before)))}"
    elif serving and serving != [production]:  # as where the present one does not load
        why = f"gateways do not serve {numbered(production)}, but {', '.join(map(numbered, serving))}"
    raise PromotionRefused(
        f"{shown(command.names.previous)} names no version of {command.model}, and {why}: name the one to go"
        " back to with --to"
    )


def _cap(gateways: Gateways, command: Command, role: str, version: int, operator: Operator) -> None:
    """Without production's name on it, the canary would go on with its share of the bad version."""
    body: dict[str, Any] = {"model": command.model, "alias": role, "version": version, "to": 0}
    body |= {"by": command.by, "reason": f"rolled back: {command.reason}"[:LONGEST_REASON]}
    for gateway, answer in gateways.post("/-/abort", body, timeout_seconds=CAP_SECONDS).items():
        if isinstance(answer, NoDocument):
            operator.report(f"warning: {role}, which has v{version}, too, is not capped: {answer.why}")
        else:
            operator.report(f"{gateway} caps {role}, which has v{version}, too, to 0 %")


def _record(registry: Registry, command: Command, production: int, target: int, operator: Operator) -> None:
    """A record that can not be written is a warning: the rollback matters more."""
    record = rollback_record(facts_of(command, production, target))
    try:
        registry.tag(command.model, production, ROLLBACK_TAG, record)
    except RegistryError as error:
        operator.report(f"warning: the tag {ROLLBACK_TAG} of v{production} could not be written: {error}")
    else:
        operator.report(f"the tag {ROLLBACK_TAG} of v{production} has the record")
