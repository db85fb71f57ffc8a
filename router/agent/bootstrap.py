"""What every process that talks to the registry does first."""

import logging
import os
import signal
import warnings
from collections.abc import Mapping


def ignore_stops() -> None:
    """A Ctrl-C or a stop of the whole group is for the gateway, which closes our socket when it is done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def prepare(environment: Mapping[str, str]) -> None:
    """Take over the registry's credentials and silence MLflow: what we have to say goes back in frames."""
    os.environ.update(environment)
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    # SQLite's page cache outlives a file that was overwritten in place; a connection per read does not.
    os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
