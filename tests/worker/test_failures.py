"""What the caller and the operator learn when a request fails, and what neither learns."""

import io
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import orjson
import pytest
from msgspec.structs import replace

from router.core.ids import VersionId
from router.protocol.frames import Frame
from router.protocol.messages import (
    Answer,
    Batch,
    LoadSpec,
    PredictStatus,
    Query,
    answers_frame,
    batch_of,
)
from router.worker.answers import ErrorReporter
from router.worker.load import Loaded
from router.worker.tracking import NO_TRACKING, NoTracking
from tests.support.saved_versions import command_query, json_query, text_query

Get = Callable[[str], Loaded]
ROW = {"d": 1.5, "l": 2, "s": "x"}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("fail:secret", "ValueError"),
        ("exit:", "SystemExit"),
        ("interrupt:", "KeyboardInterrupt"),
        ("unwritable:", "cannot be written as JSON"),
    ],
)
def test_what_the_version_raises_is_its_own_fault(
    loaded: Get, command: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The caller reads what kind of failure it was, the operator where; neither reads the request."""
    answer = loaded("commands").scorer.answer(command_query(command))

    body = json.loads(answer.body)
    assert (answer.status, answer.predict_status, answer.rows) == (500, PredictStatus.MODEL_ERROR, 0)
    assert (body["error_code"], body["sqlstate"]) == ("INTERNAL_ERROR", "XXM00")
    assert said in body["message"]
    assert "secret" not in answer.body.decode() + capfd.readouterr().err


def test_a_version_that_fails_at_one_place_is_noted_once(
    loaded: Get, capfd: pytest.CaptureFixture[str]
) -> None:
    scorer = loaded("raises_often").scorer

    for _ in range(3):
        scorer.answer(text_query("good"))

    err = capfd.readouterr().err
    assert err.count("raises_often v1: ") == 1
    assert "KeyError" in err


@pytest.mark.parametrize("stream", ["closed", "full", "gone"])
def test_a_note_that_nobody_can_read_costs_no_answer(
    loaded: Get, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    """The version closed its standard error, or the disk behind it is full."""
    scorer = loaded("commands").scorer
    scorer._errors._reporter._reported.clear()
    with Path("/dev/full").open("w") as full:
        closed = io.StringIO()
        closed.close()
        monkeypatch.setattr(sys, "stderr", {"closed": closed, "full": full, "gone": None}[stream])
        answer = scorer.answer(command_query("fail:"))
        monkeypatch.undo()
        with suppress(OSError):
            full.close()
    assert answer.status == 500


def test_an_mlflow_exception_of_the_version_keeps_its_code(loaded: Get) -> None:
    answer = loaded("commands").scorer.answer(command_query("missing:secret"))

    assert (answer.status, answer.predict_status) == (404, PredictStatus.CLIENT_ERROR)
    assert json.loads(answer.body)["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    assert b"secret" not in answer.body


@pytest.mark.parametrize(
    "query",
    [
        json_query("secret"),
        Query(b"secret", None),
        Query(b'{"secret": "secret"}', None),
        Query(b"\xffsecret", None),
        json_query({"instances": "secret", "inputs": "secret"}),
        json_query({"dataframe_split": {"columns": ["d"], "data": [["secret", "secret"]]}}),
        json_query({"dataframe_split": {"secret": 1}}),
        json_query({"dataframe_records": [{**ROW, "d": "secret"}]}),
        json_query({"dataframe_records": [{**ROW, "t": "secret"}]}),
        json_query({"dataframe_records": [{**ROW, "b": "secret"}]}),
        json_query({"dataframe_records": [{"secret": "secret", "d": 1}]}),
        json_query({"dataframe_records": [ROW], "params": {"n": "secret"}}),
        json_query({"dataframe_records": [ROW], "params": ["secret"]}),
        json_query({"inputs": {"d": ["secret"], "l": [1], "s": ["secret"]}}),
        json_query({"inputs": [["secret"]]}),
        Query(b"d,l,s\nsecret,2,x\n", "text/csv"),
        Query(b'd,l,s\n"secret', "text/csv"),
    ],
)
@pytest.mark.parametrize("name", ["columns", "tensor", "signed", "churn", "hinted", "plain"])
def test_no_error_quotes_the_request(
    loaded: Get, name: str, query: Query, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = loaded(name).scorer.answer(query)

    if answer.predict_status is not PredictStatus.OK:
        assert b"secret" not in answer.body
        assert b"stack_trace" not in answer.body
        assert "secret" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "query", "said"),
    [
        ("plain", Query(b'{"x', None), "line 1 column 2 (character 1)"),
        ("plain", Query(b'{"x": "\xff"}', None), "invalid start byte at byte 7"),
        ("signed", json_query({"dataframe_records": [{"Text": "a"}]}), "missing inputs ['text']"),
        ("churn", json_query({"dataframe_records": [{"age": "old", "usage": 1}]}), "column age"),
        ("tensor", json_query({"inputs": [[1, 2, 3]]}), "Shape of input (1, 3)"),
        ("plain", json_query({"inputs": 1, "instances": 2}), "exactly one of the input fields"),
    ],
)
def test_an_error_says_what_to_mend(loaded: Get, name: str, query: Query, said: str) -> None:
    assert said in json.loads(loaded(name).scorer.answer(query).body)["message"]


@pytest.mark.parametrize(
    ("command", "status", "keeps"),
    [
        ("fail:x", 500, False),  # MLflow's server answers 400
        ("exit:x", 500, False),
        ("internal:x", 500, True),
        ("missing:x", 404, True),
        ("unwritable:x", 500, True),
    ],
)
def test_an_error_says_whether_mlflow_answers_its_status_too(
    loaded: Get, command: str, status: int, *, keeps: bool
) -> None:
    """And so it arrives at the gateway, alone or among others."""
    answer = loaded("commands").scorer.answer(command_query(command))
    assert (answer.status, answer.keeps_status) == (status, keeps)

    good = Answer(PredictStatus.OK, 200, b"{}", "application/json", 1, 0.0)
    sent = replace(answer, predict_seconds=0.0)
    header, bodies = answers_frame(Batch(1, (4, 2), (good, sent)))
    frame = Frame(orjson.loads(orjson.dumps(header)), tuple(bodies))
    assert batch_of(frame, ()).answers == (good, sent)


def test_what_is_logged_of_a_version_that_may_not_log_names_the_setting(
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        try:
            raise NoTracking(NO_TRACKING)
        except NoTracking as error:
            raise RuntimeError("a secret") from error
    except RuntimeError as error:
        ErrorReporter(LoadSpec(VersionId("churn", 1), "/nowhere", None)).report("its predict raised", error)

    printed = capsys.readouterr().err
    assert "`tracking.uri`" in printed
    assert "a secret" not in printed
