"""An answer that the gateway would not read is not sent."""

import json
import socket
import threading
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from router.protocol.channel import Channel
from router.protocol.messages import (
    Batch,
    Batching,
    PredictStatus,
    ScoringProtocol,
    batch_of,
    predict_frame,
)
from router.worker import answers, request_loop
from router.worker import scorer as scoring
from router.worker.load import Loaded
from router.worker.request_loop import RequestLoop
from tests.support.saved_versions import command_query, json_query, text_query


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


def test_a_predict_whose_answers_need_several_frames_is_counted_once(
    monkeypatch: pytest.MonkeyPatch, loaded: Callable[[str], Loaded]
) -> None:
    monkeypatch.setattr(request_loop, "MAX_ANSWER_BYTES", 1)
    version = loaded("signed")
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    channel = Channel(ours)
    loop = RequestLoop(Channel(its), version.scorer, Batching(True, "a test"), None, threads=1)
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    channel.send(*predict_frame(1, [text_query(text) for text in ("good", "fine", "well")]))
    batches: list[Batch] = []
    while len(batches) < 3:
        received = channel.receive()
        assert received is not None
        batches.append(batch_of(received, version.scorer.scores))
    ours.close()
    thread.join()
    its.close()

    sent = [batch.answers[0] for batch in batches]
    assert sent[0].processor_seconds > 0.0
    assert [one.processor_seconds for one in sent[1:]] == [0.0, 0.0]
    assert [one.predict_rows for one in sent] == [3, 0, 0]
    assert [one.rows for one in sent] == [1, 1, 1]
