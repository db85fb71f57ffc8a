"""The image of deploy/Dockerfile, built by buildah as it lies there, without a container engine.

Where no registry of images is reached, its base is made here, under the very name that the Dockerfile asks
for: Debian from its mirror by `mmdebstrap`, and in it the Python of that minor version that this machine has.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.pythons import interpreter
from tests.deploy.conftest import DEPLOY

NAME = "localhost/canary-router"
BASE = re.compile(r"^FROM (python:(3\.\d+)\.\d+-slim-(\w+))", re.MULTILINE)
"""Name, minor version of Python, and Debian's release."""
_LIBRARIES = (
    *("ca-certificates", "netbase", "tzdata"),
    *("libbz2-1.0", "libexpat1", "libffi8", "liblzma5", "libncursesw6"),
    *("libreadline8", "libsqlite3-0", "libssl3", "libuuid1", "zlib1g"),
)
"""What the official image has above Debian's least, and what Python's own modules are linked with."""
_MODULES = "bz2, ctypes, lzma, pyexpat, readline, sqlite3, ssl, uuid, venv, zlib"
_LEFT_OUT = ("config-*", "idlelib", "lib2to3", "site-packages", "test", "tests", "tkinter", "turtledemo")
_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
_PIP_KEYS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout")
_SECONDS = 1800.0


@dataclass(frozen=True)
class Image:
    """A built one, while its files are mounted."""

    root: Path
    """Its files. Nobody may write there."""
    config: dict[str, Any]
    """What it says to whoever runs it, in the words of the Open Container Initiative."""
    history: list[dict[str, Any]]
    packed_mib: float
    """Of all its layers, packed by gzip, as it is pulled."""
    base: str
    """What it was built on."""

    @property
    def environment(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for pair in self.config["Env"])


def why_not() -> str:
    """Why no image can be built here; empty where one can."""
    if os.geteuid() != 0:
        return "only root may build an image"
    if missing := [one for one in ("buildah", "mmdebstrap") if shutil.which(one) is None]:
        return f"missing here, and a Debian package each: {' '.join(missing)}"
    return ""


@contextmanager
def built_image(place: Path, say: Callable[[str], object] = print) -> Iterator[Image]:
    """Built in `place`, where base and layers are kept for the next time, and mounted for the block."""
    place.mkdir(parents=True, exist_ok=True)
    store = _Store(place)
    base = _base(store, place, say)
    say(f"building the image on {base}")
    # Settings of pip may hold a password: they are never below the kept directory.
    with tempfile.TemporaryDirectory(dir=place) as directory, tempfile.TemporaryDirectory() as home:
        _pip_settings(Path(home))
        store.buildah(
            *("build", "--isolation", "chroot", "--network", "host", "--pull=never", "--layers"),
            *("--format", "docker"),  # which knows of health checks
            # Over a directory that the base has: a place of its own would be left in the image, empty.
            *("--volume", f"{home}:/root:ro"),
            *("--ignorefile", str(DEPLOY / "Dockerfile.dockerignore")),
            *("--file", str(DEPLOY / "Dockerfile"), "--tag", NAME, str(DEPLOY.parent)),
        )
        packed = Path(directory, "packed")
        store.buildah("push", "--quiet", "--compression-format", "gzip", NAME, f"oci:{packed}")
        packed_mib = sum(one.stat().st_size for one in packed.rglob("*") if one.is_file()) / 2**20
    document = json.loads(store.buildah("inspect", "--type", "image", NAME))["Docker"]
    container = store.buildah("from", "--pull=never", NAME)
    try:
        yield Image(
            root=Path(store.buildah("mount", container)),
            config=document["config"],
            history=document["history"],
            packed_mib=packed_mib,
            base=base,
        )
    finally:
        store.buildah("rm", container)


class _Store:
    """buildah with images of its own below a directory."""

    def __init__(self, place: Path) -> None:
        self._options = ["--root", str(place / "images"), "--runroot", str(place / "run")]

    def buildah(self, *arguments: str) -> str:
        """What it prints. AssertionError, with the end of what it says, where it fails."""
        done = self.tried(*arguments)
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout.strip()

    def tried(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = ["buildah", *self._options, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)


def _base(store: _Store, place: Path, say: Callable[[str], object]) -> str:
    """Have what the Dockerfile begins with in the store, and say what it is."""
    [(tag, minor, release)] = set(BASE.findall((DEPLOY / "Dockerfile").read_text()))
    name = f"docker.io/library/{tag}"
    there = _described(store, name)
    if there != name and store.tried("pull", "--quiet", "--retry", "0", name).returncode != 0 and not there:
        say(f"no registry gives {name}; making it from Debian's mirror")
        _make_base(store, place, name, minor, release)
    return _described(store, name)


def _described(store: _Store, name: str) -> str:
    """What lies in the store under the name: the name itself where it is the official one; empty: nothing."""
    found = store.tried("inspect", "--type", "image", name)
    if found.returncode != 0:
        return ""
    labels = json.loads(found.stdout)["Docker"]["config"]["Labels"] or {}
    return str(labels.get("description", name))


def _make_base(store: _Store, place: Path, name: str, minor: str, release: str) -> None:
    python = interpreter(minor)
    assert python is not None, f"neither python{minor} on the PATH nor one of uv's, to make {name} with"
    version, prefix = subprocess.run(
        [python, "-c", "import sys; print(sys.version.split()[0]); print(sys.base_prefix)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    with tempfile.TemporaryDirectory(dir=place) as directory:
        root = Path(directory) / "root"
        packages = f"--include={','.join(_LIBRARIES)}"
        _run(["mmdebstrap", "--quiet", "--variant=minbase", packages, release, str(root)])
        _put_python(Path(prefix), minor, root / "usr/local")
        _run(["chroot", str(root), "/usr/sbin/ldconfig"])
        # Linked with libraries of another release it would end here.
        _run(["chroot", str(root), "/usr/local/bin/python", "-c", f"import {_MODULES}"])
        _run(["chroot", str(root), "/usr/local/bin/python", "-m", "ensurepip", "--default-pip"])
        container = store.buildah("from", "scratch")
        store.buildah("add", "--quiet", container, str(root), "/")
        described = f"description=Debian {release} with Python {version} of this machine, in place of {name}"
        variables = ["--env", f"PATH={_PATH}", "--env", "LANG=C.UTF-8"]
        store.buildah("config", *variables, "--label", described, container)
        store.buildah("commit", "--quiet", "--rm", container, name)


def _put_python(prefix: Path, minor: str, target: Path) -> None:
    """The interpreter and its library, as the official image has them: no tests, nothing to link with."""
    library = f"lib/python{minor}"
    left_out = shutil.ignore_patterns(*_LEFT_OUT, "*.a", "__pycache__", "_tkinter*", "_test*")
    shutil.copytree(prefix / library, target / library, symlinks=True, ignore=left_out)
    (target / library / "site-packages").mkdir()
    for shared in (prefix / "lib").glob("libpython*.so*"):
        shutil.copy2(shared, target / "lib", follow_symlinks=False)
    shutil.copy2(prefix / f"bin/python{minor}", target / "bin")
    for link in ("python3", "python"):
        (target / "bin" / link).symlink_to(f"python{minor}")
    for path in target.rglob("*"):
        os.chown(path, 0, 0, follow_symlinks=False)


def _pip_settings(home: Path) -> None:
    """What this machine's pip needs to reach its index goes along, for the build and not into the image."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    settings = dict(re.findall(r"^(?:global|:env:)\.([\w-]+)='(.*)'$", listed, re.MULTILINE))
    lines = ["[global]"]
    for key, value in settings.items():
        if key == "cert":
            shutil.copy(value, home / "certificates.pem")
            lines.append("cert = /root/certificates.pem")
        # Directories of this machine are not there.
        elif key in _PIP_KEYS and (kept := [word for word in value.split() if not word.startswith("file:")]):
            lines.append(f"{key} = {' '.join(kept)}")
    (home / ".config/pip").mkdir(parents=True)
    (home / ".config/pip/pip.conf").write_text("\n".join(lines) + "\n")


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    assert done.returncode == 0, f"{command[0]}: {done.stderr[-3000:]}"
