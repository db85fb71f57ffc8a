"""Builds an environment beside its place, makes it read-only, and renames it when it is whole."""

import ctypes
import errno
import fcntl
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import router
from router.agent.cache import part_name, sync_one
from router.core.redaction import redact_line
from router.core.version_environment import VersionEnvironment
from router.environments import store
from router.environments.disk_errors import disk_failure
from router.environments.integrity import seal
from router.environments.interpreters import Interpreter, may_pass
from router.environments.pins import Pins
from router.environments.uv import Uv
from router.errors import EnvironmentFailed, EnvironmentRefused

_RUN_SECONDS = 120.0
_MOST_COMPILERS = 8
"""Processes that write bytecode side by side, at a low priority."""
_FICLONE = 0x40049409
"""Linux's request that two files share their blocks until one of them is written to."""
_PROBE = ".reflink"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an environment is made of, and therefore its key."""

    interpreter: Interpreter
    pins: Pins
    modules: Sequence[str]
    """What it must be able to import before it is published."""
    only_binary: bool

    @property
    def key(self) -> str:
        """64 hexadecimal digits; equal for versions that can share an environment."""
        made_of = (
            self.interpreter.version,
            self.interpreter.build,
            os.path.realpath(self.interpreter.path),
            _platform(),
            self.pins.text,
            router.__version__,
        )
        return sha256("\0".join(made_of).encode()).hexdigest()


def build(
    root: Path, recipe: Recipe, uv: Uv, *, token: str, differences: tuple[str, ...], began: float
) -> tuple[store.Kept, bool]:
    """The environment of `recipe`, and whether it is the one that this call built.

    `token` is part of the name of the directory in which it is built, so that who ends this process can
    remove it; `began`, by the monotonic clock, is when its pins were first looked for. Raises
    EnvironmentFailed, of it EnvironmentRefused and IndexUnreachable.
    """
    try:
        with _part_in(root, token) as part:
            _install(part, recipe, uv)
            _try(part, recipe.modules)
            manifest, size = seal(part / store.VENV)
            about = VersionEnvironment(
                recipe.key,
                recipe.interpreter.path,
                recipe.interpreter.version,
                recipe.pins.digest,
                size,
                round(time.monotonic() - began, 3),
                differences,
            )
            store.write(part, about, recipe.pins, router.__version__, manifest)
            _sync(part)
            return _publish(root, part, recipe.key)
    except OSError as error:
        raise disk_failure(error, "the environment could not be built") from error


def _install(part: Path, recipe: Recipe, uv: Uv) -> None:
    venv = part / store.VENV
    # Relocatable, because it is built beside its place.
    uv.run("venv", "--relocatable", "--no-project", "--python", recipe.interpreter.path, str(venv))
    install = [
        *("pip", "sync", "--require-hashes", "--python", str(venv / "bin" / "python")),
        *("--link-mode", "clone" if _shares_blocks(part) else "copy"),
        *(("--only-binary", ":all:") if recipe.only_binary else ()),
        "-",
    ]
    # What was installed before needs no index, which may be slow, or out of reach.
    if uv.ask(*install, "--offline", input=recipe.pins.text).status:
        uv.run(*install, input=recipe.pins.text)
    _compile(venv, recipe.interpreter.path)


def _compile(venv: Path, python: str) -> None:
    """Write the bytecode of what was installed beside it, but for the tests that packages bring, a quarter of
    all code; what has errors stays without.

    Not by uv, which starts the environment's own Python for it, and with it what packages have run at every
    start (lines of `.pth` files), beside the credentials of the index. `-S`: the same for what lies beside
    the Python that the environment was made with.
    """
    jobs, library = min(os.cpu_count() or 1, _MOST_COMPILERS), str(venv / "lib")
    left_out = f"{re.escape(library)}/.*/tests/"
    subprocess.run(  # noqa: S603 - an interpreter that was asked what it is
        [python, "-I", "-S", "-m", "compileall", "-qq", "-j", str(jobs), "-x", left_out, library],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        cwd=venv,
    )


def _shares_blocks(directory: Path) -> bool:
    """Whether this file system can copy a file without its content.

    The installer's own way back from there is hard links, by which a version that writes into its libraries
    would write into every other environment, and into the cache from which the next one is built.
    """
    source, copy = directory / _PROBE, directory / f"{_PROBE}-copy"
    source.write_bytes(b"x" * 4096)
    try:
        with source.open("rb") as original, copy.open("wb") as made:
            fcntl.ioctl(made, _FICLONE, original.fileno())
    except OSError:
        return False
    finally:
        source.unlink()
        copy.unlink(missing_ok=True)
    return True


def _try(part: Path, modules: Sequence[str]) -> None:
    """Have the interpreter import what the processes of every version need. Raises EnvironmentFailed."""
    if trouble := why_not_running(part / store.VENV / "bin" / "python", modules):
        raise trouble


def why_not_running(python: Path, modules: Sequence[str]) -> EnvironmentFailed | None:
    """What is wrong with this interpreter: it does not start, or can not import `modules`; None: nothing."""
    statement = "; ".join(f"import {module}" for module in modules) or "pass"
    command = [str(python), "-I", "-B", "-c", statement]
    try:
        ended = subprocess.run(  # noqa: S603 - the interpreter that was asked for, in what was just built
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_RUN_SECONDS,
            check=False,
            cwd=python.parent,
        )
    except subprocess.TimeoutExpired:
        return EnvironmentFailed(f"its Python did not import {', '.join(modules)} in {_RUN_SECONDS:g} s")
    except OSError as error:
        kind = EnvironmentFailed if may_pass(error) else EnvironmentRefused
        return kind(f"its Python does not start: {error.strerror or error}")
    if not ended.returncode:
        return None
    said = ended.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    if ended.returncode < 0:
        return EnvironmentFailed(f"its Python was ended by signal {-ended.returncode}")
    return EnvironmentRefused(f"its Python does not run what versions need: {redact_line(said)}")


def _publish(root: Path, part: Path, key: str) -> tuple[store.Kept, bool]:
    place = store.place_of(root, key)
    while True:  # another turn only when another builder was faster, or is just removing what lies there
        try:
            part.rename(place)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        else:
            sync_one(root)
            if (published := store.read(place)) is None:
                raise EnvironmentFailed(f"the environment {key[:12]} was removed as soon as it was built")
            return published, True
        found = store.find(root, key)
        if isinstance(found, store.Kept):
            return found, False
        if found is not None:
            store.carry_versions(place, part)
            with suppress(FileNotFoundError):  # another builder was faster
                store.discard(store.set_aside(place))


@contextmanager
def _part_in(root: Path, token: str) -> Iterator[Path]:
    part = root / part_name(token)
    part.mkdir(mode=0o700)
    try:
        yield part
    finally:
        store.remove(part)


def _sync(part: Path) -> None:
    """All of it is safe on disk when this returns.

    In one call, for there may be 30 000 files: each by itself takes minutes on some disks.
    """
    descriptor = os.open(part, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    except AttributeError:  # not Linux
        os.sync()
    finally:
        os.close(descriptor)


def _platform() -> str:
    """Machine and C library: what decides which wheels fit."""
    library = ""
    with suppress(ValueError, OSError):
        library = os.confstr("CS_GNU_LIBC_VERSION") or ""
    return f"{platform.system()} {platform.machine()} {library}"
