"""Makes the registry of the three situations: `python build_stories.py DIRECTORY`.

Registered model `sentiment`. Each version takes a column `text`, and does to a text always the same:

- 1 answers a score between 0 and 1 after 20 ms: production.
- 2 is as 1: a healthy canary.
- 3 is as 1, and takes 300 ms: a slow canary. That is slow on a busy machine, too.
- 4 scores higher, and raises on texts that begin with `hard`: a canary whose scores moved, and that fails.
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

SECONDS = 0.02
SLOWER = 15.0


class Rated(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def __init__(self, slower: float = 1.0, power: float = 1.0, fails: str = "nothing") -> None:
        self.slower, self.power, self.fails = slower, power, fails

    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        import random
        import time

        time.sleep(SECONDS * self.slower)
        texts = model_input["text"].tolist()
        if any(text.startswith(self.fails) for text in texts):
            raise ValueError("this text is too much for this version")
        # A power below 1 moves scores up and empties no bin, so that PSI is no matter of luck.
        return [random.Random(text).random() ** self.power for text in texts]


def main(directory: Path) -> None:
    client = log_versions(directory, (Rated(), Rated(), Rated(slower=SLOWER), Rated(power=0.5, fails="hard")))
    client.set_registered_model_alias("sentiment", "production", "1")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
