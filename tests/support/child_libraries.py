"""What an environment must hold, beside what its versions ask for, so that children run in it."""

WORKER_LIBRARIES = frozenset(
    {
        *("mlflow", "msgspec", "numpy", "orjson", "pandas", "psutil", "threadpoolctl"),
        *("packaging", "pyarrow"),  # where MLflow is, these are
    }
)
"""Of workers, which run in the environment of their version."""
CHILD_LIBRARIES = WORKER_LIBRARIES | {"sqlalchemy", "yaml"}
"""Of all children; what talks to the registry, or builds environments, runs in the gateway's own."""
