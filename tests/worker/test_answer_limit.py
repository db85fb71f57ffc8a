"""An answer that the gateway would not read is not sent."""

import json

import pytest

from router.core.work import Answer, Verdict
from router.worker import answering


def test_an_answer_that_is_too_long_is_a_fault_of_the_version_and_not_the_end_of_its_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answering, "MAX_ANSWER_BYTES", 1 << 20)
    longest = Answer(Verdict.OK, 200, bytes(1 << 20), "application/json", 1, 0.5)
    longer = Answer(Verdict.OK, 200, bytes((1 << 20) + 1), "application/json", 1, 0.5)

    told = answering._sendable(longer)

    assert answering._sendable(longest) is longest
    assert (told.status, told.verdict, told.predict_seconds) == (500, Verdict.MODEL_ERROR, 0.5)
    assert json.loads(told.body)["message"] == "The answer is longer than 1 MiB."
