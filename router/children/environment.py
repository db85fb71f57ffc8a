"""What children are told through their environment: how to stay single-threaded, and no secret."""

from collections.abc import Mapping

# Else numpy's BLAS and pyarrow's allocator start threads at import, and a fork copies the locks they hold.
SINGLE_THREADED = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
# A version's code runs in these processes: what opens a registry or a store is not for it to read.
_SECRET_PREFIXES = ("MLFLOW_", "AWS_", "AZURE_", "GOOGLE_", "DATABRICKS_", "CANARY_ROUTER_")
_NEEDED = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION",
    "MLFLOW_CONFIGURE_LOGGING",
    "MLFLOW_DEFAULT_PREDICTION_DEVICE",
    "MLFLOW_DISABLE_SCHEMA_DETAILS",
    "MLFLOW_LOGGING_LEVEL",
}


def child_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child, from this process' own."""
    kept = {
        name: value
        for name, value in ours.items()
        if name in _NEEDED or not name.startswith(_SECRET_PREFIXES)
    }
    return {**kept, **SINGLE_THREADED}
