"""A short-lived process that finds the Python environment of one version, or builds it."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import router
from router.agent.cache import model_directory
from router.core.redaction import redact_line
from router.core.version_environment import GATEWAYS_OWN
from router.environments import store
from router.environments.build import Recipe, build, why_not_running
from router.environments.disk_errors import disk_failure
from router.environments.eviction import evict
from router.environments.gateway_comparison import differences
from router.environments.interpreters import Interpreter, find_interpreter
from router.environments.pins import Pins, pins_of, remove_unused_pins
from router.environments.rules import Rules, own_requirements
from router.environments.uv import Uv
from router.environments.wanted import Wanted, read_wanted
from router.errors import DiskFull, EnvironmentFailed, EnvironmentRefused, IndexUnreachable
from router.protocol.channel import Channel

_NICE = 10
_LONGEST_ERROR = 1500
_MLFLOW = "mlflow"


def main(sock: socket.socket) -> None:
    """Answer one order and end.

    The frame: `op`, `model`, `version`, `cache_dir` (absolute), and `token`, which is part of the name of a
    directory that is half built, so that who ends this process can remove it. Of `op` "prepare" besides
    `files` (absolute), the version's; `rules`, those of a `Rules`, without `own` where it is the gateway's;
    `index`, the variables of the package index; `max_bytes`, of all environments; `build`, false where
    nothing is to be resolved or built. "stand in" is for after a build that was ended: what it left is
    removed, and the version gets what a former release prepared it in, if that can be used; `why`, in the
    place of `build`, says how the build ended. "locate" looks for the environment that the version was
    prepared in last, by this release of the gateway and for its MLflow: a load would build anew what others
    prepared.

    Answers `{"op": "prepared"}` with `about`, the fields of a VersionEnvironment, `note`, `rebuilt`, a
    sentence where an environment was not as it was built, `built` and `resolved_seconds`;
    `{"op": "missing"}`; or `{"op": "failed", "error", "kind"}`, the kind being refused, index or failed. All
    have the order's `id`, and those that swept `left_bytes`, `removed` and `removed_bytes`, as
    `eviction.Swept` has them.
    """
    channel = Channel(sock)
    order = channel.receive()
    if order is None:
        return
    try:
        answer = _answer(order.header)
    except Exception as error:  # noqa: BLE001 # whatever goes wrong is an answer
        answer = _failure(error)
    with suppress(OSError):  # the gateway is gone
        channel.send({"id": order.header.get("id"), **answer})


def _failure(error: Exception) -> dict[str, Any]:
    sentence = redact_line(str(error) or repr(error), _LONGEST_ERROR)
    return {"op": "failed", "error": sentence, "kind": _kind_of(error)}


def _kind_of(error: Exception) -> str:
    if isinstance(error, EnvironmentRefused):
        return "refused"
    return "index" if isinstance(error, IndexUnreachable) else "failed"


def _answer(order: Mapping[str, Any]) -> dict[str, Any]:
    root = store.open_root(Path(order["cache_dir"]))
    if order["op"] == "locate":
        found = _last_of(root, model_directory(root.parent, order["model"]) / f"{order['version']}-*")
        if found is None or not _is_of_this_gateway(found):
            return {"op": "missing"}
        return {"op": "prepared", "about": asdict(found.about)}
    rules = Rules.from_frame({"own": own_requirements(), **order["rules"]})
    preparation = _Preparation(root, Path(order["files"]), rules, Uv(root / store.UV, order["index"]))
    if order["op"] == "prepare" and not order["build"]:
        return preparation.find() or {"op": "missing"}
    os.nice(_NICE)  # requests go first
    with _installing(root):
        if order["op"] == "prepare":
            answer = preparation.build(order["token"])
        else:
            store.remove_leftovers(root)
            answer = preparation.stand_in(EnvironmentFailed(order["why"])) or {"op": "missing"}
    return answer | preparation.swept(order["max_bytes"])


class _Preparation:
    """One version's environment, from what the version asks for."""

    def __init__(self, root: Path, files: Path, rules: Rules, uv: Uv) -> None:
        self._began = time.monotonic()
        self._root = root
        self._files = files
        self._rules = rules
        self._uv = uv
        self._failed: EnvironmentFailed | None = None
        """Why nothing could be built, also where there is something else to run in."""
        self._built = False
        self._wanted: Wanted = read_wanted(files, rules)
        self._interpreter: Interpreter
        self._interpreter, self._note = find_interpreter(
            self._wanted.python, rules.python, rules.python_mismatch
        )

    def find(self) -> dict[str, Any] | None:
        """The answer, without resolving or building anything; None where that is needed."""
        pins = self._pins(resolve=False)
        if pins is None:
            return None
        found = store.find(self._root, self._recipe(pins).key)
        return self._found(found, pins.note) if isinstance(found, store.Kept) else None

    def build(self, token: str) -> dict[str, Any]:
        """The answer; where nothing can be built just now, that of `stand_in`, else the failure."""
        try:
            store.remove_leftovers(self._root)
            remove_unused_pins(self._files.parent.parent, time.time())
            return self._build(token)
        except OSError as error:
            failed = disk_failure(error, "the environment could not be built")
        except EnvironmentFailed as error:  # no index, a full disk, too little memory
            failed = error
        return self.stand_in(failed) or _failure(failed)

    def stand_in(self, failed: EnvironmentFailed) -> dict[str, Any] | None:
        """The answer with the environment of a former release, because nothing could be built; None where
        there is none that can still be used, or the version was refused."""
        self._failed = failed
        former = None if isinstance(failed, EnvironmentRefused) else self._former()
        if former is None:
            return None
        note = (
            f"{failed}: the environment is used that gateway {former.gateway} built for it,"
            " until another one can be built at a later load"
        )
        return self._found(former, note)

    def swept(self, max_bytes: int) -> dict[str, Any]:
        """The fields of a Swept, where something was built or may have been downloaded in vain: all that is
        kept has `max_bytes` at most again, as far as nobody needs it."""
        if self._failed is None and not self._built:
            return {}
        # What the version was prepared in last, just now or by a former release, is yet to be held.
        spare = store.latest_of(self._root, store.version_name(self._files.parent))
        # A full disk is full for whatever serves, too.
        bound_bytes = 0 if isinstance(self._failed, DiskFull) else max_bytes
        return asdict(evict(self._root.parent, bound_bytes, spare=spare))

    def _build(self, token: str) -> dict[str, Any]:
        pins, resolved_seconds = self._pins(resolve=False), 0.0
        if pins is None:
            pins = self._pins(resolve=True)
            resolved_seconds = time.monotonic() - self._began
        if pins is None:
            raise EnvironmentFailed("its requirements were not resolved")
        recipe = self._recipe(pins)
        found = store.find(self._root, recipe.key)
        if isinstance(found, store.Kept):  # another gateway was faster, or another version has equal pins
            return self._found(found, pins.note)
        why = "" if found is None else found.why
        try:
            kept, built = build(
                self._root,
                recipe,
                self._uv,
                token=token,
                differences=self._differences(pins),
                began=self._began,
            )
        except EnvironmentFailed as error:
            raise type(error)(f"{why}, and {error}") if why else error from None
        answer = self._found(kept, pins.note)
        if built:
            self._built = True
            answer |= {"built": True, "resolved_seconds": round(resolved_seconds, 3), "rebuilt": why}
        return answer

    def _pins(self, *, resolve: bool) -> Pins | None:
        where = self._files.parent
        return pins_of(self._wanted, self._interpreter, self._rules, self._uv, where, resolve=resolve)

    def _recipe(self, pins: Pins) -> Recipe:
        return Recipe(self._interpreter, pins, _modules(self._rules), self._rules.only_binary)

    def _differences(self, pins: Pins) -> tuple[str, ...]:
        return differences(self._wanted.lines, pins.releases, self._interpreter.version)

    def _former(self) -> store.Kept | None:
        """What the version was prepared in by another release, where that can still be used."""
        former = _last_of(self._root, self._files.parent)
        if former is None or not _same_minor(former.pins, self._rules):
            return None
        python = Path(former.about.interpreter)
        return former if why_not_running(python, _modules(self._rules)) is None else None

    def _found(self, kept: store.Kept, *notes: str) -> dict[str, Any]:
        store.note_use(kept.place, self._files)
        about = replace(kept.about, differences=self._differences(kept.pins))
        return {
            "op": "prepared",
            "about": asdict(about),
            "note": "; ".join(note for note in (self._note, *notes) if note),
            "rebuilt": kept.mended,
            "built": False,
            "resolved_seconds": 0.0,
        }


def _last_of(root: Path, copy: Path) -> store.Kept | None:
    """The environment that the version was prepared in last whose `copy` is of this name; None unless it is
    whole."""
    place = store.latest_of(root, store.version_name(copy))
    kept = None if place is None else store.read(place)
    found = None if kept is None else store.find(root, kept.about.key)
    return found if isinstance(found, store.Kept) else None


def _is_of_this_gateway(kept: store.Kept) -> bool:
    """Whether it was built by this release, and holds of GATEWAYS_OWN what is installed here."""
    releases = kept.pins.releases
    ours = (line.split("==") for line in own_requirements())
    return kept.gateway == router.__version__ and all(
        releases.get(name, release) == release for name, release in ours
    )


def _modules(rules: Rules) -> tuple[str, ...]:
    """What the child side imports before MLflow; nothing where an environment is no version's."""
    names = [line.partition("==")[0] for line in rules.own]
    ours = [name for name in names if name in GATEWAYS_OWN and not name.startswith(_MLFLOW)]
    return (*ours, *(("numpy", "pandas") if _MLFLOW in names else ()))


def _same_minor(pins: Pins, rules: Rules) -> bool:
    """Whether MLflow has the gateway's major and minor version there."""
    ours = [line.partition("==")[2] for line in rules.own if line.startswith(f"{_MLFLOW}==")]
    theirs = pins.releases.get(_MLFLOW, "")
    return not ours or ours[0].split(".")[:2] == theirs.split(".")[:2]


@contextmanager
def _installing(root: Path) -> Iterator[None]:
    """Nobody removes the package cache until the block ends. What killed installers left in it goes first."""
    descriptor = os.open(root / store.UV, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove_temporary(root / store.UV)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _remove_temporary(home: Path) -> None:
    for pattern in ("tmp/*", "work/*", "cache/.tmp*", "cache/*/.tmp*"):
        for path in home.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                store.remove(path)
            else:
                with suppress(OSError):
                    path.unlink()
