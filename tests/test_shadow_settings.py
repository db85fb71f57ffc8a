"""The key `shadow`: percent by role, and what stands beside them."""

from typing import Any

import pytest
from pydantic import ValidationError

from router.core.ids import CANARY, Alias
from router.settings import ModelSettings, Settings
from router.settings.changes import changes
from router.settings.fields import Reload

SPLIT = {"production": 90, "canary": 5, "challenger": 5}


def read(shadow: Any, split: Any = None) -> Settings:
    return Settings.model_validate({"models": {"m": {"split": split or SPLIT, "shadow": shadow}}})


def of(shadow: Any) -> ModelSettings:
    return read(shadow).models["m"]


def test_it_is_off_unless_it_is_written() -> None:
    assert Settings.model_validate({"models": {"m": {}}}).models["m"].shadow is None
    assert of(None).shadow is None


def test_percent_of_all_keys_become_buckets_by_role() -> None:
    shadow = of({"canary": 10, "challenger": 0.125, "min_idle": 0.5}).shadow
    assert shadow is not None
    assert shadow.shares == {CANARY: 10_000, Alias("challenger"): 125}
    assert (shadow.min_idle, shadow.cut_off, shadow.effects) == (0.5, None, "left_out")


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ({"canray": 10}, "`canray` is neither a role of the split nor a setting; did you mean `canary`?"),
        ({"stable": 10}, "roles of the split are: canary, challenger"),
        ({"production": 10}, "production is what the others are compared with"),
        ({"canary": 101}, "must be between 0 and 100 percent"),
        ({"canary": 0.0001}, "must be a multiple of 0.001 percent"),
        ({"canary": "10%"}, "must be a number of percent"),
        ({"canary": 1, "min_idle": 2}, "less than or equal to 1"),
        ({"canary": 1, "effects": "maybe"}, "'left_out' or 'allowed'"),
        ({3: 1}, "`3` is neither a role"),
        (10, "valid dictionary"),
    ],
)
def test_what_it_can_not_mean_is_refused(written: Any, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem.replace("?", r"\?")):
        of(written)


@pytest.mark.parametrize("other", [None, {"canary": 11}, {"canary": 10, "min_idle": 0.3}])
def test_every_change_of_it_is_hot(other: Any) -> None:
    [change] = changes(read({"canary": 10}), read(other))
    assert (change.path, change.reload) == ("models.m.shadow", Reload.HOT)
    assert changes(read({"canary": 10}), read({"canary": 10})) == []
