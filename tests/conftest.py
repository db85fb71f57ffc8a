"""Fixtures that every room shares, and the rule that CI skips nothing."""

import gc
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings as hypothesis_settings
from xdist.remote import Producer

from router.processes.gc_tuning import collector_off
from tests.support import slowness
from tests.support.examples import USUAL, examples
from tests.support.scheduling import GroupScheduling, longest_first

Figure = Callable[[str], None]
# How long one example takes says more of what else the machine does than of what is tested.
hypothesis_settings.register_profile("tests", deadline=None, max_examples=examples(USUAL))
hypothesis_settings.load_profile("tests")

ROW = re.compile(r"\bRows? (\d+)")


class Measured(NamedTuple):
    """A figure, and the test that measured it."""

    row: str
    """Of the promise in `docs/reliability.md`, as the test's docstring says it; empty when it names none."""
    test: str
    figure: str


FIGURE = "figure"
SLOWNESS = pytest.StashKey[str]()
STATE_HOME = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Whatever gateway a test starts, it leaves nothing in the home directory of who runs the tests."""
    home = Path(tempfile.mkdtemp(prefix="canary-router-state-"))
    config.stash[STATE_HOME] = home
    os.environ.pop("STATE_DIRECTORY", None)
    os.environ["XDG_STATE_HOME"] = str(home)


def pytest_unconfigure(config: pytest.Config) -> None:
    if home := config.stash.get(STATE_HOME, None):
        shutil.rmtree(home, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Measure how slow this machine is, before xdist starts its workers, which inherit the factor."""
    config = session.config
    if not hasattr(config, "workerinput") and not config.getoption("collectonly"):
        workers = config.getoption("tx", None) or ()
        config.stash[SLOWNESS] = slowness.settle(max(1, len(workers)))


def pytest_report_header(config: pytest.Config) -> str | None:
    return config.stash.get(SLOWNESS, None)


@pytest.hookimpl(optionalhook=True)  # there is no such hook without xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupScheduling:
    """In the place of `--dist`."""
    return GroupScheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session):  # type: ignore[no-untyped-def]
    """Nothing that is imported or collected is garbage, and looking for some takes a third of the time.

    It stays to the end, and every later look would pass over its million objects again.
    """
    with collector_off():
        collected = yield
        gc.freeze()
        return collected


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest first; and the most that one test may take is widened as the bounds within it are."""
    longest_first(items)
    if config.getoption("timeout", None) is None:
        for item in items:
            marker = item.get_closest_marker("timeout")
            seconds = marker.args[0] if marker else float(config.getini("timeout"))
            item.add_marker(pytest.mark.timeout(seconds * slowness.slack()), append=False)


@pytest.fixture(autouse=True)
def loggers_speak() -> Iterator[None]:
    """Who opens a registry silences them, as in the process of an agent; here that would be for all tests."""
    logging.disable(logging.NOTSET)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="session")
def slack() -> float:
    """Factor by which bounds in seconds are widened on a slow machine."""
    return slowness.slack()


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Notes a measured figure of this test; all are shown at the end of the run.

    Where `FAULTS_FIGURES` names a file, they are written there too, as a Markdown table.
    """
    row = ROW.search(request.function.__doc__ or "")

    def note(measured: str) -> None:
        reported = Measured(row[1] if row else "", request.node.name, measured)
        request.node.user_properties.append(
            (FIGURE, tuple(reported))
        )  # which comes back from other processes

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    reported = [report.user_properties for report in reports if getattr(report, "when", "") == "call"]
    figures = [Measured(*figure) for properties in reported for name, figure in properties if name == FIGURE]
    if figures:
        terminalreporter.section("figures")
        for one in figures:
            terminalreporter.line(f"{one.test}: {one.figure}")
        if path := os.environ.get("FAULTS_FIGURES"):
            write_figures(Path(path), figures)
            terminalreporter.line(f"written to {path}")


def write_figures(path: Path, figures: list[Measured]) -> None:
    """A Markdown table of `figures` by row of the promise, as `docs/reliability.md` shows them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = sorted(figures, key=lambda one: int(one.row or 1000))
    lines = [f"| {row} | `{test}` | {figure.replace('|', '/')} |" for row, test, figure in ordered]
    path.write_text("\n".join(["| row | test | figure |", "|---|---|---|", *lines]) + "\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    """Where `TESTS_MUST_RUN` is set, as in CI, a skip is a failure: a missing server must not hide."""
    report = yield
    # What was logged travels from one process to another, where a lone surrogate does not get through.
    report.sections = [(name, text.encode("utf-8", "replace").decode()) for name, text in report.sections]
    if report.skipped and os.environ.get("TESTS_MUST_RUN") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, although everything must run here: {report.longrepr}"
    return report
