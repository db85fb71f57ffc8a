"""What real classifiers answer is what `/metrics` counts, by default and as the configuration says."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import slowness
from tests.support.gateway import GatewayProcess
from tests.support.waiting import wait_until

HALF = "split: {production: 50, canary: 50}"
BY_DEFAULT = f"  risk: {{{HALF}}}\n  mail: {{{HALF}}}\n"
AS_WRITTEN = f"""\
  risk:
    {HALF}
    scores:
      - {{output: 1, bins: [0.25, 0.5, 1]}}
      - {{output: 0}}
  mail: {{{HALF}, scores: {{output: 0, classes: [spam, eggs]}}}}
"""
ROWS = [[0, 9], [1, 5], [2, 4], [3, 1]]
VERSIONS = {"production": "1", "canary": "2"}


class Heard:
    """What the versions answered, by alias."""

    def __init__(self, gateway: GatewayProcess, model: str) -> None:
        self.gateway, self.model = gateway, model
        self.answers: dict[str, list[Any]] = {alias: [] for alias in VERSIONS}

    def ask(self, requests: int) -> None:
        for number in range(requests):
            rows = ROWS[number % 4 :]
            answer = self.gateway.session.post(
                f"{self.gateway.url}/models/{self.model}/invocations",
                json={"dataframe_split": {"columns": ["links", "words"], "data": rows}},
                headers={"X-Request-Key": f"user-{number}"},
                timeout=30 * slowness.slack(),
            )
            assert answer.status_code == 200, answer.text
            reported = answer.json()["predictions"]
            assert len(reported) == len(rows)
            self.answers[answer.headers["X-Model-Alias"]] += reported

    def metric(self, name: str, alias: str, **labels: str) -> float:
        """Of the version of `alias`, under that alias alone."""
        place = {"model": self.model, "alias": alias, "version": VERSIONS[alias]}
        return self.gateway.metric(f"canary_router_{name}", **place, **labels)


@pytest.fixture
def gateway(start: Callable[..., GatewayProcess]) -> GatewayProcess:
    gateway = start(BY_DEFAULT)
    for model in ("risk", "mail"):
        gateway.wait_bound(2, "canary", name=model)
    return gateway


def counted(gateway: GatewayProcess, model: str) -> list[list[dict[str, Any]]]:
    """What `/v1/state` says is counted of each version."""
    return [version["scores"] for version in gateway.model(model)["versions"].values()]


def test_classifiers_are_counted_as_they_answer_and_then_as_the_configuration_says(
    gateway: GatewayProcess,
    slack: float,
) -> None:
    """The positive class, and the labels both versions have learned; their examples have one row."""
    bins = {"output": "1", "kind": "score", "low": 0.0, "edges": [n / 20 for n in range(1, 21)]}
    labels = {"output": "0", "kind": "class", "classes": ["ham", "spam", "__other__"]}
    assert counted(gateway, "risk") == [[bins], [bins]]
    assert counted(gateway, "mail") == [[labels], [labels]]
    assert gateway.metric("canary_router_predicted_classes_total") == 0
    risk, mail = Heard(gateway, "risk"), Heard(gateway, "mail")
    risk.ask(20)
    mail.ask(20)

    for alias in VERSIONS:
        positive = [row[1] for row in risk.answers[alias]]
        assert len(positive) > 4
        assert risk.metric("score_count", alias, output="1") == len(positive)
        assert risk.metric("score_sum", alias) == pytest.approx(sum(positive))
        assert risk.metric("score_bucket", alias, le="0.5") == sum(score <= 0.5 for score in positive)
        assert risk.metric("score_bin_total", alias) == len(positive)
        assert risk.metric("score_invalid_total", alias) == 0
        classes = Counter(mail.answers[alias])
        assert classes.keys() == {"ham", "spam"}
        for name in ("ham", "spam", "__other__"):
            assert mail.metric("predicted_classes_total", alias, **{"class": name}) == classes[name]
    assert mail.metric("score_count", "canary") == 0

    gateway.config.write_text(gateway.config.read_text().replace(BY_DEFAULT, AS_WRITTEN))
    written = [{**bins, "edges": [0.25, 0.5, 1.0]}, {**bins, "output": "0"}]
    listed = [{**labels, "classes": ["spam", "eggs", "__other__"]}]
    wait_until(lambda: counted(gateway, "risk") == [written, written], 30 * slack, gateway.story)
    wait_until(lambda: counted(gateway, "mail") == [listed, listed], 30 * slack, gateway.story)
    risk, mail = Heard(gateway, "risk"), Heard(gateway, "mail")
    risk.ask(20)
    mail.ask(20)

    for alias in VERSIONS:
        for output, edges in ((1, ["0.25", "0.5", "1.0"]), (0, ["0.05", "0.5", "1.0"])):
            scores = [row[output] for row in risk.answers[alias]]
            for edge in edges:
                below = sum(score <= float(edge) for score in scores)
                assert risk.metric("score_bucket", alias, output=str(output), le=edge) == below
        classes = Counter(mail.answers[alias])
        reported = {
            name: mail.metric("predicted_classes_total", alias, **{"class": name})
            for name in ("spam", "eggs", "__other__", "ham")
        }
        assert reported == {"spam": classes["spam"], "eggs": 0, "__other__": classes["ham"], "ham": 0}
    assert gateway.metric("canary_router_metrics_errors_total") == 0
    assert gateway.metric("canary_router_worker_restarts_total") == 0
