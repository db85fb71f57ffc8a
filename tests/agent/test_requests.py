"""Limits of single requests: what is repeated, and how long each may take."""

import os

import pytest
import requests
import urllib3
from mlflow.exceptions import MlflowException

from router.agent.requests import RequestLimits, limited, was_reset

TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"


def failure(inner: Exception) -> MlflowException:
    """`inner` as MLflow hands it on, through urllib3 and requests."""
    try:
        try:
            raise requests.ConnectionError(urllib3.exceptions.ProtocolError("Connection aborted.", inner))
        except Exception as error:
            raise MlflowException(f"API request failed with exception {error}")  # noqa: B904 # as MLflow does
    except MlflowException as error:
        return error


RESET = failure(ConnectionResetError(104, "Connection reset by peer"))


class Server:
    """Fails as often as there are errors, then answers; keeps the limits that each request had."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.limits: list[str] = []

    def ask(self, question: str) -> str:
        self.limits.append(os.environ[TIMEOUT])
        if self._errors:
            raise self._errors.pop(0)
        return f"{question}!"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TIMEOUT, "120")


def test_a_reset_is_repeated_once() -> None:
    server = Server(RESET)

    assert RequestLimits().client(server).ask("who") == "who!"

    assert server.limits == ["5", "5"]


@pytest.mark.parametrize(
    "errors",
    [
        (RESET, RESET),
        (failure(ConnectionRefusedError(111, "refused")),),
        (failure(TimeoutError("silent")),),
        (ValueError("bad answer"),),
    ],
    ids=["twice", "refused", "silent", "other"],
)
def test_nothing_else_is_repeated(errors: tuple[Exception, ...]) -> None:
    server = Server(*errors)

    with pytest.raises(type(errors[0])):
        RequestLimits().client(server).ask("who")

    assert len(server.limits) == len(errors)


@pytest.mark.parametrize(("seconds", "each"), [(8.0, "5"), (3.9, "3"), (1.5, "1"), (0.5, "1")])
def test_a_request_may_take_what_is_left_of_the_orders_time(seconds: float, each: str) -> None:
    limits, server = RequestLimits(), Server()
    limits.begin(seconds)

    limits.client(server).ask("who")

    assert server.limits == [each]


def test_without_time_nothing_is_repeated() -> None:
    limits, server = RequestLimits(), Server(RESET)
    limits.begin(1.0)  # of which a part is kept to answer in

    with pytest.raises(MlflowException):
        limits.client(server).ask("who")

    assert len(server.limits) == 1


@pytest.mark.parametrize("inner", [BrokenPipeError(), ConnectionAbortedError()], ids=["pipe", "aborted"])
def test_an_end_of_the_connection_is_a_reset_by_any_name(inner: Exception) -> None:
    assert was_reset(failure(inner))
    assert not was_reset(failure(OSError(113, "No route to host")))


def test_limits_of_a_block_end_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)

    with limited({TIMEOUT: "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}):
        assert (os.environ[TIMEOUT], os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]) == ("10", "2")

    assert os.environ[TIMEOUT] == "120"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
