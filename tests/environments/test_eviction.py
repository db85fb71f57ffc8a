"""What environments take has a bound: packages go first, then what nobody needs, and never what is in use."""

import os
from pathlib import Path

import pytest

from router.adapters.cache_locks import CacheLocks
from router.agent.cache import model_directory
from router.agent.last_known_good import identity_of, remember
from router.core.ids import VersionId
from router.core.version_environment import FOLDER
from router.environments import store
from router.environments.eviction import evict
from tests.agent.test_cache import bring
from tests.support.environments import FINGERPRINT, make_environment

KIB = 1 << 10
V1 = VersionId("m", 1)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Environments a, b and c of 2 KiB each, used in that order, and 4 KiB of packages."""
    cache = tmp_path / "cache"
    for when, digit in enumerate("abc"):
        kept = make_environment(cache, digit * 64, {"lib/x.py": "x" * 2 * KIB})
        os.utime(kept.place, (when, when))
    packages = cache / FOLDER / store.UV / store.PACKAGES
    packages.mkdir()
    (packages / "archive").write_text("x" * 4 * KIB)
    return cache


def place(cache: Path, digit: str) -> Path:
    return store.place_of(cache / FOLDER, digit * 64)


def left(cache: Path) -> str:
    return "".join(sorted(path.name[0] for path in store.places_in(cache / FOLDER)))


def test_below_the_bound_nothing_goes(cache: Path) -> None:
    swept = evict(cache, 10 * KIB)

    assert (swept.removed, swept.removed_bytes, swept.left_bytes) == ((), 0, 10 * KIB)


def test_packages_go_first_and_environments_stay_where_that_is_enough(cache: Path) -> None:
    swept = evict(cache, 9 * KIB)

    assert (swept.removed, swept.removed_bytes, swept.left_bytes) == (("packages",), 4 * KIB, 6 * KIB)
    assert left(cache) == "abc"


def test_then_the_environment_goes_that_was_used_longest_ago_and_only_until_it_is_enough(cache: Path) -> None:
    swept = evict(cache, 5 * KIB)

    assert (swept.removed, swept.left_bytes) == (("packages", "a" * 12), 4 * KIB)
    assert left(cache) == "bc"
    assert list((cache / FOLDER).glob(f"{store.REPLACED}*")) == []


def test_what_was_just_built_stays_whatever_its_size(cache: Path) -> None:
    evict(cache, 0, spare=place(cache, "a"))

    assert left(cache) == "a"


async def test_what_a_gateway_uses_stays_and_goes_when_it_is_released(cache: Path) -> None:
    held = CacheLocks()
    assert await held.acquire(V1, str(place(cache, "a") / store.VENV))
    os.utime(place(cache, "a"), (0, 0))
    evict(cache, 0)
    assert left(cache) == "a"

    held.retain(())
    await held.close()  # which waits until it is done
    evict(cache, 0)

    assert left(cache) == ""


async def test_what_was_built_anew_under_a_gateway_that_uses_it_stays_too(cache: Path) -> None:
    """Its lock is on the directory that was there before."""
    held = CacheLocks()
    assert await held.acquire(V1, str(place(cache, "a") / store.VENV))
    store.discard(store.set_aside(place(cache, "a")))
    make_environment(cache, "a" * 64)

    evict(cache, 0)

    assert left(cache) == "a"
    await held.close()
    evict(cache, 0)
    store.remove_leftovers(cache / FOLDER)
    assert left(cache) == ""
    assert list((cache / FOLDER).glob(f"{store.REPLACED}*")) == []


def test_the_environment_that_a_last_good_version_was_prepared_in_last_stays(cache: Path) -> None:
    copy = model_directory(cache, "m") / f"1-{FINGERPRINT}"
    bring(copy, "x")
    for digit, when in (("a", 1), ("b", 2)):
        store.note_use(place(cache, digit), copy / "files")
        os.utime(place(cache, digit) / store.VERSIONS / store.version_name(copy), (when, when))
    remember(cache, "m", identity_of("sqlite:///x.db"), {"production": (1, str(copy / "files"))}, ())

    evict(cache, 0)

    assert left(cache) == "b"


async def test_packages_stay_while_an_installer_is_at_work(cache: Path) -> None:
    installing = CacheLocks()
    assert await installing.acquire(V1, str(cache / FOLDER / store.UV / store.PACKAGES))

    assert evict(cache, 9 * KIB).removed == ("aaaaaaaaaaaa",)
    await installing.close()


def test_a_torn_environment_goes_first(cache: Path) -> None:
    (place(cache, "c") / store.ABOUT).unlink()

    assert evict(cache, 5 * KIB).removed == ("packages", "c" * 12)
