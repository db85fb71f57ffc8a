"""What the harness knows of the registry without importing MLflow."""

from pathlib import Path

COLUMNS = 20
"""Float columns of the workloads linear and forest."""
PRODUCTION, CANARY, NEXT = 1, 2, 3
"""Versions: what the aliases name at first, other servers serving production's; where production moves to."""
MODELS = {
    "text": tuple(f"text_{number}" for number in range(2, 11)),
    **dict.fromkeys(("linear", "forest", "sentiment", "sleep"), ()),
}
"""Registered models, each with the names under which the same artefact is registered once more."""


def registry_uri(directory: Path) -> str:
    """What MLflow calls the registry in `directory`."""
    return f"sqlite:///{directory / 'mlflow.db'}"
