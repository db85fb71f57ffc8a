"""What `canary-router status` says of versions that run elsewhere."""

from typing import Any

import pytest

from router.cli.status import _elsewhere

READ = {"read": 973, "busy": 27, "too_long": 0, "lost": 0}


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"verified": True, "scores": {"share": 0.973, **READ}}, "; scores read of 97.3 % of its answers"),
        ({"verified": True, "scores": {"share": 1.0}}, "; scores read of 100.0 % of its answers"),
        ({"verified": False, "scores": None}, ", unverified"),
        ({"verified": False, "scores": {"share": None}}, ", unverified"),
        (
            {"verified": True, "scores": {"reading": False, "error": "it ended", "share": 0.5}},
            "; scores read of 50.0 % of its answers; scores are not read now: it ended",
        ),
        ({"verified": True}, ""),
    ],
    ids=["a part", "all", "not counted", "not asked yet", "not read now", "an older gateway"],
)
def test_where_a_version_is_and_how_many_of_its_answers_were_read(where: dict[str, Any], said: str) -> None:
    address = {"address": "http://m-v3.models"}
    state = {"models": {"m": {"versions": {"3": {"where": {**address, **where}}, "4": {"where": None}}}}}

    assert _elsewhere(state) == [f"m v3: at http://m-v3.models{said}"]
