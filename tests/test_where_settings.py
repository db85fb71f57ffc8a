"""The key `where` of a model: what an operator may write, and what is refused by a sentence."""

from typing import Any

import pytest
from pydantic import ValidationError

from router.core.version_address import WITHOUT_EFFECT
from router.settings import ModelSettings, Settings, changes

HTTP = "http://fraud-v{version}.models:8080"


def model(**keys: Any) -> ModelSettings:
    return ModelSettings.model_validate(keys)


def test_versions_run_here_unless_it_is_said_otherwise() -> None:
    assert model().where is None
    assert model(where="local") == model()
    assert not model().elsewhere


def test_an_address_has_defaults_for_all_but_itself() -> None:
    where = model(where={"http": HTTP}).where

    assert where is not None
    assert (where.protocol, where.path, where.ready_seconds) == ("v2", None, 600.0)
    assert (where.connections, where.connection_seconds) == (64, 60.0)
    assert (where.headers_file, where.proxy) == (None, False)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("elsewhere", "must be `local`, or a mapping with `http`"),
        (None, "must be `local`, or a mapping with `http`"),
        ({}, "Field required"),
        ({"http": "ftp://a-{version}"}, "must be an http or https address"),
        ({"http": "http://me:pw@a-{version}"}, "must hold no credentials"),
        ({"http": "http://a-{version}/v2"}, "must be an address without a path"),
        ({"http": "http://a-{version}?q=1"}, "must be an address without a path"),
        ({"http": "http://a-{version}.{model}"}, "can hold {version} and nothing else in braces"),
        ({"http": "http://a-{version}:{version}0000000"}, "must be an http or https address"),
        ({"http": "http://a"}, "each version has an address of its own"),
        ({"http": HTTP, "path": "v2/models/f/infer"}, "must be a path that begins with a slash"),
        ({"http": HTTP, "path": "/v2/models/../f/infer"}, "must be a path without `..`"),
        ({"http": HTTP, "path": "/v2/models/f/infer?x"}, "must be a path that begins with a slash"),
        ({"http": HTTP, "path": "/infer"}, "path must end with /v2/models/NAME/infer"),
        ({"http": HTTP, "connections": 0}, "greater than or equal to 1"),
        ({"http": HTTP, "conections": 1}, "Extra inputs are not permitted"),
    ],
)
def test_what_is_no_address_of_versions_is_refused_without_quoting_a_password(where: Any, said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        model(where=where)

    messages = [error["msg"] for error in refused.value.errors()]
    assert any(said in message for message in messages), messages
    assert "pw" not in " ".join(messages)


def test_an_environment_of_its_own_is_refused_where_versions_run_elsewhere() -> None:
    with pytest.raises(ValidationError, match="must be shared where versions run elsewhere"):
        model(where={"http": HTTP}, environment="own")


def test_keys_without_effect_are_named_where_they_are_written() -> None:
    keys = {"workers": 2, "model_config": {}, "why": "on", "timeout_seconds": 3.0}

    assert model(where={"http": HTTP}, **keys).without_effect == ("workers", "model_config", "why")
    assert model(**keys).without_effect == ()


def test_each_key_without_effect_is_one_of_a_model() -> None:
    names = {field.alias or name for name, field in ModelSettings.model_fields.items()}

    assert set(WITHOUT_EFFECT) <= names


def test_a_change_of_it_takes_a_restart() -> None:
    split = {"production": 100}
    here, there = (
        Settings.model_validate({"models": {"m": {"split": split, **more}}})
        for more in ({}, {"where": {"http": HTTP}})
    )

    [change] = changes(here, there)

    assert (change.path, change.reload) == ("models.m.where", "cold")


def test_in_turn_means_nothing_where_nothing_is_started() -> None:
    assert model(replace="in_turn").in_turn
    assert not model(replace="in_turn", where={"http": HTTP}).in_turn
