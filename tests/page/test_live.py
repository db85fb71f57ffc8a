"""The page in front of a real gateway that serves a real registry under traffic."""

import re
from collections.abc import Iterator

import pytest

from tests.page.reading import beyond_the_edge, nameless, spoken, too_faint
from tests.page.rollout import Readers, Rollout, built_rollout, rollout
from tests.support.browser import Browser


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rollout]:
    with rollout(built_rollout(tmp_path_factory), tmp_path_factory.mktemp("rollout")) as served:
        served.serve()
        yield served


@pytest.fixture
def page(browser: Browser, served: Rollout) -> Iterator[Browser]:
    """The page of the gateway, with an answer in it; it may complain of nothing unless a test lets it."""
    browser.open(served.gateway.url)
    browser.wait(lambda: browser.texts(".model .banner"))
    browser.run("window.opened = true")
    yield browser
    assert browser.run("return window.opened"), "the document was loaded again"
    assert browser.log() == []


@pytest.fixture(scope="module")
def traffic(served: Rollout) -> Iterator[Readers]:
    with Readers(served.gateway.url, clients=6, rate=60.0) as load:
        yield load


@pytest.mark.usefixtures("traffic")
def test_under_traffic_the_page_says_what_the_gateway_says_and_asks_nobody_else(
    page: Browser, served: Rollout
) -> None:
    """Its sentence is the comparison's `why`, letter by letter, and its figures are the comparison's."""

    def one_story() -> bool:
        page.look_again()
        reported = served.gateway.get("/v1/compare").json()["models"]["sentiment"]["canary"]
        if not reported["checks"] or page.texts(".sentence") != [reported["why"]]:
            return False
        arm = reported["checks"][0]["canary"]
        return f"{arm['events']} of {arm['requests']} " in plain(page, ".checks tbody tr")[0].replace(
            "\n", " "
        )

    page.wait(one_story, 20)
    page.wait(lambda: len(page.texts(".checks tbody tr")) >= 3, 20)
    page.wait(lambda: page.run("return document.querySelectorAll('.steps').length") >= 2, 20)
    assert page.texts(".versions tbody th")[0].strip().startswith("production")
    entries = page.run("return performance.getEntries().map((one) => one.name)")
    asked = {name for name in entries if ":" in name}
    assert asked <= {f"{served.gateway.url}/{path}" for path in ("", "v1/state", "v1/compare")}
    assert nameless(spoken(page)) == []
    assert too_faint(page) == []
    page.resize(400)
    page.wait(lambda: not beyond_the_edge(page))


def test_a_changed_split_shows_without_a_reload(page: Browser, served: Rollout) -> None:
    served.split(25)
    page.wait(lambda: plain(page, ".bar-figures")[:2] == ["75 % · 25 %"] * 2)

    assert "Split in force: production 75 %, canary 25 %" in words(page)


def test_a_moved_alias_is_an_event_and_so_is_the_version_that_serves(
    page: Browser, served: Rollout, slack: float
) -> None:
    served.registry.move("canary", 4)
    try:
        page.wait(lambda: "canary serves v4, before v2" in words(page), 15)
        assert "Alias moved: the registry names v4 as canary, before v2" in words(page)
        assert page.texts(".versions tbody tr:nth-child(2) td")[:2] == ["v4", "v4"]
    finally:
        served.registry.move("canary", 2)
        served.gateway.wait_bound(2, "canary", 15 * slack)


def test_a_canary_that_the_registry_no_longer_names_leaves_production_on_the_page(
    page: Browser, served: Rollout, slack: float
) -> None:
    served.registry.client.delete_registered_model_alias("sentiment", "canary")
    try:
        page.wait(lambda: "canary no longer serves v2; production has its share" in words(page), 15)
        reported = served.gateway.get("/v1/compare").json()["models"]["sentiment"].get("canary", {})
        page.wait(lambda: not reported or page.texts(".sentence") == [reported["why"]], 10)
        assert plain(page, ".bar-figures")[1] == "100 % · 0 %"
        assert plain(page, ".versions tbody tr:nth-child(2) td")[:2] == ["none", "nothing"]
    finally:
        served.registry.move("canary", 2)
        served.gateway.wait_bound(2, "canary", 15 * slack)


def test_on_the_admin_listener_a_person_takes_the_share_away_and_gives_it_back(
    browser: Browser, served: Rollout
) -> None:
    """With a reason, which everybody is shown; where requests come in there is no such button."""
    browser.open(served.gateway.url)
    browser.wait(lambda: browser.texts(".model .banner"))
    assert browser.texts("button") == []
    browser.open(served.gateway.admin)
    browser.wait(lambda: browser.texts(".levers button") == ["Abort", "Resume"])

    press(browser, "abort")
    browser.wait(lambda: browser.text(".said").startswith("Say why, and who you are"))
    assert served.gateway.model()["caps"] == []

    write(browser, "reason", "complaints of <b>tenant 7</b>")
    write(browser, "by", "ann")
    browser.look_again()  # what was typed stays
    press(browser, "abort")
    browser.wait(lambda: plain(browser, ".said") == ["Capped: canary v2 at 0 %."])
    [cap] = served.gateway.model()["caps"]
    assert (cap["by"], cap["reason"], cap["to_percent"]) == ("ann", "complaints of <b>tenant 7</b>", 0.0)
    # The page draws the answer to Abort first, then asks for the state, which holds the warning.
    warned = re.compile(r"canary v2 is capped at 0 % by ann since .*: complaints of <b>tenant 7</b>$")
    browser.wait(lambda: any(warned.match(one) for one in plain(browser, ".model .warnings li")))
    assert plain(browser, ".bar-figures")[1] == "100 % · 0 %"
    assert nameless(spoken(browser)) == []
    assert too_faint(browser) == []

    press(browser, "resume")
    browser.wait(lambda: browser.text(".said") == "Lifted: canary v2.")
    assert served.gateway.model()["caps"] == []
    browser.resize(400)
    browser.wait(lambda: not beyond_the_edge(browser))
    assert browser.log() == []


def test_a_swap_that_failed_is_reported_with_its_error(page: Browser, served: Rollout, slack: float) -> None:
    served.registry.move("canary", 3)
    try:
        page.wait(lambda: any(one.startswith("Swap failed: v3 did not load") for one in words(page)), 15)
        warned = page.texts(".warnings li")
        assert any("the weights are for another architecture" in one for one in warned)
        assert "pending" in page.text(".versions")
    finally:
        served.registry.move("canary", 2)
        served.gateway.wait_bound(2, "canary", 15 * slack)


def test_a_killed_gateway_is_reported_with_the_time_and_the_page_goes_on_when_it_is_back(
    page: Browser, served: Rollout
) -> None:
    served.gateway.process.kill()
    page.wait(lambda: page.text("#notice").startswith("No answer since "), 10)
    assert "grayscale" in page.run("return getComputedStyle(document.querySelector('main')).filter")
    assert "no answer" in page.text("#pulse")

    served.serve()
    page.wait(lambda: page.texts("#pulse")[0].startswith("live"), 10)
    assert page.run("return document.getElementById('notice').hidden")
    assert all("ERR_CONNECTION_REFUSED" in line or "ERR_EMPTY_RESPONSE" in line for line in page.log())


def words(page: Browser) -> list[str]:
    """The events as they are reported, newest first."""
    return plain(page, ".events .words")


def plain(page: Browser, selector: str) -> list[str]:
    """Texts with plain spaces."""
    return [re.sub(r"[\u00a0\u202f]", " ", text) for text in page.texts(selector)]


def press(page: Browser, verb: str) -> None:
    """Click one of the buttons."""
    page.run("document.querySelector(`button[data-verb=${arguments[0]}]`).click()", verb)


def write(page: Browser, name: str, text: str) -> None:
    """Type into a field."""
    page.run("document.querySelector(`.levers [name=${arguments[0]}]`).value = arguments[1]", name, text)
