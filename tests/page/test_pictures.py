"""Makes the pictures of the README: `PAGE_PICTURES=docs/images pytest tests/page/test_pictures.py`.

Real versions, a real gateway and a real browser, in the middle of a rollout that goes wrong. Without the
variable nothing here is collected (`conftest.py`).
"""

import os
import time
from pathlib import Path

import pytest
from PIL import Image  # which MLflow's own dependencies bring along

from tests.conftest import Figure
from tests.page.rollout import Readers, built_rollout, rollout
from tests.support.browser import Browser

PATIENCE_SECONDS = 240.0
MOST_BYTES = 200_000
CANARY_PERCENT = 10
READERS_PER_SECOND = 70.0
PICTURES = (
    ("live-page.png", 1200, False, ".chart"),
    ("live-page-narrow.png", 400, True, ".versions, .checks tbody tr:first-child"),
)
"""Name, width, whether it is dark, and where it ends."""


@pytest.mark.timeout(600)
def test_pictures_of_a_canary_that_fails(
    browser: Browser, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, figure: Figure
) -> None:
    directory = Path(os.environ["PAGE_PICTURES"]).absolute()
    with rollout(built_rollout(tmp_path_factory), tmp_path) as served:
        served.serve(canary=1)
        with Readers(served.gateway.url, clients=16, rate=READERS_PER_SECOND):
            served.split(CANARY_PERCENT)
            browser.open(served.gateway.url)
            began = time.monotonic()
            browser.wait(lambda: "FAIL" in browser.text(".banner .badge"), PATIENCE_SECONDS)
            figure(
                f"FAIL after {time.monotonic() - began:.0f} s of {READERS_PER_SECOND:g} requests per second"
            )
            time.sleep(float(os.environ.get("PAGE_PICTURES_SECONDS", "60")))  # for full histograms
            for name, width, dark, until in PICTURES:
                browser.open(served.gateway.url, width=width, dark=dark)
                browser.wait(lambda: len(browser.texts(".chart h3")) > 1)
                browser.picture(directory / name, width=width, until=until)
                assert shrink(directory / name) < MOST_BYTES


def shrink(path: Path) -> int:
    """A palette of 256 colours is enough for lines and letters; the size in bytes."""
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    return path.stat().st_size
