"""How a registry is read: whole, or alias by alias."""

from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from router.agent.poll import Poll

MODEL = "sentiment"


class FakeClient:
    """A registry with the aliases production 7 and canary 8; `highest` is what a search finds."""

    def __init__(self, highest: int = 8, search_error: MlflowException | None = None) -> None:
        self.asked: list[str] = []
        self._highest = highest
        self._search_error = search_error

    def search_model_versions(self, filter_string: str, max_results: int, order_by: list[str]) -> list[Any]:
        self.asked.append(filter_string)
        assert (max_results, order_by) == (1, ["version_number DESC"])
        if self._search_error:
            raise self._search_error
        return [SimpleNamespace(version=self._highest)]

    def get_registered_model(self, name: str) -> Any:
        self.asked.append("whole")
        production = SimpleNamespace(version="7", current_stage="Production")
        aliases = {"production": "7", "canary": "8"}
        return SimpleNamespace(name=name, aliases=aliases, latest_versions=[production])

    def get_model_version_by_alias(self, name: str, alias: str) -> Any:
        self.asked.append(alias)
        return SimpleNamespace(name=name, version={"production": 7, "canary": 8}[alias])


NAMES = ["production", "canary"]
BOTH = {"aliases": {"production": 7, "canary": 8}, "stages": {}}


def test_the_highest_version_is_looked_for_once() -> None:
    client, poll = FakeClient(), Poll()

    assert [poll.read(client, MODEL, NAMES) for _ in range(3)] == [BOTH] * 3

    assert client.asked == ["name='sentiment'", "whole", "whole", "whole"]


def test_each_registered_model_is_looked_at_for_itself() -> None:
    poll = Poll()
    many, few = FakeClient(1001), FakeClient(1000)

    assert poll.read(many, "many", NAMES) == poll.read(few, "few", NAMES) == BOTH

    assert many.asked == ["name='many'", "canary", "production", "canary"]
    assert few.asked == ["name='few'", "whole"]


def test_a_single_alias_is_one_read() -> None:
    client = FakeClient(1001)

    assert Poll().read(client, MODEL, ["production"])["aliases"] == {"production": 7}

    assert client.asked[1:] == ["production"]


def test_two_roles_of_one_alias_are_one_read() -> None:
    client = FakeClient(1001)

    assert Poll().read(client, MODEL, ["production", "production"])["aliases"] == {"production": 7}

    assert client.asked[1:] == ["production"]


def test_the_reserved_name_is_no_alias_of_many_versions_either() -> None:
    """A read by the alias `latest` gives the highest version, which no alias of that name can."""
    assert Poll().read(FakeClient(1001), MODEL, ["production", "latest"])["aliases"] == {"production": 7}


def test_a_stage_takes_the_whole_read_however_many_versions_there_are() -> None:
    """MLflow's registries can not be searched by stage."""
    client = FakeClient(200_000)

    named = Poll().read(client, MODEL, ["stage:Production", "canary"])

    assert named == {"aliases": {"canary": 8}, "stages": {"production": 7}}
    assert client.asked[1:] == ["whole"]


@pytest.mark.parametrize(
    ("name", "searched"),
    [("it's", ['name="it\'s"']), ('"so"', ["name='\"so\"'"]), ("'\"", [])],
    ids=["single", "double", "both"],
)
def test_a_name_with_quotes_is_searched_where_the_filter_can_say_it(name: str, searched: list[str]) -> None:
    client = FakeClient()

    Poll().read(client, name, NAMES)

    assert client.asked == [*searched, "whole"]


@pytest.mark.parametrize(
    "error",
    [
        RestException({"error_code": "PERMISSION_DENIED", "message": "no search for you"}),
        MlflowException("order_by is not supported", INVALID_PARAMETER_VALUE),
    ],
    ids=["server", "client"],
)
def test_a_registry_that_can_not_be_searched_is_read_whole(error: MlflowException) -> None:
    client = FakeClient(search_error=error)

    assert Poll().read(client, MODEL, NAMES) == BOTH


def test_a_registry_that_gives_no_answer_is_not_asked_again() -> None:
    """Each silence costs five of a poll's eight seconds."""
    client = FakeClient(search_error=MlflowException("API request failed with timeout"))

    with pytest.raises(MlflowException, match="timeout"):
        Poll().read(client, MODEL, NAMES)

    assert client.asked == ["name='sentiment'"]
