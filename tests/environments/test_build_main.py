"""The process that builds needs nothing of the machine but the cache: no home, no other place to write."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from router.core.version_environment import FOLDER
from router.environments import store
from tests.support import slowness
from tests.support.environments import add_version, make_environment, policy_for
from tests.support.package_index import package_index

ORDER = """
import json, socket, sys, threading
from router.environments.build_main import main
from router.protocol.channel import Channel
ours, theirs = socket.socketpair()
child = threading.Thread(target=main, args=(theirs,))
child.start()
channel = Channel(ours)
channel.send(json.loads(sys.argv[1]))
answer = channel.receive()
child.join()
print(json.dumps(answer.header))
"""
ON_A_READ_ONLY_ROOT = """
mount --bind "$1" "$1" && mount -o remount,bind,ro / || exit 99
touch "$2" 2>/dev/null && exit 98
shift 2
exec unshare --user --map-user=1000680000 --map-group=0 "$@"
"""


def order(cache: Path, uri: str, files: str, **changed: Any) -> str:
    """A whole one, in JSON."""
    policy = policy_for(uri)
    whole = {
        "op": "prepare",
        "model": "m",
        "version": 1,
        "cache_dir": str(cache),
        "token": "0" * 16,
        "files": files,
        "rules": dict(policy.rules),
        "index": dict(policy.index),
        "max_bytes": policy.max_bytes,
        "build": True,
    }
    return json.dumps({**whole, **changed})


def answer_of(command: list[str]) -> dict[str, Any]:
    ended = subprocess.run(
        command,
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60 * slowness.slack(),
    )
    if ended.returncode == 99 or "unshare" in ended.stderr:
        pytest.skip("this machine does not let root make its file system read-only for one process")
    assert ended.returncode == 0, ended.stderr
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer


@pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("unshare"), reason="mounts take root, and user ids unshare"
)
def test_any_user_without_a_home_builds_on_a_read_only_root(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    files = add_version(cache, "m", 1, "tiny")
    as_somebody = ["unshare", "--mount", "sh", "-c", ON_A_READ_ONLY_ROOT, "sh"]
    with package_index() as index:
        index.add("tiny", "1.0")
        command = [
            *(*as_somebody, str(cache), str(tmp_path / "elsewhere")),
            *(sys.executable, "-c", ORDER, order(cache, index.uri, files)),
        ]
        answer = answer_of(command)
        assert answer.get("op") == "prepared", answer
        assert answer["built"]
        kept = store.find(cache / FOLDER, answer["about"]["key"])
        assert isinstance(kept, store.Kept)
        [module] = (kept.place / store.VENV).glob("lib/*/site-packages/tiny/__init__.py")
        module.write_text("changed")

        again = answer_of(command)

    assert again["rebuilt"].startswith("lib/python")
    assert isinstance(store.find(cache / FOLDER, answer["about"]["key"]), store.Kept)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    assert sorted(path.name for path in kept.place.parent.iterdir()) == [store.UV, kept.place.name]


def test_a_cache_that_others_may_write_is_not_built_into(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    files = add_version(cache, "m", 1, "tiny")
    (cache / FOLDER).mkdir()
    (cache / FOLDER).chmod(0o770)

    answer = answer_of([sys.executable, "-c", ORDER, order(cache, "http://127.0.0.1:9", files)])

    assert (answer["op"], answer["kind"]) == ("failed", "failed")
    assert "others can write to it" in answer["error"]


def test_what_was_downloaded_for_a_build_that_fails_counts_as_what_is_left_of_others(tmp_path: Path) -> None:
    """Versions that fail one after the other would fill the disk, for only a build that succeeds is swept."""
    cache = tmp_path / "cache"
    files = add_version(cache, "m", 1, "tiny")
    with package_index() as index:
        index.cacheable = True
        index.add("tiny", "1.0", files={"tiny-1.0.data/scripts/python": "#!/bin/sh\n"})  # uv installs no such

        answer = answer_of([sys.executable, "-c", ORDER, order(cache, index.uri, files)])
        assert (answer["op"], answer["kind"]) == ("failed", "failed"), answer
        assert (cache / FOLDER / store.UV / store.PACKAGES).exists()
        answer = answer_of([sys.executable, "-c", ORDER, order(cache, index.uri, files, max_bytes=1)])

    assert "reserved name" in answer["error"]
    assert not (cache / FOLDER / store.UV / store.PACKAGES).exists()


def test_on_a_full_disk_what_was_downloaded_makes_room(small_disk: Path) -> None:
    cache = small_disk / "cache"
    files = add_version(cache, "m", 1, "tiny")
    with package_index() as index:
        index.cacheable = True
        index.add("tiny", "1.0", files={"tiny/__init__.py": f"x = {'1' * (1100 << 10)!r}\n"})

        answer = answer_of([sys.executable, "-c", ORDER, order(cache, index.uri, files)])

    assert "No space left on device" in answer["error"]
    assert not (cache / FOLDER / store.UV / store.PACKAGES).exists()


def test_on_a_full_disk_what_no_version_needs_makes_room_and_what_one_runs_in_stays(small_disk: Path) -> None:
    """Needed are what a gateway holds, what a last good version was prepared in, and what the version itself
    may go back to, with a former gateway as well."""
    cache = small_disk / "cache"
    files = add_version(cache, "m", 1, "tiny")
    unneeded, held, former = (make_environment(cache, digit * 64) for digit in "abc")
    store.note_use(former.place, Path(files))
    with package_index() as index, held_by_a_gateway(held.place):
        index.add("tiny", "1.0", files={"tiny/__init__.py": f"x = {'1' * (1100 << 10)!r}\n"})

        answer = answer_of([sys.executable, "-c", ORDER, order(cache, index.uri, files)])

    assert (answer["op"], answer["kind"]) == ("failed", "failed"), answer
    assert "No space left on device" in answer["error"]
    assert unneeded.about.short in answer["removed"]
    assert set(store.places_in(cache / FOLDER)) == {held.place, former.place}


@contextmanager
def held_by_a_gateway(place: Path) -> Iterator[None]:
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def test_also_where_the_version_runs_in_its_former_environment_meanwhile(small_disk: Path) -> None:
    cache = small_disk / "cache"
    files = add_version(cache, "m", 1, "tiny")
    with package_index() as index:
        index.cacheable = True
        index.add("tiny", "1.0")
        index.add("large", "1.0", files={"large/__init__.py": f"x = {'1' * (900 << 10)!r}\n"})
        former = answer_of([sys.executable, "-c", ORDER, order(cache, index.uri, files)])
        Path(files, "requirements.txt").write_text("large\n")

        answer = answer_of([sys.executable, "-c", ORDER, order(cache, index.uri, files)])

    assert answer["about"]["key"] == former["about"]["key"]
    assert "No space left on device" in answer["note"]
    assert "packages" in answer["removed"]
    assert not (cache / FOLDER / store.UV / store.PACKAGES).exists()
