"""From a directory to READY, in this process."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from router.core.scores import ScoreSpec
from router.errors import LoadFailed
from router.worker.load import Loaded, load_version
from tests.support.saved_versions import predictions, spec_of, text_query

Get = Callable[[str], Loaded]


def test_a_version_with_an_example_is_warm_when_it_is_ready(loaded: Get) -> None:
    info = loaded("signed").info

    assert set(info.phase_seconds) == {"load", "warmup"}
    assert (info.has_signature, info.has_example, info.flavor) == (True, True, "python_function")
    assert (info.scores, info.note) == ((ScoreSpec(),), "")


def test_a_version_without_an_example_is_ready_without_a_warm_up(loaded: Get) -> None:
    info = loaded("plain").info

    assert set(info.phase_seconds) == {"load"}
    assert (info.has_signature, info.has_example) == (False, False)
    assert info.scores == (ScoreSpec(),)


def test_the_flavor_is_that_of_the_library(loaded: Get) -> None:
    assert loaded("churn").info.flavor == "sklearn"


def test_answers_far_from_the_default_bins_are_not_counted_and_it_says_what_to_set(loaded: Get) -> None:
    info = loaded("far").info

    assert info.scores == ()
    assert "`models.far.scores`" in info.note


def test_an_example_logged_without_a_request_is_predicted_as_it_is(versions: Path, tmp_path: Path) -> None:
    """Files of an older MLflow have no serving_input_example.json."""
    shutil.copytree(versions / "signed", tmp_path / "signed")
    (tmp_path / "signed" / "serving_input_example.json").unlink()

    info = load_version(spec_of(tmp_path, "signed")).info

    assert "warmup" in info.phase_seconds
    assert info.note == ""


def test_an_example_that_its_own_signature_refuses_is_no_reason_to_refuse_the_version(loaded: Get) -> None:
    """MLflow serves such a version too."""
    info = loaded("refuses_example").info

    assert "warmup" not in info.phase_seconds
    assert "without a warm-up" in info.note


def test_a_version_that_raises_on_its_example_is_ready_without_being_warm(loaded: Get) -> None:
    """Its example may be the one row that it can not predict."""
    info = loaded("raises_on_example").info

    assert "warmup" not in info.phase_seconds
    assert "KeyError" in info.note
    assert "failed to predict its input example" in info.note


@pytest.mark.parametrize(
    ("name", "phase", "said"),
    [
        ("raises_on_load", "load", "RuntimeError: no such lexicon [31mxxx"),
        ("exits_on_load", "load", "SystemExit: 4"),
        ("raises_on_example", "warmup", "KeyError: 'nowhere'"),
        ("refuses_example", "warmup", "without a warm-up"),
        ("never_saved", "load", "No such artifact"),
    ],
)
def test_a_version_that_cannot_be_ready_says_in_which_phase_and_why(
    versions: Path, name: str, phase: str, said: str
) -> None:
    """One printable line of at most 500 characters."""
    with pytest.raises(LoadFailed) as failure:
        load_version(replace(spec_of(versions, name), warm_up_required=True))

    text = str(failure.value)
    assert failure.value.phase == phase
    assert said in text
    assert text.isprintable()
    assert str(versions) not in text
    assert len(text) <= 500


def test_a_corrupt_file_is_a_failed_load(versions: Path, tmp_path: Path) -> None:
    shutil.copytree(versions / "plain", tmp_path / "plain")
    pickle = tmp_path / "plain" / "python_model.pkl"
    pickle.write_bytes(pickle.read_bytes()[:100])

    with pytest.raises(LoadFailed) as failure:
        load_version(spec_of(tmp_path, "plain"))

    assert failure.value.phase == "load"


def test_a_failed_load_does_not_show_where_the_files_are(versions: Path, tmp_path: Path) -> None:
    shutil.copytree(versions / "plain", tmp_path / "plain")
    (tmp_path / "plain" / "python_model.pkl").unlink()

    with pytest.raises(LoadFailed, match=r"No such file or directory: '…") as failure:
        load_version(spec_of(tmp_path, "plain"))

    assert str(tmp_path) not in str(failure.value)


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("signed", ""),
        ("plain", ""),
        ("hinted", "decoder: MLflow's own, because its input is checked against type hints."),
        ("agent", "decoder: MLflow's own, because its flavor has an input format of its own."),
    ],
)
def test_a_version_without_a_compiled_decoder_says_so(loaded: Get, name: str, note: str) -> None:
    said = loaded(name).info.note
    assert note in said
    assert ("decoder" in said) is bool(note)


def test_an_agent_may_act_elsewhere_and_a_version_of_numbers_does_not(loaded: Get) -> None:
    assert loaded("agent").info.effects == "it is an agent, by its task agent/v1/responses"
    assert loaded("signed").info.effects == ""


def test_an_unknown_pandas_is_named_where_it_costs_the_decoder(
    versions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every version would be several times slower, silently."""
    monkeypatch.setattr("router.worker.decode.request_decoder.tables_are_known", lambda: False)
    note = load_version(spec_of(versions, "signed")).info.note

    assert note.startswith("decoder: MLflow's own, because pandas or orjson here do not build tables")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (None, "[('deep', {}), ('k', 1), ('kept', [0.5])]"),
        ({"k": 2, "deep": {"a": [1]}}, "[('deep', {'a': [1]}), ('k', 2), ('kept', [0.5])]"),
    ],
)
def test_a_version_gets_the_model_config_of_its_settings_over_its_own(
    versions: Path, given: dict[str, Any] | None, shown: str
) -> None:
    """And what it does with it reaches neither the settings nor the next load."""
    spec = replace(spec_of(versions, "configured"), model_config=given)
    for _ in range(2):
        answer = load_version(spec).scorer.answer(text_query("a"))
        assert predictions(answer.body) == [shown]
