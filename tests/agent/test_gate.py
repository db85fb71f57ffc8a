"""What the agent reads of a version that has to pass the gate, and when it asks the tracking server."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, RESOURCE_DOES_NOT_EXIST

from router.agent.gate import read_evidence
from router.core.gate_record import GATE_TAG, MOST_BYTES, OVERRIDE_TAG
from router.core.ids import VersionId


@dataclass
class FakeRegistry:
    """A registry and its tracking server; `asked` has what was read of the second."""

    tags: dict[str, str] = field(default_factory=dict)
    description: str | None = None
    run: dict[str, Any] | MlflowException = field(default_factory=dict)
    logged: dict[str, Any] | MlflowException = field(default_factory=dict)
    model_id: str | None = "m-1"
    asked: list[str] = field(default_factory=list)

    def client(self) -> "FakeRegistry":
        return self

    tracking = client

    def get_model_version(self, model: str, number: str) -> SimpleNamespace:
        return SimpleNamespace(
            version=number,
            tags=self.tags,
            description=self.description,
            run_id="r-1",
            model_id=self.model_id,
            source="s",
            creation_timestamp=1,
        )

    def get_run(self, run_id: str) -> SimpleNamespace:
        self.asked.append(run_id)
        if isinstance(self.run, MlflowException):
            raise self.run
        return SimpleNamespace(data=SimpleNamespace(**{"params": {}, "tags": {}, "metrics": {}, **self.run}))

    def get_logged_model(self, model_id: str) -> SimpleNamespace:
        self.asked.append(model_id)
        if isinstance(self.logged, MlflowException):
            raise self.logged
        return SimpleNamespace(**{"params": None, "tags": None, "metrics": None, **self.logged})


def missing(registry: FakeRegistry, *required: str) -> tuple[str, ...]:
    return read_evidence(registry, "m", 7, required).missing


def test_both_tags_and_what_no_other_version_shares_are_read_at_once() -> None:
    registry = FakeRegistry({GATE_TAG: "g", OVERRIDE_TAG: "o", "other": "x"})

    evidence = read_evidence(registry, "m", 7)

    assert (evidence.gate_tag, evidence.override_tag) == ("g", "o")
    assert evidence.of.version == VersionId("m", 7)
    assert (evidence.of.run_id, evidence.of.model_id) == ("r-1", "m-1")
    assert len(evidence.of.fingerprint) == 12
    assert registry.asked == []


def test_metadata_may_be_of_the_version_its_run_or_its_logged_model() -> None:
    metric = SimpleNamespace(key="auc", value=0.9)
    registry = FakeRegistry(
        {"approved_by": "anna"},
        run={"params": {"training_data_hash": "3f"}, "tags": {"mlflow.note.content": "trained in May"}},
        logged={"params": {"lr": "0.1"}, "metrics": [metric]},
    )

    assert missing(registry, "tags.approved_by") == ()
    assert registry.asked == []  # what the version has itself costs no further read
    assert missing(registry, "params.training_data_hash", "description") == ()
    assert registry.asked == ["r-1"]
    assert missing(registry, "params.lr", "metrics.auc", "params.absent") == ("params.absent",)


def test_a_run_that_was_deleted_has_nothing_and_is_no_failure() -> None:
    gone = MlflowException("no such run", RESOURCE_DOES_NOT_EXIST)

    assert missing(FakeRegistry(run=gone, logged=gone), "params.lr") == ("params.lr",)
    assert missing(FakeRegistry(run=gone, model_id=None), "params.lr") == ("params.lr",)


def test_a_tracking_server_that_fails_is_no_missing_metadata() -> None:
    """Else a version were refused by name for what nobody looked at."""
    with pytest.raises(MlflowException, match="broken"):
        missing(FakeRegistry(run=MlflowException("broken", INTERNAL_ERROR)), "params.lr")


def test_no_more_of_a_tag_is_read_than_shows_that_it_is_too_long() -> None:
    evidence = read_evidence(FakeRegistry({GATE_TAG: "x" * 100_000}), "m", 7)

    assert evidence.gate_tag is not None
    assert len(evidence.gate_tag) == MOST_BYTES + 1
