"""Promotion: what speaks against it, the order of its writes, and two operators at once."""

import threading
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from router.errors import (
    GatewaysUnreachable,
    ModelUnknown,
    MovedByOthers,
    NotServedYet,
    PromotionRefused,
    RegistryUnavailable,
)
from router.promotion.ports import NoDocument, RoleNames
from router.promotion.promote import Promotion, promote
from router.promotion.records import MOST_BYTES, PROMOTION_TAG, read_record
from tests.promotion.fakes import (
    ALIASES,
    DIGEST,
    GATEWAY,
    HEAD,
    MODEL,
    OTHER,
    SAID,
    STAGES,
    FakeGateways,
    FakeOperator,
    FakeRegistry,
    Interrupted,
    Killed,
    away,
    command,
    kill_at,
    killed_and_run_again,
    production_and_canary,
)

CHAMPION = RoleNames("champion", "challenger", "champion-before")


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry(**production_and_canary(ALIASES))


def run(registry: Any, gateways: FakeGateways, **options: bool) -> FakeOperator:
    operator = FakeOperator()
    promote(registry, gateways, command(gateways.names), Promotion(**options), operator)
    return operator


def refused(registry: FakeRegistry, gateways: FakeGateways, **options: bool) -> str:
    """Why; and that nothing was written."""
    before = (dict(registry.aliases), dict(registry.stages))
    with pytest.raises(PromotionRefused) as caught:
        run(registry, gateways, **options)
    assert (registry.aliases, registry.stages) == before
    assert not any(registry.all_tags.values())
    assert gateways.posted == []
    return str(caught.value)


def model_of(state: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = state["models"][MODEL] if "config" in state else {}
    return found


# ---- what is written


def test_the_canary_becomes_production_and_previous_names_what_was(registry: FakeRegistry) -> None:
    gateways = FakeGateways(registry)

    operator = run(registry, gateways)

    assert registry.aliases == {"production": 2, "previous": 1}
    assert gateways.posted == [("/-/poll", SAID)]
    assert operator.lines == [
        f"{GATEWAY}: pass: its sentence.",
        "sentiment: v2 becomes production in place of v1",
        "@previous names v1",
        f"the tag {PROMOTION_TAG} of v2 has the record",
        "@production names v2",
        "@canary is removed",
        f"{GATEWAY} serves v2",
    ]


def test_the_order_of_writes_leaves_production_to_the_last_but_one(registry: FakeRegistry) -> None:
    """So that every state in between is a valid one."""
    interrupted = Interrupted(registry, lambda _: None)

    run(interrupted, FakeGateways(registry))

    assert interrupted.calls == ["point previous", "tag 2", "point production", "withdraw canary"]


def test_the_record_says_who_when_why_and_on_what_evidence(registry: FakeRegistry) -> None:
    run(registry, FakeGateways(registry))

    record = orjson.loads(registry.all_tags[2][PROMOTION_TAG])
    assert record.pop("time").endswith("Z")
    arm = {"requests": 1000, "events": 1, "rate": 0.00123457}
    assert record == {
        "by": "ann",
        "reason": "all checks pass",
        "model": MODEL,
        "from": 1,
        "to": 2,
        "verdict": "pass",
        "forced": False,
        "share": 5.0,
        "configuration": DIGEST,
        "evidence": [
            {
                "gateway": GATEWAY,
                "verdict": "pass",
                "why": "its sentence.",
                "checks": {
                    "faults": {
                        "verdict": "pass",
                        "production": arm,
                        "canary": arm,
                        "difference": 0.0,
                        "interval": [-0.001, 0.001],
                    }
                },
            }
        ],
        "journal": [HEAD],
    }


def test_a_record_has_room_for_fifty_gateways_and_the_longest_reason(registry: FakeRegistry) -> None:
    addresses = tuple(f"http://gateway-{number}.example:8081" for number in range(50))
    gateways = FakeGateways(registry, addresses=addresses)
    asked = command(by="ä" * 100, reason="𝄞" * 500)

    promote(registry, gateways, asked, Promotion(), FakeOperator())

    value = registry.all_tags[2][PROMOTION_TAG]
    assert len(value.encode()) <= MOST_BYTES
    record = orjson.loads(value)
    assert (record["reason"], record["by"], record["verdict"]) == (asked.reason, asked.by, "pass")


def test_the_canary_may_be_kept(registry: FakeRegistry) -> None:
    run(registry, FakeGateways(registry), keep_canary=True)

    assert registry.aliases == {"production": 2, "canary": 2, "previous": 1}


def test_aliases_of_other_names_move_and_no_alias_of_somebody_elses() -> None:
    registry = FakeRegistry(champion=1, challenger=2, production=3, canary=3, previous=3)

    run(registry, FakeGateways(registry, CHAMPION))

    assert registry.aliases == {
        **dict.fromkeys(("production", "canary", "previous"), 3),
        "champion": 2,
        "champion-before": 1,
    }


def test_a_first_production_has_no_previous() -> None:
    registry = FakeRegistry(canary=1)

    run(registry, FakeGateways(registry))

    assert registry.aliases == {"production": 1}
    assert read_record(registry.all_tags[1], PROMOTION_TAG)["from"] is None


def test_of_stages_the_former_production_is_archived_in_one_transition() -> None:
    registry = FakeRegistry(**production_and_canary(STAGES))
    interrupted = Interrupted(registry, lambda _: None)

    run(interrupted, FakeGateways(registry, STAGES))

    assert interrupted.calls == ["point previous", "tag 2", "point stage:Production"]
    assert registry.stages == {1: "Archived", 2: "Production", 3: "None"}
    assert registry.aliases == {"previous": 1}


def test_what_is_left_in_the_canarys_stage_is_the_canary_from_then_on_and_named() -> None:
    registry = FakeRegistry(4, stages={1: "Production", 2: "Staging", 3: "Staging"})

    operator = run(registry, FakeGateways(registry, STAGES))

    assert registry.stages == {1: "Archived", 2: "Staging", 3: "Production", 4: "None"}
    assert "v2 is in stage Staging too, and is the canary from now on" in operator.lines


def test_of_a_canary_in_a_stage_and_production_by_alias_the_stage_is_left() -> None:
    registry = FakeRegistry(stages={2: "Staging"}, production=1)

    run(registry, FakeGateways(registry, RoleNames("production", "stage:Staging")))

    assert registry.aliases == {"production": 2, "previous": 1}
    assert registry.stages[2] == "None"


# ---- what speaks against it


def test_a_model_without_a_canary_is_refused() -> None:
    registry = FakeRegistry(production=1)
    assert "@canary names no version of sentiment" in refused(registry, FakeGateways(registry))


def test_what_was_promoted_already_is_named_and_by_whom(registry: FakeRegistry) -> None:
    run(registry, FakeGateways(registry))

    with pytest.raises(
        PromotionRefused, match=r"v2, which is production, was promoted at .* by ann: all checks"
    ):
        run(registry, FakeGateways(registry))


def test_a_model_that_the_registry_does_not_have_is_an_error_of_the_registry(registry: FakeRegistry) -> None:
    with pytest.raises(ModelUnknown):
        promote(registry, FakeGateways(registry), command(model="other"), Promotion(), FakeOperator())


def test_a_stage_that_others_stay_in_is_refused(registry: FakeRegistry) -> None:
    names = RoleNames("stage:Archived", "canary")
    assert "MLflow leaves others in" in refused(registry, FakeGateways(registry, names))


def not_serving(state: dict[str, Any]) -> None:
    state["models"] = {}


def set_in(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        found = model_of(state)
        for name in path[:-1]:
            found = found.get(name, {})
        if found:
            found[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (away(OTHER), f"not every gateway answers: no gateway answers at {OTHER}"),
        (not_serving, f"{OTHER} serves no model sentiment"),
        (
            set_in("aliases", "production", "name", to="champion"),
            f"{OTHER} reads its production from @champion, and this command's configuration says @production",
        ),
        (set_in("aliases", "canary", "aspired", to=3), f"@canary names v2, and {OTHER} last saw v3"),
        (
            set_in("aliases", "production", "aspired", to=None),
            f"@production names v1, and {OTHER} last saw no",
        ),
        (
            set_in("aliases", "canary", "bound", to=3),
            f"v2 is not ready as canary at {OTHER}, which serves v3 (ready)",
        ),
        (set_in("versions", "2", "state", to="draining"), f"v2 is not ready at {OTHER}: draining"),
        (set_in("split_configured", "canary", to=7.0), f"{OTHER} says 7.0 %"),
    ],
    ids=["away", "no model", "name", "moved", "unnamed", "not bound", "not ready", "share"],
)
@pytest.mark.parametrize("force", [False, True])
def test_a_gateway_that_is_away_or_serves_something_else_stops_it_also_by_force(
    registry: FakeRegistry, change: Callable[[dict[str, Any]], Any], said: str, *, force: bool
) -> None:
    gateways = FakeGateways(registry, addresses=(GATEWAY, OTHER), changes={OTHER: change})

    assert said in refused(registry, gateways, force=force)


def test_a_gateway_that_does_not_answer_is_unreachable(registry: FakeRegistry) -> None:
    with pytest.raises(GatewaysUnreachable):
        run(registry, FakeGateways(registry, changes={GATEWAY: away(GATEWAY)}))


CAP = {"alias": "canary", "version": None, "to_percent": 0, "by": "bob", "reason": "wrong scores"}


def break_glass(state: dict[str, Any]) -> None:
    state["break_glass"] = {"since": 0.0, "why": "SIGUSR2"}


OBSTACLES = [
    (set_in("caps", to=[CAP]), "v2: it is capped to 0 % by bob: wrong scores"),
    (set_in("caps", to=[{**CAP, "version": 2, "to_percent": 2.5}]), "it is capped to 2.5 % by bob"),
    (
        set_in("versions", "2", "breaker", to={"state": "open", "why": "25 of 50"}),
        "its breaker is open: 25 of 50",
    ),
    (
        set_in("aliases", "canary", "gate", to={"state": "held", "why": "it has no tag"}),
        "it has not passed the gate: it has no tag",
    ),
    (
        set_in("aliases", "canary", "gate", to={"state": "not_passed", "why": "it has no tag"}),
        "it has not passed the gate: it has no tag",
    ),
    (break_glass, "break-glass is on: SIGUSR2"),
    (set_in("verdicts", "canary", to={"verdict": "fail", "why": "It fails more."}), "FAIL: It fails more."),
]


@pytest.mark.parametrize(
    ("change", "said"),
    OBSTACLES,
    ids=["cap", "cap of the version", "breaker", "held", "ungated", "glass", "fail"],
)
def test_what_says_that_the_canary_is_bad_stops_it_and_is_recorded_when_it_is_forced(
    registry: FakeRegistry, change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    gateways = FakeGateways(registry, addresses=(GATEWAY, OTHER), changes={OTHER: change})

    why = refused(registry, gateways)
    operator = run(registry, gateways, force=True)

    assert f"{OTHER}: " in why
    assert said in why
    assert why.endswith("; --force promotes it all the same")
    assert any(line.startswith("forced: ") and said in line for line in operator.lines)
    assert registry.aliases["production"] == 2
    assert read_record(registry.all_tags[2], PROMOTION_TAG)["forced"] is True


@pytest.mark.parametrize(
    "gate", [None, {"state": "passed", "why": "against v1"}, {"state": "overridden", "why": "by ann"}]
)
def test_a_gate_that_let_it_through_or_is_not_asked_does_not(
    registry: FakeRegistry, gate: dict[str, Any] | None
) -> None:
    shown = set_in("aliases", "canary", "gate", to=gate)

    run(registry, FakeGateways(registry, changes={GATEWAY: shown}))

    assert registry.aliases["production"] == 2


@pytest.mark.parametrize("cap", [{**CAP, "version": 3}, {**CAP, "alias": "qa"}])
def test_a_cap_on_something_else_does_not(registry: FakeRegistry, cap: dict[str, Any]) -> None:
    run(registry, FakeGateways(registry, changes={GATEWAY: set_in("caps", to=[cap])}))

    assert registry.aliases["production"] == 2


@pytest.mark.parametrize("verdicts", [{}, {"canary": {"verdict": "not_enough_data", "why": "None yet."}}])
def test_without_enough_data_it_is_asked_for_and_what_is_missing_is_shown(
    registry: FakeRegistry, verdicts: dict[str, Any]
) -> None:
    gateways = FakeGateways(registry, changes={GATEWAY: set_in("verdicts", to=verdicts)})
    operator = FakeOperator(confirms=True)

    assert "not enough data to judge it; --yes" in refused(registry, gateways, force=True)
    promote(registry, gateways, command(), Promotion(), operator)

    assert f"{GATEWAY}: 3 faulty keys are needed at 5 %." in operator.lines
    assert len(operator.questions) == 1
    record = read_record(registry.all_tags[2], PROMOTION_TAG)
    assert (record["verdict"], record["forced"]) == ("not_enough_data", False)


def test_an_older_gateway_that_knows_no_caps_no_journal_and_no_verbs_is_enough(
    registry: FakeRegistry,
) -> None:
    def older(state: dict[str, Any]) -> None:
        for key in ("break_glass", "state_dir"):
            state.pop(key, None)
        model_of(state).pop("caps", None)

    gateways = FakeGateways(registry, changes={GATEWAY: older})
    gateways.answers["/-/poll"] = NoDocument(f"{GATEWAY} refuses: Not Found", 404)

    operator = run(registry, gateways)

    assert registry.aliases["production"] == 2
    assert f"warning: {GATEWAY} is too old to be asked to look at the registry at once" in operator.lines


# ---- until it is served


def test_who_does_not_serve_it_in_time_is_named_with_the_reason_and_nothing_is_undone(
    registry: FakeRegistry,
) -> None:
    def behind(state: dict[str, Any]) -> None:
        if registry.aliases["production"] == 2 and (model := model_of(state)):
            model["aliases"]["production"]["bound"] = 1
            model["versions"]["2"] = {"state": "error", "error": "no room"}

    gateways = FakeGateways(registry, addresses=(GATEWAY, OTHER), changes={OTHER: behind})

    with pytest.raises(NotServedYet) as caught:
        run(registry, gateways)

    assert f"not every gateway serves it yet: {OTHER} serves v1 (v2: no room)" in str(caught.value)
    assert registry.aliases == {"production": 2, "previous": 1}


def test_it_waits_until_the_last_gateway_serves_it(registry: FakeRegistry) -> None:
    looks = []

    def behind(state: dict[str, Any]) -> None:
        if registry.aliases["production"] == 2 and (model := model_of(state)):
            looks.append(1)
            model["aliases"]["production"]["bound"] = 1 if len(looks) < 3 else 2

    gateways = FakeGateways(registry, addresses=(GATEWAY, OTHER), changes={OTHER: behind})
    promote(registry, gateways, command(wait=60.0), Promotion(), operator := FakeOperator())

    assert [line for line in operator.lines if "serves" in line] == [
        f"{GATEWAY} serves v2",
        f"waiting for 60 s at most; Ctrl-C ends that and undoes nothing: {OTHER} serves v1 (v2: ready)",
        f"{OTHER} serves v2",
    ]


def test_ctrl_c_while_it_waits_names_who_is_not_there(registry: FakeRegistry) -> None:
    def behind(state: dict[str, Any]) -> None:
        if registry.aliases["production"] == 2 and (model := model_of(state)):
            model["aliases"]["production"]["bound"] = 1

    looks = []

    def interrupt(path: str) -> None:
        looks.append(path)
        if registry.aliases["production"] == 2 and len(looks) == 5:
            raise KeyboardInterrupt

    gateways = FakeGateways(registry, changes={GATEWAY: behind}, on_get=interrupt)
    with pytest.raises(NotServedYet, match=f"{GATEWAY} serves v1"):
        promote(registry, gateways, command(wait=600.0), Promotion(), FakeOperator())


def test_it_need_not_wait(registry: FakeRegistry) -> None:
    looks: list[str] = []
    gateways = FakeGateways(registry, on_get=looks.append)

    promote(registry, gateways, command(wait=None), Promotion(), FakeOperator())

    assert looks == ["/v1/state", "/v1/compare"]


# ---- killed and run again


@pytest.mark.parametrize(
    ("keep_canary", "step"), [*((False, step) for step in range(8)), *((True, step) for step in range(6))]
)
def test_killed_before_or_after_any_write_the_same_command_completes_it(
    registry: FakeRegistry, step: int, *, keep_canary: bool
) -> None:
    def promoted(one: Any) -> None:
        run(one, FakeGateways(registry), keep_canary=keep_canary)

    killed_and_run_again(registry, promoted, step, last=7, done="was promoted at")

    canary = {"canary": 2} if keep_canary else {}
    assert registry.aliases == {"production": 2, "previous": 1, **canary}
    assert read_record(registry.all_tags[2], PROMOTION_TAG)["from"] == 1


@pytest.mark.parametrize("step", range(6))
def test_of_stages_the_same_command_completes_it_too(step: int) -> None:
    registry = FakeRegistry(**production_and_canary(STAGES))

    def promoted(one: Any) -> None:
        run(one, FakeGateways(registry, STAGES))

    killed_and_run_again(registry, promoted, step, last=5, done="was promoted at")

    assert registry.stages == {1: "Archived", 2: "Production", 3: "None"}
    assert registry.aliases == {"previous": 1}
    assert read_record(registry.all_tags[2], PROMOTION_TAG)["from"] == 1


def test_what_gateways_say_no_longer_matters_once_production_is_written(registry: FakeRegistry) -> None:
    """Half-way they disagree, and nobody can judge one version against itself."""
    with pytest.raises(Killed):
        run(Interrupted(registry, kill_at(5)), FakeGateways(registry))

    operator = run(registry, FakeGateways(registry, verdict="fail"))

    assert registry.aliases == {"production": 2, "previous": 1}
    assert operator.lines[0] == "@production names v2 already: the rest is done"


def test_a_production_that_somebody_moved_by_hand_gets_a_record_without_a_version_before() -> None:
    registry = FakeRegistry(production=2, canary=2, previous=1)

    run(registry, FakeGateways(registry))

    record = read_record(registry.all_tags[2], PROMOTION_TAG)
    assert (record["from"], record["to"], record["verdict"]) == (None, 2, None)
    assert registry.aliases == {"production": 2, "previous": 1}


def test_an_error_of_the_registry_half_way_is_completed_as_well(registry: FakeRegistry) -> None:
    def fail(step: int) -> None:
        if step == 4:
            raise RegistryUnavailable("no answer")

    operator = FakeOperator()
    with pytest.raises(RegistryUnavailable):
        promote(Interrupted(registry, fail), FakeGateways(registry), command(), Promotion(), operator)
    assert operator.lines[-1] == "what was written stays, and the same command completes it"
    run(registry, FakeGateways(registry))

    assert registry.aliases == {"production": 2, "previous": 1}


# ---- two operators


@pytest.mark.parametrize(
    ("names", "step"), [*((ALIASES, step) for step in range(8)), *((STAGES, step) for step in range(6))]
)
def test_who_was_written_over_finds_it_whichever_write_the_second_operator_came_between(
    names: RoleNames, step: int
) -> None:
    """The second one promotes version 3 as a whole, but for its wait, which ends after the first is done."""
    registry = FakeRegistry(**production_and_canary(names))
    written, first_ended = threading.Event(), threading.Event()
    outcomes: dict[str, BaseException | None] = {}

    def second() -> None:
        registry.point(MODEL, names.canary, 3)
        gateways = FakeGateways(registry, names)

        def hold(path: str) -> None:
            if ("/-/poll", SAID) in gateways.posted and path == "/v1/state":
                written.set()
                assert first_ended.wait(60)

        gateways.on_get = hold
        outcomes["second"] = outcome_of(lambda: run(registry, gateways))
        written.set()

    thread = threading.Thread(target=second)

    def come_between(now: int) -> None:
        if now == step:
            thread.start()
            assert written.wait(60)

    first = Interrupted(registry, come_between)
    outcomes["first"] = outcome_of(lambda: run(first, FakeGateways(registry, names)))
    first_ended.set()
    thread.join()

    production = registry.read(MODEL, names.production)[names.production]
    lost = "second" if production == 2 else "first"
    assert isinstance(outcomes[lost], MovedByOthers | NotServedYet), outcomes
    assert isinstance(outcomes["first"], MovedByOthers), outcomes


def outcome_of(act: Callable[[], object]) -> BaseException | None:
    try:
        act()
    except PromotionRefused as refused:
        return refused
    return None


def test_whose_record_was_overwritten_is_found_after_the_wait(registry: FakeRegistry) -> None:
    def overwrite(path: str) -> None:
        if registry.aliases["production"] == 2:
            registry.all_tags[2][PROMOTION_TAG] = "{}"

    with pytest.raises(MovedByOthers, match=f"the tag {PROMOTION_TAG} of v2 is not what"):
        run(registry, FakeGateways(registry, on_get=overwrite))


def test_a_new_canary_that_comes_while_it_waits_is_nobody_elses_business(registry: FakeRegistry) -> None:
    def next_canary(path: str) -> None:
        if registry.aliases["production"] == 2:
            registry.aliases["canary"] = 3

    run(registry, FakeGateways(registry, on_get=next_canary))

    assert registry.aliases == {"production": 2, "previous": 1, "canary": 3}


def test_an_alias_that_moved_while_somebody_was_asked_is_found_before_the_first_write(
    registry: FakeRegistry,
) -> None:
    gateways = FakeGateways(registry, verdict="not_enough_data")

    class Slow(FakeOperator):
        def confirm(self, question: str) -> bool:
            registry.aliases["canary"] = 3
            return True

    with pytest.raises(MovedByOthers, match="@canary names v3 now, where this command expected v2"):
        promote(registry, gateways, command(), Promotion(), Slow())

    assert registry.aliases == {"production": 1, "canary": 3}
