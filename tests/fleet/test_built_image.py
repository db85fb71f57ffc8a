"""The image as it is built: what it says, what it holds, and the chart's pod served from its files.

`make image` builds it, and names in TEST_IMAGE the directory that keeps bases and layers for the next time.
"""

import json
import os
import shlex
import stat
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.conftest import Figure
from tests.deploy.test_image import only
from tests.fleet import pod
from tests.fleet.cluster import BUILD_FAULTS, SharedRegistry, shared_registry
from tests.fleet.image import Image, built_image, why_not
from tests.fleet.test_pod import the_pod_serves

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
AT_MOST_MIB = 1400
"""On a node's disk. What pulls it waits for it, so a fifth more is to be noticed."""


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    if "TEST_IMAGE" not in os.environ:
        pytest.skip("`make image` builds the image")
    if reason := why_not():
        pytest.skip(reason)
    with built_image(Path(os.environ["TEST_IMAGE"])) as image:
        yield image


@pytest.fixture(scope="module")
def registry(
    image: Image, postgres_programs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SharedRegistry]:
    """With versions that the image's own Python logged: it loads no others."""

    def log(_: Path, server: str) -> None:
        pod.run_script(image, tmp_path_factory.mktemp("logged"), BUILD_FAULTS, "/tmp", server)

    with shared_registry(postgres_programs, tmp_path_factory.mktemp("registry"), log) as registry:
        yield registry


def inside(image: Image, *command: str) -> "subprocess.CompletedProcess[str]":
    """As a user whom no file knows, in group 0, with nothing but the image's files and its environment."""
    limits = f"--reuid={pod.USER} --regid=0 --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs"
    variables = [f"{name}={value}" for name, value in image.environment.items()]
    run = shlex.join(["env", "-i", *variables, *command])
    script = f"chroot {image.root} setpriv {limits} {run}"
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True)


def files(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """All below it but links."""
    for path in directory.rglob("*"):
        found = path.lstat()
        if not stat.S_ISLNK(found.st_mode):
            yield path, found


def mib(directory: Path) -> float:
    """What its files take on a disk."""
    return sum(found.st_blocks * 512 for _, found in files(directory)) / 2**20


def test_it_says_what_the_dockerfile_says(image: Image) -> None:
    config = image.config

    assert config["User"] == only("USER")
    assert config["Entrypoint"] == json.loads(only("ENTRYPOINT"))
    assert config["Cmd"] == json.loads(only("CMD"))
    assert config["WorkingDir"] == only("WORKDIR")
    assert list(config["ExposedPorts"]) == [f"{only('EXPOSE')}/tcp"]
    assert config["Healthcheck"]["Test"] == ["CMD", "canary-router", "health"]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    written = pod.environment_written()
    beginning, end = (part.strip(":") for part in only("ENV").split()[0].partition("=")[2].split("$PATH"))
    assert image.environment["PATH"].startswith(f"{beginning}:")
    assert image.environment["PATH"].endswith(f":{end}")
    for name in written.keys() - {"PATH"}:
        assert image.environment[name] == written[name]


def test_its_size_is_known(image: Image, figure: Figure) -> None:
    whole, libraries = (mib(image.root / below) for below in ("", "opt/canary-router"))
    figure(
        f"image: {whole:.0f} MiB on disk, {image.packed_mib:.0f} MiB to pull; {libraries:.0f} MiB of it"
        f" are the gateway and its libraries; built on {image.base}"
    )
    assert whole < AT_MOST_MIB


def test_whoever_runs_it_can_read_all_and_write_nothing_but_its_own_places(image: Image) -> None:
    """Any user id, in group 0: also where the root directory is not mounted read-only."""
    for below in ("opt", "usr/local"):
        for path, found in files(image.root / below):
            needed = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(found.st_mode) else 0)
            assert found.st_mode & needed == needed, path
            assert not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH | stat.S_ISUID | stat.S_ISGID), path
            assert (found.st_uid, found.st_gid) == (0, 0), path
    for path, found in files(image.root / "var/lib/canary-router"):
        assert stat.S_IMODE(found.st_mode) == 0o1770, path
        assert (found.st_uid, found.st_gid) == (10001, 0), path


def test_nothing_of_its_build_is_left_in_it(image: Image) -> None:
    """No sources, no caches, no settings of the machine that built it, and no credentials."""
    for gone in ("src", "root/.cache", "root/.config", "root/certificates.pem", "etc/pip.conf"):
        assert not (image.root / gone).exists(), gone
    assert list((image.root / "tmp").iterdir()) == []
    assert list((image.root / "var/cache/apt").rglob("*.deb")) == []
    names = {path.name for path, _ in files(image.root / "opt")}
    assert names.isdisjoint({".git", ".env", "pip.conf", ".netrc", ".pypirc", "id_rsa"})
    assert not (image.root / "opt/canary-router/lib/python3.12/site-packages/tests").exists()
    said = json.dumps([image.config, image.history]).lower()
    for word in ("pip_", "index-url", "password", "token", "secret", "proxy="):
        assert word not in said, word


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (["canary-router", "--version"], version("mlflow-canary-router")),
        (["python", "-m", "pip", "check"], "No broken requirements found."),
        (["mlflow", "--version"], "mlflow, version 3."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_its_programs_run_as_any_user(image: Image, command: list[str], answer: str) -> None:
    done = inside(image, *command)

    assert done.returncode == 0, done.stderr
    assert answer in done.stdout


def test_the_charts_pod_serves_from_its_files_under_the_pods_own_terms(
    image: Image, registry: SharedRegistry, tmp_path: Path, slack: float
) -> None:
    the_pod_serves(registry, tmp_path, slack, image)
