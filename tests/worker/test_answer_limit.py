"""An answer that the gateway would not read is not sent."""

import json
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from router.protocol.messages import PredictStatus, ScoringProtocol
from router.worker import answers
from router.worker import scorer as scoring
from router.worker.load import Loaded
from tests.support.saved_versions import command_query, json_query


def test_an_answer_that_is_too_long_is_a_fault_of_the_version_and_not_the_end_of_its_worker(
    monkeypatch: pytest.MonkeyPatch, loaded: Callable[[str], Loaded]
) -> None:
    monkeypatch.setattr(scoring, "MAX_ANSWER_BYTES", 1 << 20)
    monkeypatch.setattr(answers, "MAX_ANSWER_BYTES", 1 << 20)
    scorer = loaded("commands").scorer
    around = len(b'{"predictions":[""]}')

    longest = scorer.answer(command_query("x" * ((1 << 20) - around)))
    longer = scorer.answer(command_query("x" * ((1 << 20) - around + 1)))

    assert (len(longest.body), longest.predict_status) == (1 << 20, PredictStatus.OK)
    assert (longer.status, longer.predict_status) == (500, PredictStatus.MODEL_ERROR)
    assert json.loads(longer.body)["message"] == "The answer is longer than 1 MiB."


def test_too_long_an_answer_is_reported_in_the_protocol_of_the_request(
    monkeypatch: pytest.MonkeyPatch, loaded: Callable[[str], Loaded]
) -> None:
    monkeypatch.setattr(scoring, "MAX_ANSWER_BYTES", 10)
    text = {"name": "command", "datatype": "BYTES", "shape": [1], "data": ["x"]}
    query = replace(json_query({"inputs": [text]}), protocol=ScoringProtocol.V2)

    answer = loaded("commands").scorer.answer(query)

    assert list(json.loads(answer.body)) == ["error"]
