"""What describes a version that runs elsewhere: its MLmodel, and its example as a request of the protocol."""

import json
from pathlib import Path

import pytest

from router.core.ids import VersionId
from router.protocol.messages import LoadSpec, PredictStatus, Query, ScoringProtocol, TensorInfo
from router.worker.description_main import describe
from router.worker.load import load_version
from tests.support.saved_versions import saved_versions

MLFLOW, V2 = ScoringProtocol.MLFLOW, ScoringProtocol.V2


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_versions(tmp_path_factory)


def test_it_says_what_the_version_would_say_of_itself(versions: Path) -> None:
    loaded = load_version(LoadSpec(VersionId("churn", 1), str(versions / "churn"), None)).info

    info, _ = describe(str(versions / "churn"), VersionId("churn", 1), MLFLOW)

    assert (info.run_id, info.flavor, info.inputs) == (loaded.run_id, loaded.flavor, loaded.inputs)
    assert (info.has_signature, info.has_example, info.effects) == (True, True, "")
    assert (info.scores, info.batching.merges, info.phase_seconds) == ((), False, {})


@pytest.mark.parametrize("protocol", [MLFLOW, V2])
@pytest.mark.parametrize("name", ["churn", "far"])
def test_its_example_becomes_a_request_that_the_version_answers(
    versions: Path, name: str, protocol: ScoringProtocol
) -> None:
    """With and without a signature."""
    version, directory = VersionId(name, 1), str(versions / name)

    _, example = describe(directory, version, protocol)

    scorer = load_version(LoadSpec(version, directory, None)).scorer
    assert scorer.answer(Query(example, None, protocol=protocol)).predict_status is PredictStatus.OK


def test_columns_become_tensors_by_their_names(versions: Path) -> None:
    info, example = describe(str(versions / "churn"), VersionId("churn", 1), V2)

    tensors = json.loads(example)["inputs"]
    assert [tensor["name"] for tensor in tensors] == [tensor.name for tensor in info.inputs]
    assert [len(tensor["data"]) for tensor in tensors] == [tensor["shape"][0] for tensor in tensors]


def test_a_version_without_an_example_has_a_note(versions: Path) -> None:
    info, example = describe(str(versions / "plain"), VersionId("plain", 1), MLFLOW)

    assert example == b""
    assert info.note == "it has no input example, so nothing is asked before it serves."


def test_of_a_version_whose_signature_names_outputs_they_are_described(versions: Path) -> None:
    info, _ = describe(str(versions / "echo_tensors"), VersionId("echo_tensors", 1), V2)

    assert info.outputs == info.inputs
    assert all(isinstance(one, TensorInfo) for one in info.outputs)
