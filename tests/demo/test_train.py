"""The seeded registry, read as any MLflow user would read it, in processes of their own."""

import json
import subprocess
import sys
from typing import Any

import pytest

from router.demo.dataset import Dataset
from router.demo.gateway_process import clean_environment
from router.demo.train import shipped_file
from router.demo.workspace import Workspace, seeded

READ = """
import json, sys, mlflow
uri, *models = sys.argv[1:]
mlflow.set_tracking_uri(uri)
client = mlflow.MlflowClient()
registered = {model: {} for model in models}
for model in models:
    for version in client.search_model_versions(f"name = '{model}'"):
        run = client.get_run(version.run_id)
        info = mlflow.models.get_model_info(f"models:/{model}/{version.version}")
        registered[model][version.version] = {
            "params": run.data.params, "metrics": run.data.metrics, "signature": info.signature is not None,
            "example": info.saved_input_example_info is not None, "flavors": sorted(info.flavors),
        }
print(json.dumps(registered))
"""

LOAD = """
import json, sys, mlflow, numpy, pandas
uri, model, version, rows = sys.argv[1:]
mlflow.set_tracking_uri(uri)
loaded = mlflow.pyfunc.load_model(f"models:/{model}/{version}")
answers = loaded.predict(pandas.DataFrame(json.loads(rows)))
assert not any(name.split(".")[0] == "router" for name in sys.modules), "a version must not need this package"
print(json.dumps(numpy.asarray(answers).tolist()))
"""


def _asked(script: str, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=clean_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_second_version_of_each_model_is_really_better(seeded_place: Workspace) -> None:
    """By the metrics of its run; nobody would look at a canary that is not."""
    registered = _asked(READ, seeded_place.registry_uri, "sentiment", "churn_predictor")
    sentiment, churn = registered["sentiment"], registered["churn_predictor"]

    accuracy = {number: reported["metrics"]["holdout_accuracy"] for number, reported in sentiment.items()}
    auc = {number: reported["metrics"]["auc_roc"] for number, reported in churn.items()}
    assert accuracy["2"] > accuracy["1"] + 0.1
    assert auc["2"] > auc["1"] + 0.02
    assert all(not reported["signature"] and not reported["example"] for reported in sentiment.values())
    for reported in churn.values():
        assert reported["signature"]
        assert reported["example"]
        assert "sklearn" in reported["flavors"]
        assert reported["params"]["n_estimators"] == "200"
        assert len(reported["params"]["training_data_hash"]) == 64
        assert reported["params"]["training_cutoff"].startswith("2026-")


@pytest.mark.parametrize("model", ["sentiment", "churn_predictor"])
@pytest.mark.parametrize("number", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_version_loads_without_this_package_and_answers_as_it_did_in_training(
    seeded_place: Workspace, datasets: dict[str, Dataset], model: str, number: int
) -> None:
    """What traffic is compared with is what the registered version says, to the last bit but a few."""
    rows = datasets[model].rows
    answers = _asked(LOAD, seeded_place.registry_uri, model, str(number), json.dumps(rows))

    expected = datasets[model].versions[number].expected
    assert json.dumps(answers) == json.dumps(expected) or answers == pytest.approx(expected, abs=1e-9)


def test_both_versions_of_sentiment_ship_other_code_under_one_name() -> None:
    """The trap: a process that holds both would answer for one with the code of the other."""
    assert shipped_file(1).name == shipped_file(2).name
    assert shipped_file(1).read_bytes() != shipped_file(2).read_bytes()


def test_versions_answer_differently_to_most_rows(datasets: dict[str, Dataset]) -> None:
    """Else the comparison with the offline answer could not know who answered."""
    for dataset in datasets.values():
        one, other = dataset.versions[1].expected, dataset.versions[2].expected
        assert sum(a != b for a, b in zip(one, other, strict=True)) > 0.95 * len(dataset.rows)


def test_a_registry_that_is_not_whole_is_not_reused(seeded_place: Workspace) -> None:
    summary = seeded_place.registry / "seeded.json"
    whole = summary.read_text()

    assert seeded(seeded_place) is not None
    try:
        summary.write_text(whole[:-1])
        assert seeded(seeded_place) is None
        summary.write_text(whole.replace(json.loads(whole)["recipe"], "of another time"))
        assert seeded(seeded_place) is None
    finally:
        summary.write_text(whole)
