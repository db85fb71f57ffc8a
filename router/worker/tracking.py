"""Where a version's own calls of MLflow go: to the tracking server of its model's settings, or nowhere.

Without an address MLflow's default is a file in the working directory. A version that traces, logs a metric
or loads another model would write there what its callers sent; where that file is the registry, into it.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import mlflow.tracing
from mlflow.exceptions import MlflowException
from mlflow.tracing import provider
from mlflow.tracking._model_registry.utils import _get_store_registry
from mlflow.tracking._tracking_service.utils import _tracking_store_registry

from router.protocol.messages import Tracking
from router.worker.error_chain import chain

NO_TRACKING = (
    "This version asks MLflow for a tracking server or a registry, and has none: name one as `tracking.uri`"
    " of its registered model"
)
_NOWHERE = "no-tracking"
_REGISTRIES = (_tracking_store_registry, _get_store_registry())


class NoTracking(MlflowException):  # type: ignore[misc] # MLflow is not typed
    """What every store of a version raises that has no tracking server."""


def use_tracking(tracking: Tracking | None) -> str:
    """Send this process' calls of MLflow to `tracking`, or nowhere; call it before the version's code runs.

    Without it spans are dropped where they begin, and all else raises NoTracking. Returns a sentence for the
    operator when credentials can not be read, else an empty text: a version serves without its traces, too.
    """
    if tracking is None:
        for registry in _REGISTRIES:
            registry.register(_NOWHERE, _none)
        # Not by the environment variable alone: MLflow's own code restores what was set before, or unsets it.
        mlflow.set_tracking_uri(f"{_NOWHERE}:")
        provider._get_span_processors = partial(_span_processors, provider._get_span_processors)  # noqa: SLF001
        mlflow.tracing.disable()  # last, because a new address switches it on
        # While it is off, MLflow's load_model holds a lock for as long as it takes: a version that loads
        # another one while it is loaded would wait for ever. What asks by this name takes the other way.
        provider.is_tracing_enabled = lambda: True
        return ""
    if tracking.experiment:
        os.environ["MLFLOW_EXPERIMENT_NAME"] = tracking.experiment
    if tracking.username:
        os.environ["MLFLOW_TRACKING_USERNAME"] = tracking.username
    for registry in _REGISTRIES:
        for scheme in ("http", "https"):
            registry.register(scheme, _renewing(registry.get_store_builder(f"{scheme}://"), tracking))
    mlflow.set_tracking_uri(tracking.uri)
    try:
        _renew(tracking)
    except (OSError, ValueError) as error:
        return f"its tracking credentials cannot be read ({type(error).__name__}), so it may trace nothing."
    return ""


def lacks_tracking(error: BaseException | None) -> bool:
    """Whether `error`, or what it was raised from, is that the version has no tracking server."""
    return any(isinstance(one, NoTracking) for one in chain(error))


def _span_processors(those_of_mlflow: Callable[..., list[Any]], *, disabled: bool = False) -> list[Any]:
    # A version that switches tracing on by itself gets what others get: its spans are dropped, and it serves.
    try:
        return those_of_mlflow(disabled=disabled)
    except MlflowException as error:
        if not lacks_tracking(error):
            raise
        return []


def _none(*_arguments: Any, **_named: Any) -> Any:
    raise NoTracking(NO_TRACKING)


def _renew(tracking: Tracking) -> None:
    """Read the secrets of `tracking` anew. Raises OSError and ValueError."""
    files = {
        "MLFLOW_TRACKING_TOKEN": tracking.token_file,
        "MLFLOW_TRACKING_PASSWORD": tracking.password_file,
    }
    for name, file in files.items():
        if file:
            os.environ[name] = Path(file).read_text().strip()


def _renewing(build: Callable[..., Any], tracking: Tracking) -> Callable[..., Any]:
    """`build`, whose stores read their credentials anew at each request: a rotated token counts at once."""

    def built(*arguments: Any, **named: Any) -> Any:
        store = build(*arguments, **named)
        credentials = store.get_host_creds

        def renewed() -> Any:
            _renew(tracking)
            return credentials()

        store.get_host_creds = renewed
        return store

    return built
