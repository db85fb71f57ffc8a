"""Registers the demo's versions in a registry of somebody's, once. A process of its own: `… URI`.

A registered model is the demo's where it carries the demo's tag. Others are never touched.
"""

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from router.demo.material import Material
from router.demo.registry_seed import ALIASES
from router.errors import RouterError

TAG = "canary-router-demo"
BEGUN, WHOLE = "begun", "whole"
EXPERIMENT = "canary-router demo"


class NotOurs(RouterError):
    """The registry has a registered model of that name which no demo made."""


def register(uri: str, say: Callable[[str], None]) -> None:
    """Train, log and register what `uri` does not hold yet, and point the aliases at it.

    Raises NotOurs before anything is changed. What an earlier call left unfinished is made anew; what it
    finished stays as it is, wherever its aliases are now.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import mlflow

    from router.demo.train import MODEL as SENTIMENT
    from router.demo.train import seed_sentiment
    from router.demo.train_churn import MODEL as CHURN
    from router.demo.train_churn import seed_churn

    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    client = mlflow.MlflowClient()
    found = {one.name: one.tags.get(TAG) for one in client.search_registered_models()}
    for name in (SENTIMENT, CHURN):
        if name in found and found[name] is None:
            raise NotOurs(f"the registry has a registered model {name} that no demo made: it is left alone")
    with tempfile.TemporaryDirectory() as scratch:
        trainings: dict[str, Callable[[], Material]] = {
            SENTIMENT: lambda: seed_sentiment(Path(scratch)),
            CHURN: seed_churn,
        }
        for name, train in trainings.items():
            if found.get(name) == WHOLE:
                say(f"{name} is registered")
                continue
            if name in found:
                client.delete_registered_model(name)
            client.create_registered_model(name, tags={TAG: BEGUN})
            mlflow.set_experiment(EXPERIMENT)
            material = train()
            for alias, number in ALIASES.items():
                client.set_registered_model_alias(name, alias, str(number))
            client.set_registered_model_tag(name, TAG, WHOLE)
            told = ", ".join(f"v{number} {one.told}" for number, one in material.versions.items())
            say(f"trained and registered {name}: {told}")


def main(uri: str) -> int:
    """What happened goes to standard output; returns the exit code."""
    warnings.simplefilter("ignore")
    logging.basicConfig(level=logging.WARNING)
    try:
        register(uri, lambda line: print(line, flush=True))
    except NotOurs as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
