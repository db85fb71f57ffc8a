"""States of runs as other gateways send them: refused unless a run may have dumped them."""

from collections.abc import Callable

import msgspec
import pytest

from router.analysis.joined_runs import JoinedRun, JoinedRuns, PackedRun, unpack_run
from router.analysis.run_state import RunStateData
from tests.support.evidence import SUBJECT, a_state

STATE = a_state(3)


def packed(state: RunStateData = STATE, number: int = 1, verdict_cell: int = STATE.horizon) -> bytes:
    return msgspec.msgpack.encode(PackedRun(SUBJECT, number, state, verdict_cell))


def test_what_a_gateway_packs_is_read() -> None:
    runs = JoinedRuns()
    runs.put(JoinedRun.load(SUBJECT, 2, STATE, STATE.horizon))
    sent = runs.pack(SUBJECT.key)
    assert sent is not None
    run = unpack_run(sent)

    assert (run.id.number, run.verdict_cell, run.state.dump()) == (2, STATE.horizon, STATE)


def changed(change: Callable[[RunStateData], None]) -> RunStateData:
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(STATE), type=RunStateData)
    change(state)
    return state


def cut_off(state: RunStateData) -> None:
    state.events = state.events[:-1]


def before_its_begin(state: RunStateData) -> None:
    state.horizon = state.first_cell - 2


def not_a_number(state: RunStateData) -> None:
    state.latency.non_inferiority.ln_l = float("nan")


def too_many(state: RunStateData) -> None:
    state.left_out = 2**60


@pytest.mark.parametrize("change", [cut_off, before_its_begin, not_a_number, too_many])
def test_a_state_that_no_run_dumps_is_refused(change: Callable[[RunStateData], None]) -> None:
    with pytest.raises(ValueError, match="state"):
        unpack_run(packed(changed(change)))


@pytest.mark.parametrize("number", [0, -1, 2**60])
def test_a_number_that_no_run_has_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        unpack_run(packed(number=number))
