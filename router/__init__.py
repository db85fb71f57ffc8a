"""A canary router for MLflow: two aliases of a registered model side by side, split by request key."""


def __getattr__(name: str) -> str:
    # Looked up when asked for: children import this package where the distribution is not installed.
    if name == "__version__":
        from importlib.metadata import version

        return version("mlflow-canary-router")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
