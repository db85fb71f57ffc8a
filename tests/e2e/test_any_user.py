"""A user id of the platform's choice in group 0, as OpenShift runs images."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import slowness
from tests.support.gateway import GatewayProcess

IMAGES_USER = 10001
SOMEBODY = 1_000_680_000
AS_SOMEBODY = ("unshare", "--user", f"--map-user={SOMEBODY}", "--map-group=0", sys.executable)
"""A user namespace: what belongs to other users than the test's is out of reach there, but by its group."""
ONE_MODEL = "  sentiment: {split: {production: 100}}\n"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A directory as the image's: the user's who built it, writable for group 0."""
    if os.getuid() != 0 or not shutil.which("unshare"):
        pytest.skip("a directory of another user takes root, and another user id takes unshare")
    if subprocess.run([*AS_SOMEBODY[:-1], "true"], capture_output=True).returncode:
        pytest.skip("user namespaces are switched off here")
    directory = tmp_path / "image"
    directory.mkdir()
    os.chown(directory, IMAGES_USER, 0)
    directory.chmod(0o1770)
    return directory


def serve(directory: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """A gateway whose environment is `environ` and nothing else, until it ends by itself."""
    config = directory / "router.yaml"
    config.write_text(
        "server: {listen: 127.0.0.1:0, admin: 127.0.0.1:0}\n"
        "registry: {uri: 'http://127.0.0.1:9'}\nlog: {level: warning}\nmodels:\n" + ONE_MODEL
    )
    return subprocess.run(
        [*AS_SOMEBODY, "-m", "router", "serve", "-c", str(config)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(sys.path), **environ},
        capture_output=True,
        text=True,
        timeout=60 * slowness.slack(),
    )


def test_any_user_id_in_group_0_serves_from_the_image_s_directory(
    start: Callable[..., GatewayProcess], image: Path
) -> None:
    gateway = start(ONE_MODEL, cache=image, command=AS_SOMEBODY, HOME="/")

    assert gateway.ask("user-1").json() == {"predictions": [0.1]}
    own = image / str(SOMEBODY)
    assert [path.name for path in image.iterdir()] == [own.name]
    assert own.stat().st_mode & 0o777 == 0o700
    assert list(own.glob("sentiment/1-*/files/MLmodel"))


@pytest.mark.slow
def test_without_a_home_directory_a_named_cache_is_enough(
    start: Callable[..., GatewayProcess], image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME")
    gateway = start(ONE_MODEL, cache=image, command=AS_SOMEBODY)

    assert gateway.ask("user-1").status_code == 200


@pytest.mark.parametrize(
    ("environ", "directory"),
    [({"HOME": "/proc"}, "/proc/.cache"), ({"XDG_CACHE_HOME": "{image}"}, "{image}/canary-router"), ({}, "")],
)
def test_where_the_cache_can_not_be_it_ends_with_2_and_one_line(
    image: Path, tmp_path: Path, environ: dict[str, str], directory: str
) -> None:
    image.chmod(0o700)  # as the image's directory was
    places = {name: value.format(image=image) for name, value in environ.items()}
    ended = serve(tmp_path, **places)

    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert line.startswith(directory.format(image=image) or "this user has no home directory")
    assert "registry.cache_dir" in line
    assert ended.stdout == ""
