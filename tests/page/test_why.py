"""What the page says, under a FAIL, of what the faults of a canary share."""

from typing import Any

from tests.page import documents
from tests.page.canned import Canned
from tests.page.reading import beyond_the_edge
from tests.page.test_reading import FAILS, HOSTILE, shown
from tests.support.browser import Browser

SHARED = {"trait": "column plan null", "kind": "null", "column": "plan", "faults": 46, "good_answers": 3}
FOUND = {"faults": 46, "good_answers": 430, "faults_without_traits": 12, "columns_left_out": 8}


def compared(finding: str, *, verdict: str = "fail", **changes: Any) -> documents.Document:
    document = documents.compare(verdict, FAILS[1])
    pattern = documents.pattern(finding, "No pattern: nothing that was looked at.", **changes)
    document["models"]["sentiment"]["canary"]["pattern"] = pattern
    return document


def test_under_a_fail_it_shows_what_the_faults_share_and_never_as_markup(
    browser: Browser, gateway: Canned
) -> None:
    hostile = {**SHARED, "trait": f"column {HOSTILE} missing", "p": 0.002}
    gateway.compare = compared("pattern", shared=[{**SHARED, "p": 1e-30}, hostile], **FOUND)
    browser.open(gateway.url)

    assert "What the faults share" in shown(browser)
    [first, second] = browser.texts(".pattern tbody tr")
    assert first.split("\t") == ["column plan null", "46 of 46", "3 of 430", "under 1 in a million"]
    assert second.startswith("column <img src=x onerror=window.hurt=1><script>")
    assert second.split("\t")[-1] == "1 in 500"
    [caption] = browser.texts(".pattern caption")
    assert "of 12 further faults nothing is known; 8 columns are not looked at" in caption
    assert browser.run(
        "return [window.hurt === undefined, document.querySelectorAll('img, main script').length]"
    ) == [True, 0]
    assert beyond_the_edge(browser) == []


def test_without_a_pattern_it_shows_the_sentence_and_without_a_fail_or_looking_nothing(
    browser: Browser, gateway: Canned
) -> None:
    gateway.compare = compared("no_pattern")
    browser.open(gateway.url)
    shown(browser)
    assert browser.texts(".pattern p") == ["No pattern: nothing that was looked at."]

    for other in (compared("off"), compared("no_pattern", verdict="pass"), documents.compare(*FAILS)):
        gateway.compare = other
        browser.open(gateway.url)
        shown(browser)
        assert browser.texts(".pattern") == []
