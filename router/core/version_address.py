"""Where a version answers that runs behind an address: of a text with `{version}` only the number is ours."""

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

Engine = Literal["v2", "mlflow"]
"""What is spoken at an address: the Open Inference Protocol over REST, or MLflow's scoring protocol."""

PLACEHOLDER = "{version}"
_INFER = re.compile(r"(?P<model>.*/v2/models/[^/]+)(?:/versions/[^/]+)?/infer")
WITHOUT_EFFECT = (
    *("workers", "threads", "cpu_threads", "batching", "batching_rtol", "max_batch_rows", "max_rows"),
    *("answer_length", "nan", "model_config", "writable", "environment_variables", "tracking", "replace"),
    *("worker_memory_mib", "load_memory_mib", "why"),
)
"""Keys of a registered model that say how its versions run in workers."""
NOT_KNOWN = ("rows", "cost", "memory", "threads", "traits of failed requests")
"""What is not known of a version that runs elsewhere."""


@dataclass(frozen=True, slots=True)
class VersionAddress:
    """Where one version is asked."""

    engine: Engine
    infer: str
    """URL of a POST with a request."""
    ready: str
    """URL of a GET that is answered with 200 while the version answers."""
    metadata: str | None
    """URL of a GET that names model and versions; None where the engine has none."""
    name: str | None
    """What the engine calls the model; None where it does not matter."""


def default_path(engine: Engine, model: str) -> str:
    """The path that requests for the registered `model` are sent to, unless the configuration names one."""
    return f"/v2/models/{quote(model, safe='')}/infer" if engine == "v2" else "/invocations"


def is_path(engine: Engine, path: str) -> bool:
    """Whether readiness and metadata can be asked beside `path`."""
    return _INFER.fullmatch(path) is not None if engine == "v2" else path.startswith("/")


def address_of(base: str, engine: Engine, path: str | None, model: str, number: int) -> VersionAddress:
    """The address of version `number` of the registered `model`.

    `base`: scheme, host and port; `path`: None for the engine's own. In both `{version}` stands for the
    number. An engine of the Open Inference Protocol is asked for its readiness at the model of the path, one
    of MLflow at `/ping`, beside or below a path with `{version}`.
    """
    where = path if path is not None else default_path(engine, model)
    ping = _ping(where)
    base, where, ping = (text.replace(PLACEHOLDER, str(number)) for text in (base.rstrip("/"), where, ping))
    if engine == "mlflow":
        return VersionAddress(engine, base + where, base + ping, None, None)
    found = _INFER.fullmatch(where)
    assert found is not None  # the configuration was checked
    root = found["model"]
    beside = where.removesuffix("/infer")
    return VersionAddress(engine, base + where, f"{base}{beside}/ready", base + root, root.rpartition("/")[2])


def _ping(path: str) -> str:
    """Where readiness is asked: where paths tell versions apart, the host's `/ping` is that of them all."""
    if PLACEHOLDER not in path:
        return "/ping"
    parent, _, last = path.rpartition("/")
    return f"{path if PLACEHOLDER in last else parent}/ping"


@dataclass(frozen=True, slots=True)
class AtAddress:
    """A version that serves from an address, for operators."""

    url: str
    """Where requests go."""
    engine: Engine
    verified: bool
    """Whether the engine said that it holds this version; else only its address says so."""
