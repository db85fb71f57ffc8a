"""What an operation that fails sends to the gateway."""

from collections.abc import Mapping
from typing import Any

from mlflow.exceptions import MlflowException

from router.agent.agent_main import _answer

FAILED = "API request to endpoint /api failed with error code 500 != 200. Response body: '"


def answer_of(text: str) -> Mapping[str, Any]:
    def fail(_: Mapping[str, Any]) -> Mapping[str, Any]:
        raise MlflowException(text)

    return _answer({"poll": fail}, {"op": "poll"})


def test_of_a_long_answer_that_mlflow_quotes_the_beginning_is_enough() -> None:
    assert answer_of(f"{FAILED}{'oops ' * 1_000_000}'")["message"] == FAILED + "oops " * 40 + "…"


def test_a_short_answer_is_quoted_whole_and_shows_no_password() -> None:
    shown = answer_of(f"{FAILED}no route to http://ann:hidden@host'")["message"]

    assert shown == f"{FAILED}no route to http://***@host'"
