"""A canary that has not passed the gate gets nobody; production is never held; what passed stays."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from router.control import gate_keys
from router.control.alias_watch import AliasWatch
from router.control.caps import CapControl
from router.control.gate_watch import GateWatch
from router.core.caps import CapTarget, records_from_json, records_to_json
from router.core.gate import GateEvidence
from router.core.gate_events import GateNotPassed, GatePassed
from router.core.gate_record import GateRecord, Override, Registered, gate_tag, override_tag
from router.core.ids import CANARY, PRODUCTION, Alias, VersionId
from router.core.routing import Reason, assign
from router.core.utc import utc
from router.core.verdict import Verdict
from router.errors import RegistryUnavailable
from router.serving.caps import CapsInForce, passage_of
from router.serving.manager import ModelManager
from router.serving.models import ModelSet
from tests.serving.conftest import V1, V2, V3, settings
from tests.support.fakes import Facts, FakeWorld, registered
from tests.support.sample_events import Clock
from tests.support.waiting import until

NOW = 1_795_000_000.0
HOUR = 3600.0
KEY = b"0123456789abcdef0123456789abcdef"
HALF = {"production": 50, "canary": 50}
PASSED_V2 = GateRecord(registered(V2), Verdict.PASS, V1.number, NOW - HOUR, "ci")
CANARY_KEY = "user-2"
"""In bucket 418."""


def passed(version: VersionId, **changes: object) -> str:
    """The tag of a version that passed against v1 an hour ago."""
    record = GateRecord(registered(version), Verdict.PASS, V1.number, NOW - HOUR, "ci")
    return gate_tag(replace(record, **changes))


def let_through(version: VersionId) -> str:
    return override_tag(Override(registered(version), "an emergency", NOW - HOUR, NOW + HOUR, "anna"))


@dataclass
class Gateway:
    """Models that follow a fake registry, whose tags are looked at by hand."""

    models: ModelSet
    world: FakeWorld
    facts: Facts
    caps: CapControl
    clock: Clock
    polls: AliasWatch = field(init=False)
    watch: GateWatch = field(init=False)
    now: float = NOW

    def __post_init__(self) -> None:
        self.polls = AliasWatch(self.world, self.models, self.facts, lambda: self.now)
        self.watch = GateWatch(self.world, self.models, self.polls, lambda: 5.0, lambda: self.now, self.clock)

    @property
    def manager(self) -> ModelManager:
        return self.models.managers["sentiment"]

    def configure(self, split: dict[str, float] | None = None, **gate: object) -> None:
        self.models.apply({"sentiment": settings(split=split or HALF, gate=gate)})

    async def serve(self, **versions: VersionId) -> None:
        """Have the registry name these, and look until they are bound."""
        self.world.aspired["sentiment"] = {Alias(alias): one for alias, one in versions.items()}
        await self.polls.tick()
        await until(lambda: self.manager.bound == self.world.aspired["sentiment"])

    async def look(self) -> None:
        """Once more, a poll's time later."""
        self.clock.now += 5.0
        await self.polls.tick()
        await self.watch.tick()

    @property
    def reason(self) -> Reason:
        """Why the canary's key goes where it goes."""
        assignment = assign(self.models.table.models["sentiment"], CANARY_KEY)
        assert assignment is not None
        return assignment.reason

    def state(self, alias: Alias = CANARY) -> tuple[str, list[str]]:
        document = self.manager.gate_holds.to_json(alias)
        assert document is not None
        return document["state"], document["objections"]

    def why(self, alias: Alias = CANARY) -> str:
        document = self.manager.gate_holds.to_json(alias)
        assert document is not None
        return str(document["why"])

    @property
    def told(self) -> list[tuple[str, str]]:
        """What was reported of the gate: of which alias, and what speaks against it, or `passed`."""
        return [
            (e.alias, ",".join(e.objections) if isinstance(e, GateNotPassed) else "passed")
            for e in self.facts.events
            if isinstance(e, GateNotPassed | GatePassed)
        ]


@pytest.fixture
def gateway(models: ModelSet, world: FakeWorld, facts: Facts, in_force: CapsInForce) -> Gateway:
    """A canary has to pass; nothing serves yet."""
    caps = CapControl(in_force, models, facts, lambda: NOW)
    gateway = Gateway(models, world, facts, caps, Clock())
    gateway.configure(canary="required")
    return gateway


async def test_a_canary_that_has_not_passed_is_loaded_bound_and_gets_nobody(gateway: Gateway) -> None:
    await gateway.serve(production=V1, canary=V2)

    assert gateway.reason is Reason.GATED, "also before anything was read"
    assert gateway.state() == ("held", [])
    await gateway.watch.tick()
    assert gateway.reason is Reason.GATED
    assert gateway.state() == ("held", ["no_record"])
    assert gateway.models.table.models["sentiment"].split_in_force.percentages()[CANARY] == 0
    assert gateway.manager.gate_holds.warnings() == [
        "the gate holds canary v2, and production has its share: it has no tag canary_router.gate"
    ]
    assert gateway.told == [("canary", "no_record")]


async def test_it_has_its_share_once_a_look_finds_the_tag_and_that_is_said_once(gateway: Gateway) -> None:
    await gateway.serve(production=V1, canary=V2)
    await gateway.look()
    await gateway.look()
    gateway.world.tags[V2] = passed(V2), None
    await gateway.look()

    assert gateway.reason is Reason.HASH
    assert gateway.state() == ("passed", [])
    assert gateway.why().startswith("passed against v1 at ")
    assert gateway.told == [("canary", "no_record"), ("canary", "passed")]
    assert gateway.facts.of(GatePassed)[0].after_all


async def test_a_tag_that_is_there_before_lets_it_through_as_it_is_bound(gateway: Gateway) -> None:
    gateway.world.tags[V2] = passed(V2), None
    await gateway.serve(production=V1)
    gateway.world.aspired["sentiment"] = {PRODUCTION: V1, CANARY: V2}
    await gateway.polls.tick()
    await gateway.watch.tick()  # while it is loaded
    await until(lambda: CANARY in gateway.manager.bound)

    assert gateway.reason is Reason.HASH


@pytest.mark.parametrize(
    ("gate", "tag", "objections"),
    [
        pytest.param({}, "torn", ["unreadable"], id="not a record"),
        pytest.param({}, passed(V1), ["other_version"], id="of another version"),
        pytest.param(
            {},
            passed(V2, of=replace(registered(V2), version=VersionId("churn", 2))),
            ["other_model"],
            id="copied from another model",
        ),
        pytest.param(
            {}, passed(V2, of=Registered(V2, "run", None, "f" * 12)), ["other_registration"], id="reused"
        ),
        pytest.param({}, passed(V2, verdict=Verdict.FAIL), ["not_passed"], id="failed"),
        pytest.param({"max_age_hours": 0.5}, passed(V2), ["too_old"], id="too old"),
        pytest.param({"require": ["tags.approved_by"]}, passed(V2), ["metadata"], id="metadata"),
        pytest.param({"require": ["holdout"]}, passed(V2), ["no_holdout"], id="no hold-out"),
        pytest.param({"key_file": "KEY"}, passed(V2), ["not_signed"], id="not signed"),
        pytest.param({"key_file": "SHORT"}, passed(V2), ["no_key"], id="no usable key"),
        pytest.param({"key_file": "/nonexistent/key"}, passed(V2), ["no_key"], id="no key"),
    ],
)
async def test_what_does_not_count_is_refused_by_name(
    gateway: Gateway, tmp_path: Path, gate: dict[str, object], tag: str, objections: list[str]
) -> None:
    (tmp_path / "KEY").write_bytes(KEY + b"\n")
    (tmp_path / "SHORT").write_bytes(b"short")
    if "key_file" in gate:
        gate = {**gate, "key_file": str(tmp_path / str(gate["key_file"]))}
    gateway.configure(canary="required", **gate)
    gateway.world.tags[V2] = tag, None
    await gateway.serve(production=V1, canary=V2)
    await gateway.look()

    assert gateway.reason is Reason.GATED
    assert gateway.state() == ("held", objections)
    assert "short" not in gateway.why()


async def test_a_signed_record_counts_with_the_key_that_is_in_the_file_now(
    gateway: Gateway, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"another key of enough bytes")
    gateway.configure(canary="required", key_file=str(file))
    gateway.world.tags[V2] = gate_tag(PASSED_V2, KEY), None
    await gateway.serve(production=V1, canary=V2)
    await gateway.look()
    assert gateway.state() == ("held", ["wrong_signature"])

    file.write_bytes(KEY)
    await gateway.look()
    assert gateway.state() == ("passed", [])


async def test_a_key_on_a_disk_that_hangs_holds_the_canaries_of_its_own_models_only(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, reads = threading.Event(), list[Path]()

    def hangs(path: Path) -> bytes:
        reads.append(path)
        go_on.wait(60)
        return KEY

    monkeypatch.setattr(gate_keys, "_read_key", hangs)
    monkeypatch.setattr(gate_keys, "READ_SECONDS", 0.1)
    other, champion = VersionId("toxicity", 2), VersionId("toxicity", 1)
    signed = settings(split=HALF, gate={"canary": "required", "key_file": "/run/secrets/gate"})
    plain = settings(split=HALF, gate={"canary": "required"})
    gateway.models.apply({"sentiment": signed, "toxicity": plain})
    gateway.world.tags = {V2: (gate_tag(PASSED_V2, KEY), None), other: (passed(other), None)}
    gateway.world.aspired["toxicity"] = {PRODUCTION: champion, CANARY: other}
    await gateway.serve(production=V1, canary=V2)
    toxicity = gateway.models.managers["toxicity"]
    await until(lambda: len(toxicity.bound) == 2)
    for _ in range(3):
        await gateway.look()

    assert gateway.state() == ("held", ["no_key"])
    assert gateway.why() == "gate.key_file can not be used: its disk did not answer within 0.1 s"
    assert toxicity.gate_holds.held == frozenset()
    assert reads == [Path("/run/secrets/gate")], "one thread hangs, and not one more at each look"

    monkeypatch.setattr(gate_keys, "READ_SECONDS", 60.0)
    go_on.set()
    await gateway.look()
    assert gateway.state() == ("passed", [])


async def test_neither_age_nor_a_new_production_takes_a_running_canary_away(gateway: Gateway) -> None:
    gateway.world.tags[V2] = passed(V2), None
    await gateway.serve(production=V1, canary=V2)
    await gateway.look()
    gateway.now += 1000 * HOUR
    gateway.world.tags.clear()
    await gateway.serve(production=V3, canary=V2)
    questions = len(gateway.world.gate_questions)
    await gateway.look()

    assert gateway.reason is Reason.HASH
    assert gateway.why().endswith("; production is now v3")
    assert len(gateway.world.gate_questions) == questions, "its tags are read no more"


async def test_one_that_left_and_comes_back_has_to_pass_anew(gateway: Gateway) -> None:
    gateway.world.tags[V2] = passed(V2), None
    await gateway.serve(production=V1, canary=V2)
    await gateway.look()
    await gateway.serve(production=V1)
    await gateway.look()
    gateway.now += 1000 * HOUR
    await gateway.serve(production=V1, canary=V2)
    await gateway.look()

    assert gateway.state() == ("held", ["too_old"])


async def test_a_registry_that_does_not_answer_holds_and_says_so(gateway: Gateway) -> None:
    gateway.world.tags[V2] = passed(V2), None
    gateway.world.tags_unreadable = True
    await gateway.serve(production=V1, canary=V2)
    await gateway.look()

    assert gateway.state() == ("held", ["not_read"])
    assert gateway.why() == "the registry does not say what it has of it: connection refused"
    gateway.world.tags_unreadable = False
    await gateway.look()
    assert gateway.reason is Reason.HASH


async def test_a_registry_that_comes_and_goes_is_no_news_of_what_is_held(gateway: Gateway) -> None:
    await gateway.serve(production=V1, canary=V2)
    for _ in range(3):
        gateway.world.registry_down = False
        await gateway.look()
        gateway.world.registry_down = True
        await gateway.look()

    assert gateway.state() == ("held", ["not_read"])
    assert gateway.told == [("canary", "no_record")]


@pytest.mark.parametrize("slow", [{V1}, {V1, V2}], ids=["one", "two"])
async def test_versions_that_are_slow_to_read_keep_no_other_from_being_asked_about(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, slow: set[VersionId]
) -> None:
    """A run or a LoggedModel may be slow, and nothing else of the registry."""
    challenger = Alias("challenger")
    split = {"production": 98, "canary": 1, "challenger": 1}
    gateway.configure(split, canary="required", production="report")
    gateway.world.tags = {version: (passed(version), None) for version in (V1, V2, V3)}
    answer = gateway.world.gate_evidence

    async def asked(version: VersionId, required: Sequence[str], *, deadline_seconds: float) -> GateEvidence:
        evidence = await answer(version, required, deadline_seconds=deadline_seconds)
        if version in slow:
            gateway.clock.now += deadline_seconds
            raise RegistryUnavailable("no answer within 5 s")
        return evidence

    monkeypatch.setattr(gateway.world, "gate_evidence", asked)
    await gateway.serve(production=V1, canary=V2, challenger=V3)
    await gateway.watch.tick()
    assert gateway.world.gate_questions == [V1], "silence about one is silence about all, in one tick"
    assert gateway.state(challenger) == ("held", ["not_read"])

    for _ in slow:
        gateway.clock.now += 1.0
        await gateway.watch.tick()
    assert gateway.state(challenger) == ("passed", [])
    assert gateway.state(PRODUCTION) == ("not_passed", ["not_read"])

    slow = set()
    await gateway.look()
    assert {gateway.state(alias)[0] for alias in gateway.manager.bound} == {"passed"}


async def test_while_polls_fail_it_is_not_asked_for_tags(gateway: Gateway) -> None:
    await gateway.serve(production=V1, canary=V2)
    gateway.world.registry_down = True
    await gateway.look()

    assert gateway.world.gate_questions == []
    assert gateway.state() == ("held", ["not_read"])


async def test_what_was_let_through_before_a_restart_stays_without_a_registry(
    gateway: Gateway,
) -> None:
    """By the record beside the caps, as it is written to disk and told to other gateways."""
    gateway.world.tags[V2] = passed(V2), None
    await gateway.serve(production=V1, canary=V2)
    await gateway.look()
    written = records_to_json(gateway.caps.known)
    models, _, caps = another_gateway(gateway)
    caps.restore(records_from_json(written))
    manager = models.managers["sentiment"]
    manager.set_aspired_from_cache({PRODUCTION: V1, CANARY: V2})
    manager.first_poll_ended()
    await until(lambda: len(manager.bound) == 2)

    assert not models.table.models["sentiment"].gated
    assert manager.gate_holds.to_json(CANARY) == {
        "state": "passed",
        "why": "it was let through before",
        "objections": [],
    }
    await models.close(0.0)


async def test_a_gateway_that_starts_late_lets_through_what_others_do(gateway: Gateway) -> None:
    """Else three replicas would give one key to different versions once a record is too old."""
    gateway.world.tags[V2] = passed(V2), None
    await gateway.serve(production=V1, canary=V2)
    await gateway.look()
    models, facts, caps = another_gateway(gateway)
    late = Gateway(models, gateway.world, facts, caps, Clock(), now=NOW + 1000 * HOUR)
    await late.serve(production=V1, canary=V2)
    await late.look()
    assert late.state() == ("held", ["too_old"])

    assert caps.merge(gateway.caps.known.records)
    assert late.reason is Reason.HASH, "in the turn of the loop in which it is known"
    assert late.why().startswith(
        "it was let through before, and would not now: its tag canary_router.gate is"
    )
    await models.close(0.0)


async def test_what_was_let_through_before_is_held_once_its_tag_is_seen_to_be_gone(gateway: Gateway) -> None:
    """Another version may have been registered under its number meanwhile."""
    gateway.world.tags[V2] = passed(V2), None
    await gateway.serve(production=V1, canary=V2)
    await gateway.look()
    models, facts, caps = another_gateway(gateway)
    caps.restore(gateway.caps.known.records)
    late = Gateway(models, gateway.world, facts, caps, Clock())
    gateway.world.tags[V2] = None, None
    gateway.world.tags_unreadable = True
    await late.serve(production=V1, canary=V2)
    assert late.reason is Reason.HASH
    await late.look()
    assert late.reason is Reason.HASH, "nothing is known"

    gateway.world.tags_unreadable = False
    await late.look()
    assert late.state() == ("held", ["no_record"])
    assert late.told == [("canary", "passed"), ("canary", "no_record")]
    await models.close(0.0)


@pytest.mark.parametrize(
    ("tag", "override", "later", "held"),
    [
        pytest.param(None, let_through(V2), 2 * HOUR, [], id="the override ended"),
        pytest.param(passed(V2, verdict=Verdict.FAIL), let_through(V2), 2 * HOUR, [], id="it failed, too"),
        pytest.param(passed(V2), None, -2 * HOUR, [], id="a clock that is behind"),
        pytest.param(None, let_through(V2), -2 * HOUR, [], id="a clock that is behind an override"),
        pytest.param(
            None, let_through(V1), 2 * HOUR, ["no_record", "other_version", "too_old"], id="another's"
        ),
        pytest.param(passed(V1), None, -2 * HOUR, ["other_version", "ahead"], id="another's, and ahead"),
    ],
)
async def test_a_restart_excuses_what_only_time_took_from_the_tag_that_lets_through(
    gateway: Gateway, tag: str | None, override: str | None, later: float, held: list[str]
) -> None:
    """Nobody needed the gate's own tag of what an override let through."""
    gateway.world.tags[V2] = passed(V2), None
    await gateway.serve(production=V1, canary=V2)
    await gateway.look()
    gateway.world.tags[V2] = tag, override
    models, facts, caps = another_gateway(gateway)
    caps.restore(gateway.caps.known.records)
    late = Gateway(models, gateway.world, facts, caps, Clock(), now=NOW + later)
    await late.serve(production=V1, canary=V2)
    await late.look()
    await late.look()

    assert late.state() == ("held" if held else "passed", held)
    await models.close(0.0)


async def test_an_override_that_ended_is_still_shown_as_one_after_a_restart(gateway: Gateway) -> None:
    """Nobody has looked at that version yet, however long ago somebody let it through."""
    gateway.world.tags[V2] = None, let_through(V2)
    await gateway.serve(production=V1, canary=V2)
    await gateway.look()
    models, facts, caps = another_gateway(gateway)
    caps.restore(records_from_json(records_to_json(gateway.caps.known)))
    late = Gateway(models, gateway.world, facts, caps, Clock(), now=NOW + 2 * HOUR)
    gateway.world.tags_unreadable = True
    await late.serve(production=V1, canary=V2)
    assert late.state() == ("overridden", []), "before anything is read"
    assert facts.of(GatePassed)[0].override
    gateway.world.tags_unreadable = False
    await late.look()

    assert late.reason is Reason.HASH
    assert late.state() == ("overridden", [])
    [warning] = late.manager.gate_holds.warnings()
    assert warning == (
        f"canary v2 has not passed the gate: let through by anna until {utc(NOW + HOUR, 'seconds')}: "
        "an emergency, and would not now: it has no tag canary_router.gate; "
        f"its tag canary_router.override ended at {utc(NOW + HOUR, 'seconds')}"
    )
    assert late.manager.gate_holds.passes()[CANARY], "it has its share"

    gateway.world.tags[V2] = passed(V2, at=NOW + HOUR), let_through(V2)
    late.watch.look_again()
    await late.look()
    assert late.state() == ("overridden", []), "what serves is not asked about again"
    models_after, facts_after, caps_after = another_gateway(gateway)
    caps_after.restore(late.caps.known.records)
    last = Gateway(models_after, gateway.world, facts_after, caps_after, Clock(), now=NOW + 3 * HOUR)
    await last.serve(production=V1, canary=V2)
    await last.look()
    assert last.state() == ("passed", [])
    assert last.manager.gate_holds.warnings() == []
    assert not caps_after.known.records[passage_of(V2)].overrides
    await models_after.close(0.0)
    await models.close(0.0)


async def test_a_hold_out_that_is_required_since_holds_nobody_who_was_let_through_before(
    gateway: Gateway,
) -> None:
    gateway.world.tags[V2] = passed(V2), None
    await gateway.serve(production=V1, canary=V2)
    await gateway.look()
    models, facts, caps = another_gateway(gateway, require=["holdout"])
    caps.restore(gateway.caps.known.records)
    late = Gateway(models, gateway.world, facts, caps, Clock())
    await late.serve(production=V1, canary=V2)
    await late.look()
    assert late.state() == ("passed", [])

    await late.serve(production=V1)
    await late.look()
    await late.serve(production=V1, canary=V2)
    await late.look()
    assert late.state() == ("held", ["no_holdout"]), "it came anew"
    await models.close(0.0)


def another_gateway(gateway: Gateway, **gate: object) -> tuple[ModelSet, Facts, CapControl]:
    facts, in_force = Facts(), CapsInForce()
    dependencies = replace(gateway.models._dependencies, recorder=facts, caps=in_force)
    models = ModelSet(dependencies)
    models.apply({"sentiment": settings(split=HALF, gate={"canary": "required", **gate})})
    return models, facts, CapControl(in_force, models, facts, lambda: NOW)


async def test_no_verb_lifts_the_hold_and_what_the_gate_notes_is_no_cap(gateway: Gateway) -> None:
    await gateway.serve(production=V1, canary=V2)
    await gateway.look()
    gateway.caps.cap([CapTarget("sentiment", CANARY, 2)], 0, by="ann", reason="slow")
    gateway.caps.lift(gateway.caps.caps_of("sentiment"), by="ann", reason="mended")
    gateway.caps.reset_breakers("sentiment")
    assert gateway.reason is Reason.GATED

    gateway.world.tags[V2] = passed(V2), None
    await gateway.look()
    assert gateway.reason is Reason.HASH
    await gateway.serve(production=V1)
    await gateway.look()  # what left is noted with a share of 0
    assert gateway.caps.of_model("sentiment") == []
    assert gateway.caps.caps_of("sentiment") == []


async def test_an_override_lets_it_through_and_is_shown(gateway: Gateway) -> None:
    gateway.world.tags[V2] = None, let_through(V2)
    await gateway.serve(production=V1, canary=V2)
    await gateway.look()

    assert gateway.reason is Reason.HASH
    assert gateway.state() == ("overridden", [])
    [warning] = gateway.manager.gate_holds.warnings()
    assert warning.startswith("canary v2 has not passed the gate: let through by anna until ")
    assert gateway.facts.of(GatePassed)[0].override


async def test_the_gate_may_be_turned_on_and_off_under_a_running_canary(gateway: Gateway) -> None:
    gateway.configure(canary="off")
    await gateway.serve(production=V1, canary=V2)
    await gateway.look()
    assert gateway.reason is Reason.HASH
    assert gateway.world.gate_questions == []
    assert gateway.manager.gate_holds.to_json(CANARY) is None

    gateway.configure(canary="required")
    assert gateway.reason is Reason.GATED
    await gateway.look()
    gateway.configure(canary="off")
    assert gateway.reason is Reason.HASH


async def test_another_rule_is_asked_by_at_once(gateway: Gateway) -> None:
    gateway.world.tags[V2] = passed(V2), None
    gateway.configure(canary="required", require=["description"])
    await gateway.serve(production=V1, canary=V2)
    await gateway.watch.tick()
    assert gateway.state() == ("held", ["metadata"])

    gateway.configure(canary="required")
    await gateway.watch.tick()
    assert gateway.state() == ("passed", [])


async def test_the_registry_is_asked_once_per_poll_and_at_once_when_told_to(gateway: Gateway) -> None:
    await gateway.serve(production=V1, canary=V2)
    for _ in range(3):
        await gateway.watch.tick()
        gateway.clock.now += 1.0
    assert gateway.world.gate_questions == [V2]

    gateway.watch.look_again()
    await gateway.watch.tick()
    assert gateway.world.gate_questions == [V2, V2]


async def test_a_canary_on_productions_own_version_is_not_held(gateway: Gateway) -> None:
    await gateway.serve(production=V1, canary=V1)
    assert gateway.reason is Reason.SAME_VERSION
    assert gateway.manager.gate_holds.to_json(CANARY) is None

    await gateway.serve(production=V3, canary=V1)
    assert gateway.reason is Reason.GATED


async def test_production_is_served_whatever_the_gate_says_and_reported(gateway: Gateway) -> None:
    gateway.configure(canary="required", production="report")
    gateway.world.tags_unreadable = True
    await gateway.serve(production=V1)
    assert gateway.state(PRODUCTION) == ("not_judged", [])
    assert gateway.reason is Reason.CANARY_ABSENT
    gateway.world.tags_unreadable = False
    await gateway.look()

    assert gateway.state(PRODUCTION) == ("not_passed", ["no_record"])
    assert gateway.manager.gate_holds.warnings() == [
        "production v1 has not passed the gate: it has no tag canary_router.gate"
    ]
    assert gateway.facts.of(GateNotPassed)[-1].held is False
    gateway.world.tags[V1] = passed(V1), None
    await gateway.look()
    assert gateway.state(PRODUCTION) == ("passed", [])
    assert gateway.told == [("production", "no_record"), ("production", "passed")]


async def test_productions_record_does_not_age(gateway: Gateway) -> None:
    """It is as old as production serves: else each gateway that starts would report what serves for weeks."""
    gateway.configure(canary="required", production="report")
    gateway.world.tags[V1] = passed(V1), None
    gateway.now += 1000 * HOUR
    await gateway.serve(production=V1)
    await gateway.look()

    assert gateway.state(PRODUCTION) == ("passed", [])


async def test_a_canary_that_passed_has_passed_when_it_is_promoted(gateway: Gateway) -> None:
    gateway.configure(canary="required", production="report")
    gateway.world.tags = {V1: (passed(V1), None), V2: (passed(V2), None)}
    await gateway.serve(production=V1, canary=V2)
    await gateway.look()
    gateway.world.tags.clear()
    await gateway.serve(production=V2)
    await gateway.look()

    assert gateway.state(PRODUCTION) == ("passed", [])


async def test_where_production_is_reported_a_canary_is_only_shown(gateway: Gateway) -> None:
    """So that a promotion knows."""
    gateway.configure(production="report")
    await gateway.serve(production=V1, canary=V2)
    await gateway.look()

    assert gateway.reason is Reason.HASH
    assert gateway.state() == ("not_passed", ["no_record"])
    assert gateway.told == [("production", "no_record")]
    assert len(gateway.manager.gate_holds.warnings()) == 1


@pytest.mark.parametrize("tags_unreadable", [False, True])
async def test_production_goes_back_without_a_look_at_the_gate(
    gateway: Gateway, *, tags_unreadable: bool
) -> None:
    gateway.configure(
        canary="required", production="report", require=["description"], key_file="/nonexistent"
    )
    gateway.world.tags_unreadable = tags_unreadable
    for version in (V1, V3, V1):
        await gateway.serve(production=version)  # no tick of the gate in between

    assert gateway.world.gate_questions == []
    assert gateway.manager.bound == {PRODUCTION: V1}


async def test_a_model_that_leaves_while_it_is_asked_about_is_not_touched(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await gateway.serve(production=V1, canary=V2)
    asked: Callable[..., object] = gateway.world.gate_evidence

    async def gone(*arguments: object, **named: object) -> object:
        gateway.models.apply({})
        return await asked(*arguments, **named)  # type: ignore[misc] # the fake's own

    monkeypatch.setattr(gateway.world, "gate_evidence", gone)
    await gateway.watch.tick()

    assert gateway.told == []
