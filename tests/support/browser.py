"""A real Chromium, driven through Debian's own driver; nothing is downloaded for it."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from tests.support.slowness import slack

PROGRAMS = ("chromium", "chromedriver")


class Browser:
    """One window. Looks for what the page shows, and what its console says."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """A new document at `url`, in a window of that size, and the first answers in it."""
        self.driver.get("about:blank")
        self.log()  # what an earlier document said
        self.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.command("Emulation.setEmulatedMedia", features=[scheme, still])
        self.driver.get(url)

    def resize(self, width: int, height: int = 900) -> None:
        """The viewport, in CSS pixels; a window of the system would not be as narrow as a telephone."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def command(self, name: str, **arguments: Any) -> Any:
        """One command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, arguments)

    def run(self, script: str, *arguments: Any) -> Any:
        """What `script` returns in the page."""
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str = "body") -> str:
        """What a person reads there."""
        return self.driver.find_element(By.CSS_SELECTOR, selector).text

    def texts(self, selector: str) -> list[str]:
        """The same of every element, one script's worth of time."""
        script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText)"
        found: list[str] = self.run(script, selector)
        return [re.sub(r"\n+", "\n", text) for text in found]

    def wait(self, true: Callable[[], Any], seconds: float = 10.0) -> Any:
        """Look until it is true; shows the page's text when it never is. `slack` multiplies `seconds`."""
        ends = time.monotonic() + seconds * slack()
        while not (found := true()):
            assert time.monotonic() < ends, f"not within {seconds} s:\n{self.text()}\n{self.log()}"
            time.sleep(0.05)
        return found

    def look_again(self) -> None:
        """What the page does when it is looked at again: it asks at once."""
        self.run("document.dispatchEvent(new Event('visibilitychange'))")

    def tidy(self) -> None:
        """Leave the document, and take back what a test set."""
        self.driver.get("about:blank")
        for setting in ("Emulation.clearDeviceMetricsOverride", "Emulation.setEmulatedMedia"):
            self.command(setting)
        self.log()

    def log(self) -> list[str]:
        """What the console said since the last look: errors, warnings, refusals of the policy."""
        return [line["message"] for line in self.driver.get_log("browser")]

    def picture(self, path: Path, *, width: int, until: str = "body") -> None:
        """The document from its top to the end of the last `until`, `width` pixels wide, as PNG."""
        script = "return [...document.querySelectorAll(arguments[0])].at(-1).getBoundingClientRect().bottom"
        height = round(self.run(script, until)) + 6
        self.resize(width, height)
        self.driver.get_screenshot_as_file(str(path))


def missing() -> list[str]:
    """Programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window, and without a way to other hosts."""
    options = Options()
    options.binary_location = shutil.which("chromium") or ""
    for argument in (
        "--headless=new",
        "--no-sandbox",  # as root there is none
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
        "--hide-scrollbars",  # they would be in the pictures
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # The path is given, so that selenium's own manager looks for no driver, here or on the network.
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
