"""Promotion: the version that is the canary becomes production.

Order of the writes, each read back: `previous` names the old production; a tag of the promoted version has
the record; production names it; the canary's alias goes. So every state in between is a valid one, with both
roles on one version at worst, and the same command completes what was begun.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from router.core.ids import CANARY, PRODUCTION
from router.errors import GatewaysUnreachable, PromotionRefused, RegistryError
from router.promotion.gateway_view import GatewayView, evidence_of, missing_evidence, views_of
from router.promotion.ports import (
    Command,
    Gateways,
    NoDocument,
    Operator,
    Registry,
    is_stage,
    require_active,
    shown,
)
from router.promotion.records import PROMOTION_TAG, facts_of, promotion_record, read_record
from router.promotion.writes import ARCHIVED, Writes, have_gateways_look, numbered, wait_until_served


@dataclass(frozen=True, slots=True)
class Promotion:
    """How a promotion is done."""

    force: bool = False
    """Go on although a gateway says FAIL, keeps the canary from its share, or says that it has not passed
    the gate."""
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
    try:
        if former == canary:
            operator.report(f"{shown(names.production)} names v{canary} already: the rest is done")
            writes.found(names.production, canary)
            _record_unless_recorded(registry, writes, command, canary)
        else:
            record = _Examination(gateways, command, promotion, operator).record(former, canary)
            writes.check()  # that may have taken minutes
            operator.report(f"{model}: v{canary} becomes production in place of {numbered(former)}")
            if former is not None:
                writes.point(names.previous, former)
            writes.tag(canary, PROMOTION_TAG, record)
            writes.point(names.production, canary)
        if not promotion.keep_canary and writes.named(names.canary) == canary:
            writes.withdraw(names.canary, canary)
    except RegistryError:
        if writes.begun:
            operator.report("what was written stays, and the same command completes it")
        raise
    have_gateways_look(gateways, command, operator)
    if command.wait_seconds is not None:
        wait_until_served(gateways, command, canary, operator, by_all=True)
    writes.check(only_written=True)
    writes.check_tag()


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


def _record_unless_recorded(registry: Registry, writes: Writes, command: Command, canary: int) -> None:
    """A promotion that was killed has its record; where somebody else moved the alias, there is none."""
    if read_record(registry.tags(command.model, canary), PROMOTION_TAG).get("to") != canary:
        facts = facts_of(command, None, canary) | {"verdict": None, "forced": False}
        writes.tag(canary, PROMOTION_TAG, promotion_record(facts, [], []))


class _Examination:
    """Whether something that the gateways say speaks against a promotion, and what is recorded of it."""

    def __init__(
        self, gateways: Gateways, command: Command, promotion: Promotion, operator: Operator
    ) -> None:
        self._gateways = gateways
        self._command = command
        self._promotion = promotion
        self._operator = operator

    def record(self, former: int | None, canary: int) -> str:
        """The record of a promotion that nothing speaks against, or that is forced.

        Raises PromotionRefused.
        """
        views = self._views()
        for view in views:
            self._check_names(view)
            self._check_served(view, former, canary)
        if len({view.configured_share for view in views}) > 1:
            each = ", ".join(f"{view.gateway} says {view.configured_share} %" for view in views)
            raise PromotionRefused(f"the gateways disagree on the canary's share: {each}")
        compared = {
            gateway: document
            for gateway, document in self._gateways.get("/v1/compare").items()
            if not isinstance(document, NoDocument)
        }
        obstacles = [f"{v.gateway}: v{canary}: {each}" for v in views for each in v.obstacles(canary)]
        failures = [f"{v.gateway}: FAIL: {v.verdict[1]}" for v in views if v.verdict[0] == "fail"]
        self._pass_by_force(obstacles)
        self._pass_by_force(failures)
        undecided = [view for view in views if view.verdict[0] == "not_enough_data"]
        self._pass_by_consent(undecided, compared)
        for view in views:
            if view.verdict[0] == "pass":
                self._operator.report(f"{view.gateway}: pass: {view.verdict[1]}")
        verdict = "fail" if failures else "not_enough_data" if undecided else "pass"
        digests = sorted({view.digest for view in views})
        facts = facts_of(self._command, former, canary) | {
            "verdict": verdict,
            "forced": bool(obstacles or failures),
            "share": views[0].share,
            "configuration": digests[0] if len(digests) == 1 else digests[:3],
        }
        evidence = [evidence_of(view, compared.get(view.gateway)) for view in views]
        return promotion_record(facts, evidence, sorted({view.journal_head for view in views} - {""}))

    def _views(self) -> list[GatewayView]:
        """Of every gateway. Raises PromotionRefused where one does not answer, or has no such model."""
        views, away = [], []
        for view in views_of(self._gateways, self._command.model).values():
            if isinstance(view, GatewayView):
                views.append(view)
            elif view.lacks_model:
                raise PromotionRefused(view.why)
            else:
                away.append(view.why)
        if away:
            raise GatewaysUnreachable(f"not every gateway answers: {'; '.join(away)}")
        return views

    def _check_names(self, view: GatewayView) -> None:
        names = self._command.names
        for role, name in ((PRODUCTION, names.production), (CANARY, names.canary)):
            if (read := view.names.get(role)) != name:
                raise PromotionRefused(
                    f"{view.gateway} reads its {role} from {shown(read) if read else 'nothing'}, and this"
                    f" command's configuration says {shown(name)}"
                )

    def _check_served(self, view: GatewayView, former: int | None, canary: int) -> None:
        """Raises PromotionRefused unless the gateway serves what the registry names, ready."""
        names = self._command.names
        for role, name, named in ((PRODUCTION, names.production, former), (CANARY, names.canary, canary)):
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
                    f"{numbered(named)} is not ready as {role} at {view.gateway}, which serves"
                    f" {numbered(bound)}{why}"
                )
        if (state := view.version(canary).get("state")) != "ready":
            raise PromotionRefused(f"v{canary} is not ready at {view.gateway}: {state}")

    def _pass_by_force(self, sentences: Sequence[str]) -> None:
        """Raises PromotionRefused where there are any, and not forced."""
        if sentences and not self._promotion.force:
            raise PromotionRefused(f"{'; '.join(sentences)}; --force promotes it all the same")
        for sentence in sentences:
            self._operator.report(f"forced: {sentence}")

    def _pass_by_consent(
        self, undecided: Sequence[GatewayView], compared: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Shows what is missing. Raises PromotionRefused unless the operator agrees."""
        for view in undecided:
            for sentence in missing_evidence(view, compared.get(view.gateway)):
                self._operator.report(f"{view.gateway}: {sentence}")
        question = "There is not enough data to judge it. Promote it all the same?"
        if undecided and not self._operator.confirm(question):
            raise PromotionRefused("there is not enough data to judge it; --yes promotes it all the same")
