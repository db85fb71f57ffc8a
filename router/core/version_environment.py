"""The Python environment that one version runs in, where that is not the gateway's own."""

from dataclasses import dataclass
from typing import Any

from router.core.redaction import redact

FOLDER = ".environments"
"""Of the cache: where all environments are. No registered model has a directory of this name."""
MOST_DIFFERENCES = 20
"""Lines that say what differs from the gateway's own environment; the last one counts the others."""
GATEWAYS_OWN = ("mlflow", "mlflow-skinny", "mlflow-tracing", "msgspec", "orjson", "psutil", "threadpoolctl")
"""Packages that an environment gets in the gateway's version, whatever its own asks for: MLflow, because what
runs there uses its internals, and the libraries that it imports beside."""


@dataclass(frozen=True, slots=True)
class VersionEnvironment:
    """One environment that was built, as state and commands show it. Versions with equal pins share one."""

    key: str
    """64 hexadecimal digits: a digest of interpreter, platform, pins and this gateway's child side."""
    interpreter: str
    """Absolute path of its Python."""
    python: str
    """Version of that, such as 3.11.7."""
    pins: str
    """64 hexadecimal digits: a digest of the pinned requirements, the same on all replicas that serve it."""
    size_bytes: int
    """Of all its files on disk."""
    build_seconds: float
    """How long resolving and building took, when it was built."""
    differences: tuple[str, ...] = ()
    """What differs from the gateway's own environment, such as `scikit-learn 1.5.2, the gateway has 1.7.1`:
    at most 20 short lines."""

    def to_json(self, note: str) -> dict[str, Any]:
        """As `/v1/state` and `check` show it, with a `note` on how it came about. It names no path."""
        return {
            "digest": self.key,
            "python": self.python,
            "pins": self.pins,
            "size_bytes": self.size_bytes,
            "build_seconds": round(self.build_seconds, 3),
            "differs": [redact(line) for line in self.differences],
            "note": redact(note),
        }

    @property
    def short(self) -> str:
        """The first 12 digits of the key, for people and for the names of processes."""
        return self.key[:12]
