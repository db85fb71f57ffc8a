"""Which libraries get how many threads, and when predicts are measured at all."""

import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from router.core.cpu_threads import WINDOW
from router.worker import predict_threads
from router.worker.predict_threads import PredictThreads, use_threads

ONE_ROW: Any = [SimpleNamespace(rows=1)]


@pytest.fixture(autouse=True)
def _as_before() -> Any:
    with threadpool_limits():
        yield


def predict(threads: PredictThreads, seconds: float = 0.02) -> None:
    threads.begin()
    threads.end(seconds, ONE_ROW)


def test_every_library_that_computes_gets_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(set_num_threads=given.append))

    use_threads(2)

    assert {one["num_threads"] for one in threadpool_info()} == {2}
    assert given == [2]


def test_a_module_of_a_version_that_is_called_torch_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())
    use_threads(1)
    assert {one["num_threads"] for one in threadpool_info()} == {1}


@pytest.fixture
def computing(monkeypatch: pytest.MonkeyPatch) -> PredictThreads:
    """Of a version that computes, by a clock on which each look takes 20 ms, and that had its trial."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(predict_threads, "process_time", lambda: 0.02 * next(ticks))
    threads = PredictThreads()
    for _ in range(WINDOW + 1):
        predict(threads)
    assert threads.chosen.computes
    threads.limit(2)
    for _ in range(2 * WINDOW):
        threads.begin()
        in_force = {one["num_threads"] for one in threadpool_info()}
        threads.end(0.02 / max(in_force), ONE_ROW)
    threads.begin()
    assert threads.chosen.threads == 2
    assert {one["num_threads"] for one in threadpool_info()} == {2}
    return threads


def test_news_are_handed_out_once(computing: PredictThreads) -> None:
    news = computing.news()
    assert news == computing.chosen
    assert computing.news() is None


def test_predicts_that_come_to_run_side_by_side_have_one_thread_at_once(computing: PredictThreads) -> None:
    computing.run(one_by_one=False)
    assert {one["num_threads"] for one in threadpool_info()} == {1}
    predict(computing)
    assert (computing.chosen.threads, computing.chosen.computes) == (1, False)

    computing.run(one_by_one=True)
    computing.begin()
    assert {one["num_threads"] for one in threadpool_info()} == {2}


def test_a_predict_in_another_thread_changes_nothing(computing: PredictThreads) -> None:
    """One that began while they ran side by side may end later."""
    computing.limit(1)
    other = threading.Thread(target=predict, args=(computing,))
    other.start()
    other.join()
    assert {one["num_threads"] for one in threadpool_info()} == {2}


def test_no_clock_is_read_for_a_version_whose_predicts_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[None] = []
    monkeypatch.setattr(predict_threads, "process_time", lambda: read.append(None) or 0.0)
    threads = PredictThreads()
    for _ in range(3 * WINDOW):
        predict(threads, 0.004)
    assert read == []
    assert threads.chosen.why == "its predicts take less than 5 ms of a processor"
