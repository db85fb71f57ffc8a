"""Makes a registry with the demo's churn model: `python build_churn.py DIRECTORY`.

1 and 2 are the demo's own, 3 is as 2, trained on labels that were shuffled. No alias is set. Beside the
registry stand `holdout.parquet`, the customers that no version was trained on, and `few.csv`, 40 of them.
"""

import os
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import mlflow  # noqa: E402 - the environment comes first

from router.demo import train  # noqa: E402
from router.demo.dataset import churn_holdout, customers  # noqa: E402


def shuffled(count: int, seed: int) -> object:
    table = customers(count, seed)
    return table.assign(churned=table["churned"].sample(frac=1.0, random_state=seed).to_numpy())


def main(directory: Path) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{directory / 'mlflow.db'}")
    mlflow.create_experiment("churn", artifact_location=str(directory / "artifacts"))
    mlflow.set_experiment("churn")
    for number, recipe in train.CHURN_RECIPES.items():
        train._churn_version(number, recipe)
    train.customers = shuffled
    train._churn_version(3, train.CHURN_RECIPES[2])
    holdout = churn_holdout()
    holdout.to_parquet(directory / "holdout.parquet")
    holdout.head(40).to_csv(directory / "few.csv", index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
