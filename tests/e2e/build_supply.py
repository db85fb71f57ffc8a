"""Makes the registry of the tests of loads: `python build_supply.py DIRECTORY`.

Registered model `sentiment`. Every version takes a column `text`, and ends its worker at the text `os._exit`;
the environment of the gateway says what goes wrong:

- 1 takes 3 s to load, and counts its loads in the file FRAGILE_COUNT; those that FRAGILE_FAILS lists raise.
- 2 can only predict its input example, `ask`, while the file SERVICE is there.
- 3 can not predict its input example, `bad`.
- 4 loads in one process at a time, and counts its loads in the file LOCK.
- 5 and 6 listen on the port PORT from their load on; 7 does, and then fails to load.
- 8 has a temporary directory in ELSEWHERE, for as long as its process lives.
"""

import os
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import mlflow  # noqa: E402 - the environment comes first
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from mlflow.models import infer_signature  # noqa: E402


class Version(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    score = 0.1

    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        import os

        if (model_input["text"] == "os._exit").any():
            os._exit(3)
        return np.full(len(model_input), self.score)


class Fragile(Version):
    def load_context(self, context: object) -> None:
        import os
        import time
        from pathlib import Path

        counted = Path(os.environ["FRAGILE_COUNT"])
        with counted.open("a") as count:
            count.write("x")
        number = counted.stat().st_size
        time.sleep(3)
        if str(number) in os.environ["FRAGILE_FAILS"].split():
            raise RuntimeError("this load is one that fails")


class Dependent(Version):
    score = 0.2

    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        import os
        from pathlib import Path

        if (model_input["text"] == "ask").any() and not Path(os.environ["SERVICE"]).exists():
            raise ConnectionRefusedError("the service is away")
        return super().predict(context, model_input, params)


class Picky(Version):
    score = 0.3

    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> object:
        if (model_input["text"] == "bad").any():
            raise KeyError("bad")
        return super().predict(context, model_input, params)


class Exclusive(Version):
    score = 0.4

    def load_context(self, context: object) -> None:
        import fcntl
        import os
        from pathlib import Path

        self.lock = Path(os.environ["LOCK"]).open("a")  # noqa: SIM115 - held as long as the process lives
        self.lock.write("x")
        self.lock.flush()
        fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Listening(Version):
    score = 0.5

    def load_context(self, context: object) -> None:
        import os
        import socket

        self.listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))


class Failing(Listening):
    def load_context(self, context: object) -> None:
        super().load_context(context)
        raise RuntimeError("this version never loads")


class Tidy(Version):
    score = 0.5

    def load_context(self, context: object) -> None:
        import os
        import tempfile

        self.own = tempfile.TemporaryDirectory(dir=os.environ["ELSEWHERE"])


def main(directory: Path) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{directory / 'mlflow.db'}")
    mlflow.create_experiment("versions", artifact_location=str(directory / "artifacts"))
    mlflow.set_experiment("versions")
    examples: dict[Version, str | None] = {
        Fragile(): None,
        Dependent(): "ask",
        Picky(): "bad",
        Exclusive(): None,
        Listening(): None,
        Listening(): None,
        Failing(): None,
        Tidy(): None,
    }
    for model, example in examples.items():
        with mlflow.start_run():
            mlflow.pyfunc.log_model(
                name="model",
                python_model=model,
                registered_model_name="sentiment",
                signature=infer_signature(pd.DataFrame({"text": ["good"]}), np.array([0.1])),
                input_example=None if example is None else pd.DataFrame({"text": [example]}),
                pip_requirements=["mlflow"],  # inferring them costs seconds, and nothing here needs it
            )
    mlflow.MlflowClient().set_registered_model_alias("sentiment", "production", "1")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
