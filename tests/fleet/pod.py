"""A container as the chart's pod describes it, without a container runtime.

`unshare` gives it processes and mounts of its own, `chroot` a root directory that nobody can write to, and
`setpriv` a user id that no file knows, group 0, and no capability. Environment, mounts and arguments are read
from the rendered objects. The rest is a built image's. Without one it is as the Dockerfile says, with this
machine's programs in the place of the image's: those of the system, and the Python that runs the tests,
mounted read-only at their own places.
"""

import base64
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.deploy.chart import Object, container_of, named, pod_of
from tests.deploy.conftest import DEPLOY
from tests.fleet.image import Image

_SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/sbin")
_ETC = ("nsswitch.conf", "host.conf", "resolv.conf", "ssl")
_DEVICES = ("null", "zero", "full", "random", "urandom")
USER = 1_000_680_000
"""As OpenShift draws one: no file belongs to it."""


def missing() -> str:
    """The programs that are not here; empty where all are."""
    return " ".join(
        one for one in ("unshare", "nsenter", "setpriv", "chroot", "mount") if not shutil.which(one)
    )


def volumes(found: list[Object], directory: Path) -> dict[str, Path]:
    """Each volume of the pod but those in memory, by its name, as a kubelet prepares it below `directory`."""
    made: dict[str, Path] = {}
    for volume in pod_of(found)["volumes"]:
        place = made[volume["name"]] = directory / volume["name"]
        place.mkdir()
        if "configMap" in volume:
            fill(place, "1", named(found, "ConfigMap", volume["configMap"]["name"])["data"])
        elif "secret" in volume:
            data = named(found, "Secret", volume["secret"]["secretName"])["data"]
            fill(place, "1", {name: base64.b64decode(text).decode() for name, text in data.items()})
            for path in (place / "..1").iterdir():
                path.chmod(volume["secret"]["defaultMode"])
        else:
            place.chmod(0o777)
    return made


def fill(volume: Path, revision: str, files: Mapping[str, str]) -> None:
    """All files of a revision appear at once, by one link."""
    (volume / f"..{revision}").mkdir()
    for name, text in files.items():
        (volume / f"..{revision}" / name).write_text(text)
        if not (volume / name).is_symlink():
            (volume / name).symlink_to(f"..data/{name}")
    (volume / "..new").symlink_to(f"..{revision}")
    (volume / "..new").rename(volume / "..data")


def environment_written() -> dict[str, str]:
    """What the Dockerfile's last stage sets."""
    text = (DEPLOY / "Dockerfile").read_text().rpartition("\nFROM ")[2].replace("\\\n", " ")
    [line] = re.findall(r"^ENV (.*)$", text, re.MULTILINE)
    written = dict(pair.split("=", 1) for pair in shlex.split(line))
    return {**written, "PATH": written["PATH"].replace("$PATH", "/usr/local/bin:/usr/bin:/bin")}


def environment(found: list[Object], image: Image | None = None) -> dict[str, str]:
    """All that the process finds: the image's, and over it the pod's."""
    inherited = image.environment if image else environment_written()
    return {**inherited, **{one["name"]: one["value"] for one in container_of(found).get("env", ())}}


def command(
    found: list[Object], made: Mapping[str, Path], root: Path, image: Image | None = None
) -> list[str]:
    """What runs the container with `root`, an empty directory, as its root directory; in whatever network."""
    filled = _of_image(image, root) if image else _of_this_machine(root)
    script = "\n".join(["set -e", *filled, *_mounts(found, made, root), _run(found, root, image)])
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script]


def run_script(image: Image, place: Path, script: Path, *arguments: str) -> None:
    """Have the image's own Python run a script of this repository; `place`: an empty directory."""
    root, repository = place / "root", DEPLOY.parent
    root.mkdir()
    environment = shlex.join(f"{name}={value}" for name, value in image.environment.items())
    run = shlex.join(["/opt/canary-router/bin/python", f"/mnt/{script.relative_to(repository)}", *arguments])
    lines = [
        "set -e",
        *_of_image(image, root),
        *_bound(repository, f"{root}/mnt", read_only=True),
        f"mount -t proc proc {root}/proc",
        *(f"touch {root}/dev/{one} && mount --bind /dev/{one} {root}/dev/{one}" for one in _DEVICES),
        f"exec chroot {root} env -i {environment} PYTHONPATH=/mnt {run}",
    ]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", "\n".join(lines)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


def _of_image(image: Image, root: Path) -> Iterator[str]:
    """Its files, below a layer that is thrown away, for the places that are mounted over."""
    layer = f"{root}.layer"
    yield f"mkdir {layer} && mount -t tmpfs -o mode=755 tmpfs {layer} && mkdir {layer}/upper {layer}/work"
    layers = f"lowerdir={image.root},upperdir={layer}/upper,workdir={layer}/work"
    yield f"mount -t overlay -o {layers} overlay {root}"
    yield f"mount -t tmpfs -o mode=755 tmpfs {root}/dev"


def _of_this_machine(root: Path) -> Iterator[str]:
    yield f"mount -t tmpfs -o mode=755 tmpfs {root}"
    for place in (*_SYSTEM, *_python()):
        if Path(place).is_symlink():
            yield f"ln -s {Path(place).readlink()} {root}{place}"
        else:
            yield from _bound(place, f"{root}{place}", read_only=True)
    yield f"mkdir {root}/etc {root}/dev {root}/proc"
    yield f"cp -a {' '.join(f'/etc/{name}' for name in _ETC)} {root}/etc"
    yield f"mkdir -p {root}/opt/canary-router/bin"
    entry = f'#!/bin/sh\\nexec {sys.executable} -m router "$@"\\n'
    yield f"printf '{entry}' > {root}/opt/canary-router/bin/canary-router"
    yield f"chmod 755 {root}/opt/canary-router/bin/canary-router"


def _mounts(found: list[Object], made: Mapping[str, Path], root: Path) -> Iterator[str]:
    yield f"cp /etc/hosts {root}/etc/hosts && mount --bind /etc/hosts {root}/etc/hosts"
    yield f"mount -t proc proc {root}/proc"
    for device in _DEVICES:
        yield f"touch {root}/dev/{device} && mount --bind /dev/{device} {root}/dev/{device}"
    in_memory = {
        one["name"]: one["emptyDir"]["sizeLimit"]
        for one in pod_of(found)["volumes"]
        if one.get("emptyDir", {}).get("medium") == "Memory"
    }
    for mount in container_of(found)["volumeMounts"]:
        target = root.as_posix() + mount["mountPath"]
        if limit := in_memory.get(mount["name"]):
            size = limit.replace("Mi", "m")
            yield f"mkdir -p {target} && mount -t tmpfs -o mode=1777,size={size} tmpfs {target}"
        else:
            yield from _bound(made[mount["name"]], target, read_only=mount.get("readOnly", False))
    if container_of(found)["securityContext"]["readOnlyRootFilesystem"]:
        yield f"mount -o remount,ro {root}"


def _bound(source: object, target: str, *, read_only: bool) -> Iterator[str]:
    yield f"mkdir -p {target} && mount --bind {source} {target}"
    if read_only:
        yield f"mount -o remount,bind,ro {target}"


def _python() -> list[str]:
    """Where the interpreter, its libraries and this project are, none below another or below the system's."""
    places = {sys.base_prefix, sys.prefix, str(DEPLOY.parent)}
    places |= {path for path in sys.path if path and Path(path).is_dir()}
    kept: list[str] = []
    for place in sorted(places):
        if not any(Path(place).is_relative_to(one) for one in (*_SYSTEM, *kept)):
            kept.append(place)
    return kept


def inside(found: list[Object], image: Image | None, number_1: int, *command: str) -> list[str]:
    """What runs `command` in the container whose process 1 is `number_1` outside, as `kubectl exec` does."""
    entered = ["nsenter", f"--target={number_1}", "--mount", "--pid", "--net", "--root", "--wd"]
    return [*entered, "setpriv", *_limits(found), "env", "-i", *_variables(found, image), *command]


def _run(found: list[Object], root: Path, image: Image | None) -> str:
    where = image.config["WorkingDir"] if image else "/var/lib/canary-router"
    entry = image.config["Entrypoint"] if image else ["canary-router"]
    started = shlex.join([*_variables(found, image), *entry, *container_of(found)["args"]])
    inner = shlex.quote(f"cd {where} && exec env -i {started}")
    return f"exec chroot {root} setpriv {shlex.join(_limits(found))} sh -c {inner}"


def _variables(found: list[Object], image: Image | None) -> list[str]:
    return [f"{name}={value}" for name, value in environment(found, image).items()]


def _limits(found: list[Object]) -> list[str]:
    context: dict[str, Any] = {**pod_of(found)["securityContext"], **container_of(found)["securityContext"]}
    assert context["capabilities"] == {"drop": ["ALL"]}
    user = context.get("runAsUser", USER)
    limits = [f"--reuid={user}", f"--regid={context['runAsGroup']}", "--clear-groups"]
    limits += ["--bounding-set=-all", "--inh-caps=-all"]
    return limits if context["allowPrivilegeEscalation"] else [*limits, "--no-new-privs"]
