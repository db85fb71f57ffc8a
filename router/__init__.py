"""A canary router for MLflow: two aliases of a registered model side by side, split by request key."""

from importlib.metadata import version

__version__ = version("mlflow-canary-router")
