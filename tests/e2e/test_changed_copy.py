"""A copy in the cache that a version, or somebody else, wrote to."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.gateway import GatewayProcess

MODELS = "  sentiment: {split: {production: 100}}\n"


@pytest.mark.slow
def test_after_a_byte_was_added_to_a_file_the_next_start_fetches_that_file_and_names_it(
    start: Callable[..., GatewayProcess], tmp_path: Path
) -> None:
    gateway = start(MODELS)
    gateway.hurry()
    assert gateway.stop() == 0
    [model_file] = (tmp_path / "cache").glob("sentiment/1-*/files/python_model.pkl")
    [place] = (tmp_path / "cache" / "sentiment").glob("1-*")
    published = model_file.read_bytes()
    assert model_file.stat().st_mode & 0o777 == 0o400
    model_file.chmod(0o600)
    model_file.write_bytes(published + b"x")

    gateway = start(MODELS)

    assert gateway.ask("user-1").json() == {"predictions": [0.1]}
    [mended] = [line for line in gateway.log.read_text().splitlines() if "were fetched anew" in line]
    assert '"files": ["python_model.pkl"]' in mended
    assert "`writable: true`" in mended
    assert gateway.metric("canary_router_downloaded_bytes_total") == len(published)
    assert model_file.read_bytes() == published
    assert [path.name for path in (tmp_path / "cache" / "sentiment").glob("*1-*")] == [place.name]


@pytest.mark.slow
def test_each_worker_of_a_writable_model_has_a_copy_which_is_gone_after_the_stop(
    start: Callable[..., GatewayProcess], tmp_path: Path
) -> None:
    gateway = start("  sentiment: {split: {production: 100}, writable: true, workers: 2}\n")
    assert gateway.ask("user-1").status_code == 200
    gateway.stop()

    assert list((tmp_path / "cache").glob("sentiment/*/own-*")) == []
