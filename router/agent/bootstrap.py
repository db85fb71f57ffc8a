"""How every process that asks the registry begins."""

import logging
import os
import warnings
from collections.abc import Mapping
from typing import Any

from router.agent.requests import LIMITS, RequestLimits


def open_registry(settings: Mapping[str, Any], requests: RequestLimits | None = None) -> Any:
    """A `store.Registry` by `registry_uri`, `tracking_uri`, `environment` and `credentials` of a first frame.

    Takes over the registry's credentials and silences MLflow: what there is to report goes back in frames.
    `requests` holds the registry's requests within their deadlines, in the place of MLflow's own limits.
    """
    os.environ.update(settings["environment"])
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    # SQLite's page cache outlives a file that was overwritten in place; a connection per read does not.
    os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
    if requests is not None:
        os.environ.update(LIMITS)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    # Here, not above: MLflow reads the environment at import, where no fork server has imported it before.
    from router.agent.credentials import use_files
    from router.agent.store import Registry

    if settings["credentials"]:
        use_files(settings["credentials"])
    return Registry(settings["registry_uri"], settings["tracking_uri"], requests)
