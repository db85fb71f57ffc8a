"""Makes the registry of a rollout to look at: `python build_rollout.py DIRECTORY`.

Registered model `sentiment`. Each version takes a column `text`, and does to a text always the same:

- 1 answers a score after a few milliseconds: production.
- 2 scores higher, takes longer, and raises on three texts in a hundred: the canary.
- 3 raises in `load_context`.
- 4 is as 1: a canary that is as good.
"""

import os
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import mlflow  # noqa: E402 - the environment comes first
import pandas as pd  # noqa: E402

from tests.support.log_versions import log_versions  # noqa: E402

FAULTY_SHARE = 0.03


class Rated(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def __init__(self, slower: float = 1.0, higher: float = 0.0, faulty: float = 0.0) -> None:
        self.slower, self.higher, self.faulty = slower, higher, faulty

    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        return [self.rate(text) for text in model_input["text"]]

    def rate(self, text: str) -> float:
        import random
        import time

        drawn = random.Random(text)
        # The input decides on the time, so that both versions have the same quick and slow texts.
        time.sleep(self.slower * min(0.08, drawn.lognormvariate(-5.6, 0.55)))
        if drawn.random() < self.faulty:
            raise ValueError("this text is too much for this version")
        score = drawn.betavariate(2, 8) if drawn.random() < 0.55 else drawn.betavariate(9, 2)
        return score + self.higher * (1 - score)


class Unloadable(Rated):
    def load_context(self, context: object) -> None:
        raise ValueError("the weights are for another architecture")


def main(directory: Path) -> None:
    canary = Rated(slower=1.5, higher=0.18, faulty=FAULTY_SHARE)
    client = log_versions(directory, (Rated(), canary, Unloadable(), Rated()))
    client.set_registered_model_alias("sentiment", "production", "1")
    client.set_registered_model_alias("sentiment", "canary", "2")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
