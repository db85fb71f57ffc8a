"""A disk that is full, a store that crawls or is cut: the old version serves, and nothing half is left."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Figure
from tests.e2e.conftest import POLL_SECONDS
from tests.faults.mounts import mounted
from tests.support.faulty_servers import Answer, Proxy, cut_half_way, is_artifact
from tests.support.gateway import GatewayProcess, gateways
from tests.support.load import Load
from tests.support.registry_backends import Server
from tests.support.waiting import wait_until

RESERVE_MIB = 64
"""What a download leaves free."""
DISK_MIB = 80
RETRY_SECONDS = 10.0

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 80 MiB."""
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs") as disk:
        yield disk


def models_of(name: str) -> str:
    return f"  {name}: {{split: {{production: 50, canary: 50}}}}\n"


def parts_in(cache: Path) -> list[Path]:
    return list(cache.glob("*/.part-*"))


def error_of(gateway: GatewayProcess, model: str, version: int) -> str:
    reported: str = gateway.model(model)["versions"].get(str(version), {}).get("error", "")
    return reported


def test_a_version_that_does_not_fit_on_the_disk_leaves_the_old_one_serving_until_there_is_room(
    server: Server, small_disk: Path, start_at: Callable[..., GatewayProcess], slack: float, figure: Figure
) -> None:
    """Row 16. Refused before a byte is written: 64 MiB are left free."""
    model = server.registry.new_model(3, production=1, canary=2)
    cache = small_disk / "cache"
    gateway = start_at(models_of(model), uri=server.uri, cache=cache)
    gateway.wait_bound(2, "canary", name=model)
    filler = small_disk / "filler"
    with Load(gateway.url, rate=100) as load:
        filler.write_bytes(bytes((DISK_MIB - RESERVE_MIB + 8) << 20))
        server.registry.client.set_registered_model_alias(model, "production", "3")
        wait_until(lambda: "are free" in error_of(gateway, model, 3), 20 * slack, gateway.story)
        assert gateway.bound(name=model) == 1
        assert parts_in(cache) == []
        filler.unlink()
        freed_at = time.monotonic()
        gateway.wait_bound(3, name=model, seconds=40 * slack)
        took = time.monotonic() - freed_at
    figure(f"{load.summary()}; the new version served {took:.1f} s after there was room")
    assert load.failed == []
    assert took <= RETRY_SECONDS + 5 * slack


def test_a_disk_that_fills_up_during_a_download_leaves_nothing_of_it(
    server: Server, proxy: Proxy, small_disk: Path, slack: float, figure: Figure
) -> None:
    """Row 16. It is full to the last byte, and the gateway's log lies there too."""
    with gateways(small_disk, proxy.uri, POLL_SECONDS) as start:
        fill_and_make_room(server, proxy, small_disk, start, slack, figure)


def fill_and_make_room(
    server: Server,
    proxy: Proxy,
    small_disk: Path,
    start: Callable[..., GatewayProcess],
    slack: float,
    figure: Figure,
) -> None:
    model = server.registry.new_model(3, production=1, canary=2)
    cache, filler = small_disk / "cache", small_disk / "filler"
    gateway = start(models_of(model))
    gateway.wait_bound(2, "canary", name=model)

    def fill_meanwhile(answer: Answer) -> None:
        if is_artifact(answer) and not filler.exists():
            fill(filler)

    with Load(gateway.url, rate=100) as load:
        proxy.spoil = fill_meanwhile
        server.registry.client.set_registered_model_alias(model, "production", "3")
        wait_until(lambda: error_of(gateway, model, 3), 40 * slack, gateway.story)
        assert filler.exists()
        reported = error_of(gateway, model, 3)
        wait_until(lambda: parts_in(cache) == [], 5 * slack)
        assert gateway.bound(name=model) == 1
        proxy.mend()
        filler.unlink()
        freed_at = time.monotonic()
        gateway.wait_bound(3, name=model, seconds=60 * slack)
        took = time.monotonic() - freed_at
    figure(f"{load.summary()}; reported as {reported[-34:]!r}; served {took:.1f} s after there was room")
    assert "No space left" in reported
    assert load.failed == []
    assert took <= RETRY_SECONDS + 5 * slack


def fill(path: Path) -> None:
    """Write until the disk takes no more."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 20))
        except OSError:
            pass
        try:
            while True:
                file.write(b"0")
        except OSError:
            pass


def crawl(answer: Answer) -> None:
    """Files come at 20 bytes a second."""
    if is_artifact(answer):
        answer.bytes_per_second = 20.0


@pytest.mark.parametrize("spoil", [crawl, cut_half_way])
def test_an_artifact_store_that_crawls_or_is_cut_leaves_the_old_version_serving_and_nothing_half(
    server: Server,
    proxy: Proxy,
    start_at: Callable[..., GatewayProcess],
    tmp_path: Path,
    slack: float,
    figure: Figure,
    spoil: Callable[[Answer], None],
) -> None:
    """Row 16. What crawls is ended at `download_timeout_seconds`."""
    model = server.registry.new_model(3, production=1, canary=2)
    cache = tmp_path / "cache"
    gateway = start_at(models_of(model), uri=proxy.uri)
    gateway.wait_bound(2, "canary", name=model)
    limit = 10 * slack
    impatient = f"poll_seconds: 0.5, download_timeout_seconds: {limit:g}"
    gateway.config.write_text(gateway.config.read_text().replace("poll_seconds: 0.5", impatient))
    wait_until(lambda: len(gateway.lines("configuration in force")) == 2, 10 * slack, gateway.story)
    with Load(gateway.url, rate=100) as load:
        proxy.spoil = spoil
        moved_at = time.monotonic()
        server.registry.client.set_registered_model_alias(model, "production", "3")
        wait_until(lambda: error_of(gateway, model, 3), 20 * slack + limit, gateway.story)
        refused = time.monotonic() - moved_at
        wait_until(lambda: parts_in(cache) == [], 5 * slack)
        places = {place.name.partition("-")[0] for place in (cache / model).iterdir() if place.is_dir()}
        assert places == {"1", "2"}
        assert gateway.bound(name=model) == 1
        proxy.mend()
        mended_at = time.monotonic()
        gateway.wait_bound(3, name=model, seconds=60 * slack)
        took = time.monotonic() - mended_at
    reported = gateway.lines("version not loaded")[0]["error"]
    figure(f"{load.summary()}; refused after {refused:.1f} s; served {took:.1f} s after it was mended")
    if spoil is crawl:
        assert "was not downloaded within" in reported
    assert load.failed == []
    assert took <= RETRY_SECONDS + 5 * slack
