"""From a version to the place its files lie in."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from router.agent.errors import VersionAbsent, VersionRefused
from router.agent.source import read_source


@dataclass
class FakeRegistry:
    """A registry whose download URIs the test says; LoggedModel `m-1` lies in `s3://bucket/m-1`."""

    locations: dict[tuple[str, str], str]
    version: dict[str, Any] = field(default_factory=dict)

    def client(self) -> "FakeRegistry":
        return self

    def tracking(self) -> SimpleNamespace:
        return SimpleNamespace(
            get_logged_model=lambda model_id: SimpleNamespace(artifact_location=f"s3://bucket/{model_id}")
        )

    def get_model_version(self, model: str, number: str) -> SimpleNamespace:
        facts = {"creation_timestamp": 1, "source": "s", "run_id": "r", "model_id": None, "status": "READY"}
        return SimpleNamespace(**{**facts, "version": number, **self.version})

    def get_model_version_download_uri(self, model: str, number: str) -> str:
        return self.locations[model, number]


def location_of(uri: str) -> str:
    return read_source(FakeRegistry({("m", "1"): uri, ("n", "2"): "s3://bucket/n"}), "m", 1).uri


@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("mlflow-artifacts:/1/models/m-1/artifacts", "mlflow-artifacts:/1/models/m-1/artifacts"),
        ("/var/mlruns/0/models/m-1/artifacts", "/var/mlruns/0/models/m-1/artifacts"),
        ("models:/m-1", "s3://bucket/m-1"),
        ("models:/n/2", "s3://bucket/n"),
    ],
)
def test_a_source_is_followed_to_its_artifacts(uri: str, location: str) -> None:
    assert location_of(uri) == location


@pytest.mark.parametrize(
    "uri", ["models:/n@production", "models:/n/Production", "models:/n/latest", "models:/"]
)
def test_a_source_that_may_move_is_refused(uri: str) -> None:
    """An alias is resolved once, in the poll; every download names the version."""
    with pytest.raises(VersionRefused, match="names no fixed version"):
        location_of(uri)


def test_versions_that_point_at_each_other_are_refused() -> None:
    with pytest.raises(VersionRefused, match="without an end"):
        location_of("models:/m/1")


def test_a_version_whose_registration_is_not_ready_is_not_there_yet() -> None:
    """No rule refuses it: it may be served as soon as it is whole."""
    registry = FakeRegistry({("m", "1"): "s3://b"}, {"status": "PENDING_REGISTRATION"})

    with pytest.raises(VersionAbsent, match="PENDING"):
        read_source(registry, "m", 1)


def test_an_answer_about_another_version_is_no_answer() -> None:
    with pytest.raises(ConnectionError):
        read_source(FakeRegistry({("m", "1"): "s3://b"}, {"version": "0"}), "m", 1)


@pytest.mark.parametrize("fact", ["creation_timestamp", "source", "run_id", "model_id"])
def test_the_fingerprint_distinguishes_two_registries(fact: str) -> None:
    locations = {("m", "1"): "s3://b"}
    one = read_source(FakeRegistry(locations), "m", 1).fingerprint
    other = read_source(FakeRegistry(locations, {fact: "another"}), "m", 1).fingerprint

    assert one != other
    assert {len(one), len(other)} == {12}


def test_the_fingerprint_is_the_same_over_rest_and_sql() -> None:
    """REST gives the number as text and what is missing as an empty text."""
    locations = {("m", "1"): "s3://b"}
    sql = read_source(FakeRegistry(locations, {"run_id": None, "version": 1}), "m", 1)
    rest = read_source(FakeRegistry(locations, {"run_id": "", "model_id": "", "version": "1"}), "m", 1)

    assert sql == rest
