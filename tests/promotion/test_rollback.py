"""Rollback: where it goes, that nothing is in its way, and that it never goes forward."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from router.errors import (
    GatewaysUnreachable,
    MovedByOthers,
    NotServedYet,
    PromotionRefused,
    RegistryRefused,
    RegistryUnavailable,
)
from router.promotion.ports import NoDocument, RoleNames
from router.promotion.promote import Promotion, promote
from router.promotion.records import PROMOTION_TAG, ROLLBACK_TAG, read_record
from router.promotion.rollback import rollback
from tests.promotion.fakes import (
    ALIASES,
    GATEWAY,
    MODEL,
    OTHER,
    SAID,
    STAGES,
    THIRD,
    FakeGateways,
    FakeOperator,
    FakeRegistry,
    Interrupted,
    away,
    command,
    killed_and_run_again,
    production_and_canary,
)


def promoted(names: RoleNames = ALIASES, *, keep_canary: bool = False) -> FakeRegistry:
    """Version 2 is production in place of version 1."""
    registry = FakeRegistry(**production_and_canary(names))
    promotion = Promotion(keep_canary=keep_canary)
    promote(registry, FakeGateways(registry, names), command(names), promotion, FakeOperator())
    return registry


def run(registry: Any, gateways: FakeGateways | None = None, to: int | None = None) -> FakeOperator:
    gateways = gateways or FakeGateways(registry)
    operator = FakeOperator()
    rollback(registry, gateways, command(gateways.names, reason="wrong scores"), operator, to=to)
    return operator


def test_production_goes_back_to_what_previous_names_which_stays() -> None:
    registry = promoted()
    gateways = FakeGateways(registry)

    operator = run(registry, gateways)

    assert registry.aliases == {"production": 1, "previous": 1}
    assert gateways.posted == [("/-/poll", {**SAID, "reason": "wrong scores"})]
    assert operator.lines == [
        "sentiment: production goes back from v2 to v1",
        f"the tag {ROLLBACK_TAG} of v2 has the record",
        "@production names v1",
        f"{GATEWAY} serves v1",
    ]
    record = orjson.loads(registry.all_tags[2][ROLLBACK_TAG])
    assert record.pop("time").endswith("Z")
    assert record == {"by": "ann", "reason": "wrong scores", "model": MODEL, "from": 2, "to": 1}


def test_a_second_one_says_so_and_does_not_go_forward_to_the_bad_version() -> None:
    registry = promoted()
    run(registry)

    with pytest.raises(PromotionRefused, match="names v1 already, which is what @previous names; nothing"):
        run(registry)

    assert registry.aliases == {"production": 1, "previous": 1}


def test_a_previous_from_which_production_came_back_is_not_gone_forward_to_unless_it_is_named() -> None:
    registry = promoted()
    run(registry)
    registry.aliases["previous"] = 2

    with pytest.raises(PromotionRefused, match=r"names v2, from which production was.*--to 2 goes"):
        run(registry)
    assert registry.aliases["production"] == 1

    run(registry, to=2)
    assert registry.aliases["production"] == 2


def test_what_was_rolled_back_once_and_replaced_by_a_promotion_later_may_be_gone_back_to() -> None:
    registry = promoted()
    run(registry)
    left = read_record(registry.all_tags[2], ROLLBACK_TAG)
    # Version 2 was mended and set by hand; then version 1 was promoted over it.
    registry.aliases |= {"production": 1, "previous": 2}
    later = {"from": 2, "to": 1, "time": left["time"].replace("20", "21", 1)}
    registry.all_tags[1][PROMOTION_TAG] = orjson.dumps(later).decode()

    run(registry)

    assert registry.aliases["production"] == 2


def test_it_goes_to_the_version_that_is_named_whatever_previous_names() -> None:
    registry = FakeRegistry(production=3, previous=2)

    run(registry, to=1)

    assert registry.aliases == {"production": 1, "previous": 2}


@pytest.mark.parametrize(
    ("aliases", "to", "said"),
    [
        ({"production": 2}, None, "@previous names no version of sentiment, and no gateway knows one"),
        (
            {"production": 2, "previous": 1},
            2,
            "@production of sentiment names v2 already; nothing",
        ),
        ({"production": 2, "previous": 1}, 9, "no version 9"),
        ({"production": 2, "previous": 9}, None, "no version 9; name the one to go back to with --to"),
    ],
    ids=["no previous", "already", "unknown", "previous is gone"],
)
def test_where_there_is_nowhere_to_go_it_says_so_and_changes_nothing(
    aliases: dict[str, int], to: int | None, said: str
) -> None:
    registry = FakeRegistry(**aliases)

    with pytest.raises(PromotionRefused) as refused:
        run(registry, to=to)

    assert said in str(refused.value)
    assert registry.aliases == aliases
    assert not any(registry.all_tags.values())


def remembers(version: int | None) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        state["models"][MODEL]["rollback"] = {"version": version}

    return change


def test_without_previous_it_goes_to_what_the_gateways_remember() -> None:
    registry = FakeRegistry(production=2)
    changes = {GATEWAY: remembers(1), OTHER: remembers(None)}

    run(registry, FakeGateways(registry, addresses=(GATEWAY, OTHER), changes=changes))

    assert registry.aliases == {"production": 1}


def test_gateways_that_remember_different_ones_are_not_chosen_between() -> None:
    registry = FakeRegistry(production=2)
    changes = {GATEWAY: remembers(1), OTHER: remembers(3)}

    with pytest.raises(PromotionRefused, match="gateways say v1, v3: name the one to go back to with --to"):
        run(registry, FakeGateways(registry, addresses=(GATEWAY, OTHER), changes=changes))

    assert registry.aliases == {"production": 2}


def test_what_serves_in_place_of_a_production_that_does_not_load_is_named_to_go_back_to() -> None:
    registry = FakeRegistry(production=2)

    def serves_the_former(state: dict[str, Any]) -> None:
        state["models"][MODEL]["aliases"]["production"]["bound"] = 1

    with pytest.raises(PromotionRefused, match="do not serve v2, but v1: name the one to go back to with"):
        run(registry, FakeGateways(registry, changes={GATEWAY: serves_the_former}))

    assert registry.aliases == {"production": 2}


def test_a_production_that_nobody_names_is_named_again() -> None:
    registry = FakeRegistry(previous=1)

    run(registry)

    assert registry.aliases == {"production": 1, "previous": 1}


def test_of_stages_the_newer_version_is_archived() -> None:
    registry = promoted(STAGES)

    run(registry, FakeGateways(registry, STAGES))

    assert registry.stages == {1: "Production", 2: "Archived", 3: "None"}
    assert registry.aliases == {"previous": 1}
    assert read_record(registry.all_tags[2], ROLLBACK_TAG)["to"] == 1


# ---- nothing is in its way


def spoil(state: dict[str, Any]) -> None:
    """FAIL, a cap, an open breaker, break-glass, and another configuration."""
    if "config" not in state:
        return
    state["break_glass"] = {"since": 0.0, "why": "SIGUSR2"}
    model = state["models"][MODEL]
    model["verdicts"]["canary"] = {"verdict": "fail", "why": "It fails."}
    model["caps"] = [{"alias": "canary", "version": None, "to_percent": 0, "by": "bob", "reason": "bad"}]
    model["aliases"]["canary"]["name"] = "challenger"
    for version in model["versions"].values():
        version["breaker"] = {"state": "open", "why": "25 of 50"}


def test_with_one_of_three_gateways_away_it_is_done_with_a_warning_and_whatever_the_others_say() -> None:
    registry = promoted()
    addresses = (GATEWAY, OTHER, THIRD)
    gateways = FakeGateways(
        registry, addresses=addresses, changes={THIRD: away(THIRD), GATEWAY: spoil, OTHER: spoil}
    )

    operator = run(registry, gateways)

    assert registry.aliases["production"] == 1
    assert operator.lines[-3:] == [
        f"{GATEWAY} serves v1",
        f"{OTHER} serves v1",
        f"warning: no gateway answers at {THIRD}",
    ]


def test_without_any_gateway_it_is_done_and_says_that_nobody_knows_who_serves_it() -> None:
    registry = promoted()

    with pytest.raises(GatewaysUnreachable, match="the registry names v1; no gateway answers"):
        run(registry, FakeGateways(registry, changes={GATEWAY: away(GATEWAY)}))

    assert registry.aliases["production"] == 1


def test_a_gateway_that_answers_and_does_not_serve_it_is_named() -> None:
    registry = promoted()

    def behind(state: dict[str, Any]) -> None:
        if "config" in state:
            state["models"][MODEL]["aliases"]["production"]["bound"] = 2

    with pytest.raises(NotServedYet, match=f"{GATEWAY} serves v2"):
        run(registry, FakeGateways(registry, changes={GATEWAY: behind}))

    assert registry.aliases["production"] == 1


class Untagged:
    """A registry that takes no tags."""

    def __init__(self, registry: FakeRegistry, error: Exception) -> None:
        self._registry = registry
        self._error = error

    def tag(self, *_: Any) -> None:
        raise self._error

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._registry, name)
        return method


@pytest.mark.parametrize("error", [RegistryRefused("no permission"), RegistryUnavailable("late")])
def test_a_record_that_can_not_be_written_is_a_warning(error: Exception) -> None:
    registry = promoted()

    operator = run(Untagged(registry, error), FakeGateways(registry))

    assert registry.aliases["production"] == 1
    assert f"warning: the tag {ROLLBACK_TAG} of v2 could not be written: {error}" in operator.lines


def test_a_move_that_was_not_answered_is_said_to_be_one_that_may_be_typed_again() -> None:
    registry = promoted()

    class Unanswered(Untagged):
        def tag(self, *arguments: Any) -> None:
            self._registry.tag(*arguments)

        def point(self, *arguments: Any) -> None:
            self._registry.point(*arguments)
            raise self._error

    operator, gateways = FakeOperator(), FakeGateways(registry)
    with pytest.raises(RegistryUnavailable):
        rollback(Unanswered(registry, RegistryUnavailable("late")), gateways, command(), operator)

    assert operator.lines[-1].startswith("whether @production was moved is not known: the same command moves")
    assert registry.aliases["production"] == 1


# ---- the canary that has the bad version, too


def test_a_canary_that_has_the_version_is_capped_before_production_leaves_it() -> None:
    registry = promoted(keep_canary=True)
    gateways = FakeGateways(registry)
    posted_before: list[list[str]] = []
    interrupted = Interrupted(
        registry, lambda step: posted_before.append([path for path, _ in gateways.posted])
    )

    operator = run(interrupted, gateways)

    (path, body) = gateways.posted[0]
    assert posted_before[0] == [path] == ["/-/abort"], "before the first write"
    assert body == {
        "model": MODEL,
        "alias": "canary",
        "version": 2,
        "to": 0,
        "by": "ann",
        "reason": "rolled back: wrong scores",
    }
    assert f"{GATEWAY} caps canary, which has v2, too, to 0 %" in operator.lines
    assert registry.aliases == {"production": 1, "canary": 2, "previous": 1}


def test_a_further_alias_that_has_it_is_capped_too() -> None:
    registry = promoted()
    registry.aliases["beta"] = 2
    gateways = FakeGateways(registry, RoleNames("production", "canary", further={"qa": "beta"}))

    run(registry, gateways)

    assert [body["alias"] for path, body in gateways.posted if path == "/-/abort"] == ["qa"]


def test_a_canary_that_can_not_be_capped_is_a_warning() -> None:
    registry = promoted(keep_canary=True)
    gateways = FakeGateways(registry)
    gateways.answers["/-/abort"] = NoDocument(f"{GATEWAY} refuses: Not Found", 404)

    operator = run(registry, gateways)

    assert registry.aliases["production"] == 1
    assert (
        f"warning: canary, which has v2, too, is not capped: {GATEWAY} refuses: Not Found" in operator.lines
    )


def test_a_canary_of_another_version_is_left_alone() -> None:
    registry = promoted()
    registry.aliases["canary"] = 3
    gateways = FakeGateways(registry)

    run(registry, gateways)

    assert [path for path, _ in gateways.posted] == ["/-/poll"]
    assert registry.aliases["canary"] == 3


# ---- killed and run again, and two operators


@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize("names", [ALIASES, STAGES], ids=["aliases", "stages"])
def test_killed_before_or_after_any_write_and_run_again_it_ends_the_same(names: RoleNames, step: int) -> None:
    registry = promoted(names)

    def rolled_back(one: Any) -> None:
        run(one, FakeGateways(registry, names))

    killed_and_run_again(registry, rolled_back, step, last=3, done="names v1 already")

    assert registry.read(MODEL, names.production, "previous") == {names.production: 1, "previous": 1}
    assert read_record(registry.all_tags[2], ROLLBACK_TAG)["to"] == 1


def test_who_is_written_over_finds_it_at_once() -> None:
    registry = promoted()

    def move(step: int) -> None:
        if step == 3:  # after its last write
            registry.aliases["production"] = 3

    with pytest.raises(MovedByOthers, match="@production names v3 now, where this command expected v1"):
        run(Interrupted(registry, move), FakeGateways(registry))


def test_who_is_written_over_while_it_waits_finds_it_afterwards() -> None:
    registry = promoted()
    gateways = FakeGateways(registry)

    class Overwritten(FakeOperator):
        def report(self, line: str) -> None:
            super().report(line)
            if line == f"{GATEWAY} serves v1":
                registry.aliases["production"] = 3

    with pytest.raises(MovedByOthers, match="@production names v3 now"):
        rollback(registry, gateways, command(), Overwritten())
