"""The gateway under further interpreters, each in an environment of its own below `.bench/`, made once.

Each environment holds this checkout and, of every library, the version that the run itself has: what differs
is the interpreter.
"""

import hashlib
import shutil
import sys
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from functools import partial
from importlib.metadata import distributions
from pathlib import Path

from benchmarks.processes import OUTPUT, ROOT, Ended, output
from benchmarks.servers import Place, Server, Start, gateway_by

_LOOK_SECONDS = 30.0
_MAKE_SECONDS = 900.0
_OURS = "mlflow-canary-router"
_MINOR = "import sys; print('%d.%d' % sys.version_info[:2])"


def gateway_under(minor: str) -> str:
    """What the gateway under an interpreter is called among the servers: `gateway, Python 3.12`."""
    return f"gateway, Python {minor}"


def prepare(minors: Collection[str], say: Callable[[str], None]) -> tuple[dict[str, Start], dict[str, str]]:
    """How those that can take part are started, by name, and why others can not."""
    found: dict[str, Start] = {}
    missing = {}
    for minor in minors:
        name = gateway_under(minor)
        if (python := interpreter(minor)) is None:
            missing[name] = f"neither python{minor} on the PATH nor one of uv's"
            continue
        try:
            found[name] = partial(_gateway, name, _environment(minor, python, say))
        except Ended as ended:
            missing[name] = f"its environment could not be made: {ended}"
    return found, missing


def _gateway(name: str, directory: Path, model: str, place: Place) -> AbstractContextManager[Server]:
    return gateway_by([str(directory / "bin" / "canary-router")], name, [model], place)


def interpreter(minor: str) -> str | None:
    """One of that version, which a shim of that name need not be."""
    for candidate in (sys.executable, shutil.which(f"python{minor}"), _of_uv(minor)):
        if candidate and _printed([candidate, "-c", _MINOR]) == minor:
            return candidate
    return None


def _of_uv(minor: str) -> str:
    return _printed(["uv", "python", "find", minor]) if shutil.which("uv") else ""


def _printed(command: list[str]) -> str:
    """Empty when it fails."""
    try:
        return output(command, None, _LOOK_SECONDS).strip()
    except (Ended, OSError):
        return ""


def _environment(minor: str, python: str, say: Callable[[str], None]) -> Path:
    """The environment for an interpreter, made unless it is there and holds the same. Raises Ended."""
    directory, pins = OUTPUT / f"python-{minor}", _pins()
    done = directory / "holds"
    holds = hashlib.sha256(
        (pins + (ROOT / "pyproject.toml").read_text(encoding="utf-8")).encode()
    ).hexdigest()
    if done.exists() and done.read_text(encoding="utf-8") == holds:
        return directory
    say(f"making an environment for Python {minor}: some 900 MB, once")
    shutil.rmtree(directory, ignore_errors=True)
    OUTPUT.mkdir(exist_ok=True)
    constraints = OUTPUT / f"python-{minor}.constraints"
    constraints.write_text(pins, encoding="utf-8")
    own = str(directory / "bin" / "python")
    ours = ["--constraint", str(constraints), "--editable", str(ROOT)]
    if shutil.which("uv"):
        make = ["uv", "venv", "--quiet", "--python", python, str(directory)]
        install = ["uv", "pip", "install", "--quiet", "--python", own, *ours]
    else:
        make = [python, "-m", "venv", str(directory)]
        install = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *ours]
    for command in (make, install):
        output(command, None, _MAKE_SECONDS)
    done.write_text(holds, encoding="utf-8")
    return directory


def _pins() -> str:
    """A constraint for each library that this interpreter finds, in the order of their names."""
    versions = {one.metadata["Name"]: one.version for one in distributions()}
    return "".join(
        f"{name}=={version}\n" for name, version in sorted(versions.items()) if name and name != _OURS
    )
