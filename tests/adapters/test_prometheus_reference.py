"""`docs/metrics.md` is what the code exports, no more and no less."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from router.adapters.prometheus.catalog import LOOPS, PREFIX, Catalog
from router.control.periodic import PeriodicTask
from tests.support import metrics_reference as reference
from tests.support.document_blocks import first_cells
from tests.support.sample_events import Clock, live_of, one_of_each, recorder_at, samples

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_page_is_the_one_that_the_code_makes() -> None:
    """Made anew by `python -m tests.support.metrics_reference > docs/metrics.md`."""
    made = subprocess.run(
        [sys.executable, "-m", "tests.support.metrics_reference"],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (made.returncode, made.stderr) == (0, "")
    assert PAGE.read_text(encoding="utf-8") == made.stdout


def test_every_metric_has_a_line() -> None:
    assert [f"{PREFIX}{name}" for name in first_cells(PAGE, "Metrics")][: len(Catalog().families)] == [
        family.name for family in Catalog().families
    ]


def test_a_family_that_is_new_is_reported_without_a_change_here(monkeypatch: pytest.MonkeyPatch) -> None:
    class Larger(Catalog):
        def __init__(self) -> None:
            super().__init__()
            self._gauge("drift", "How far apart.", "model", "output", "alias")
            self._histogram("steps", "How long.", (1, 2.5), "model", "alias", "version", "class")

    monkeypatch.setattr(reference, "Catalog", Larger)
    page = reference.page()

    assert "| `drift` | gauge | model, output, alias | How far apart. | – | with the alias |" in page
    assert (
        "| `steps` | histogram | model, alias, version, class | How long. | 1 2.5 | with the version |"
        in page
    )
    assert "| `class` | all | the classes of `scores` |" in page


def test_a_label_that_is_new_must_be_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    class Larger(Catalog):
        def __init__(self) -> None:
            super().__init__()
            self._gauge("drift", "How far apart.", "model", "mood")

    monkeypatch.setattr(reference, "Catalog", Larger)
    with pytest.raises(ValueError, match="mood"):
        reference.page()


def test_every_loop_of_the_gateway_is_on_the_list() -> None:
    """Or its failures would count as `__other__`, and not from 0 on."""
    calls = [
        node
        for module in (PAGE.parents[1] / "router").rglob("*.py")
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == PeriodicTask.__name__
    ]

    assert sorted(call.args[0].value for call in calls) == sorted(LOOPS)


def test_no_label_has_a_value_that_is_not_on_its_list() -> None:
    """Of what every kind of fact exports."""
    recorder = recorder_at(Clock())
    for event in one_of_each():
        recorder.record(event)
    recorder.watch(lambda: live_of(7, 8))
    checked = set()
    for key in samples(recorder):
        family, _, labels = key.partition("{")
        family = re.sub("_(bucket|sum|count)$", "", family)
        for label, value in re.findall(r"(\w+)=([^,}]*)", labels):
            if (label, family) in reference.LISTED:
                assert value in {*reference.LISTED[label, family], "__other__"}, key
                checked.add((label, family))
    assert checked == reference.LISTED.keys()
