"""The cache's bound: what nobody uses goes, the one used longest ago first; what is in use never."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from router.adapters.cache_locks import CacheLocks
from router.agent.cache import model_directory
from router.agent.eviction import evict
from router.agent.last_known_good import identity_of, remember
from router.agent.manifest import FILES
from router.core.ids import VersionId
from tests.agent.test_cache import bring

MIB = 1 << 20


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Versions 1 to 4 of `m`, of 2 MiB each; 1 was used longest ago."""
    directory = model_directory(tmp_path / "cache", "m")
    for number in range(1, 5):
        place = directory / f"{number}-0123456789ab"
        bring(place, "x" * MIB)
        os.utime(place, (number, number))
    return directory.parent


def place_of(cache: Path, number: int) -> Path:
    return cache / "m" / f"{number}-0123456789ab"


def left(cache: Path) -> list[int]:
    return sorted(int(path.name.partition("-")[0]) for path in (cache / "m").glob("[0-9]*"))


def test_below_the_bound_nothing_goes(cache: Path) -> None:
    assert evict(cache, 8 * MIB, spare=place_of(cache, 4)).removed == ()
    assert left(cache) == [1, 2, 3, 4]


def test_the_one_used_longest_ago_goes_first_and_only_until_it_is_enough(cache: Path) -> None:
    swept = evict(cache, 5 * MIB, spare=place_of(cache, 4))

    assert (swept.removed, swept.cache_bytes) == (("m v1", "m v2"), 4 * MIB)
    assert left(cache) == [3, 4]
    assert list((cache / "m").glob(".*")) == []


def test_what_was_just_published_stays_whatever_its_size(cache: Path) -> None:
    swept = evict(cache, 1, spare=place_of(cache, 4))

    assert left(cache) == [4]
    assert swept.cache_bytes == 2 * MIB


async def test_what_is_held_stays_and_goes_when_it_is_let_go(cache: Path) -> None:
    held = CacheLocks()
    assert await held.acquire(VersionId("m", 1), str(place_of(cache, 1) / FILES))
    os.utime(place_of(cache, 1), (1, 1))
    evict(cache, 3 * MIB, spare=place_of(cache, 4))
    assert left(cache) == [1, 4]

    held.retain(())
    await held.close()  # which waits until it is done

    evict(cache, 3 * MIB, spare=place_of(cache, 4))
    assert left(cache) == [4]


HOLD = """
import asyncio, sys
from router.adapters.cache_locks import CacheLocks
from router.core.ids import VersionId
held = CacheLocks()
print(asyncio.run(held.acquire(VersionId("m", 1), sys.argv[1])), flush=True)
sys.stdin.read()
"""


def test_what_another_gateway_uses_stays_until_that_gateway_is_dead(cache: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(place_of(cache, 1) / FILES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdin is not None
    assert other.stdout.readline() == "True\n"
    evict(cache, 3 * MIB, spare=place_of(cache, 4))
    assert left(cache) == [1, 4]

    other.kill()
    other.wait()

    evict(cache, 3 * MIB, spare=place_of(cache, 4))
    assert left(cache) == [4]
    other.stdin.close()
    other.stdout.close()


def test_what_a_record_names_stays_whatever_its_registry(cache: Path) -> None:
    served = {"production": (1, str(place_of(cache, 1) / FILES))}
    remember(cache, "m", identity_of("http://another"), served, ())

    evict(cache, 3 * MIB, spare=place_of(cache, 4))

    assert left(cache) == [1, 4]


def test_what_is_not_ours_is_neither_counted_nor_touched(cache: Path, tmp_path: Path) -> None:
    theirs = cache / "m" / "7-theirs"
    theirs.mkdir()
    (theirs / "manifest.json").write_text('{"MLmodel": [1, "x"]}')
    (cache / "m" / "9-0123456789ab").symlink_to(tmp_path)

    evict(cache, 1, spare=place_of(cache, 4))

    assert left(cache) == [4, 7, 9]
    assert tmp_path.exists()


async def test_a_copy_that_was_removed_before_it_was_held_is_not_held(cache: Path) -> None:
    evict(cache, 1, spare=place_of(cache, 4))

    held = CacheLocks()

    assert not await held.acquire(VersionId("m", 1), str(place_of(cache, 1) / FILES))

    await held.close()
