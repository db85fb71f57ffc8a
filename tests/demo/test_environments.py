"""The demo of versions that no one Python environment loads, started as a newcomer starts it."""

import re

import pytest

from tests.support.demo_run import played_demo_of_environments
from tests.support.foreign_versions import missing


@pytest.mark.slow
def test_a_canary_on_another_scikit_learn_is_rolled_out_and_every_answer_is_right(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Each version is trained, pickled and asked in an environment of its own; the gateway's has neither."""
    if why := missing():
        pytest.skip(why)
    played = played_demo_of_environments(tmp_path_factory)
    printed = played.printed

    assert played.exit_code == 0, printed
    assert re.search(r"(?m)^trained v1 by scikit-learn 1\.5\.2, pandas 2\.2\.\d, ", printed), printed
    assert "  the gateway's own environment can not load it: ModuleNotFoundError: " in printed
    assert ": 0 wrong, " in printed
    assert "\neverything was right\n" in printed
    for step in ("promote, @production → v2", "rollback after an incident, @production → v1"):
        assert f"  {step}: first answer by " in printed
    for number in (1, 2):
        assert re.search(
            rf"(?m)^churn_predictor v{number} has Python \S+ and libraries of its own: \d+ MiB, built in \d",
            printed,
        ), printed
    assert "  scikit-learn 1.5.2, the gateway has " in printed
