"""What is on the page in every situation, for every reader. The gateway's documents are written by hand."""

import re
import time
from typing import Any

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from router.control.history import as_json
from router.core.events import VerdictChanged
from router.core.ids import CANARY, VersionId
from router.core.utc import utc
from tests.page import documents
from tests.page.canned import Canned
from tests.page.reading import beyond_the_edge, drawn_too_faintly, nameless, spoken, too_faint
from tests.support.browser import Browser

HOSTILE = "<img src=x onerror=window.hurt=1><script>window.hurt=1</script>\u202e"
LONG = "a-model-with-a-name-that-nobody-would-type-" * 5
FAILS = ("fail", "Canary v2 fails 3 points more of its requests than production: proven.")


def shown(browser: Browser) -> str:
    """The page's text once the gateway has answered, with plain spaces."""
    browser.wait(lambda: browser.texts(".gateway dd") and browser.texts("main .model, main .note"))
    return re.sub(r"[\u00a0\u202f]", " ", browser.text())


@pytest.mark.parametrize(
    ("verdict", "word"), [("pass", "✓ PASS"), ("fail", "✕ FAIL"), ("not_enough_data", "… NOT ENOUGH DATA")]
)
def test_the_first_thing_is_the_verdict_in_a_word_a_sign_and_the_gateways_own_sentence(
    browser: Browser, gateway: Canned, verdict: str, word: str
) -> None:
    gateway.compare = documents.compare(verdict, "Because of this and that.")
    browser.open(gateway.url)

    shown(browser)
    assert browser.texts(".banner") == [f"{word}\nBecause of this and that."]
    assert word.partition(" ")[2] in browser.driver.title


@pytest.mark.parametrize(
    ("size", "split", "change", "words"),
    [
        ("none", "pass", "", ["≈ no shift", "≈ as due", "≈ no change"]),
        ("large", "fail", "dearer", ["▲ large shift", "▲ split skew", "▲ dearer"]),
        (None, "not_enough_data", None, ["… NOT ENOUGH DATA"] * 3),
    ],
)
@pytest.mark.parametrize("verdict", ["fail", "not_enough_data", "pass"])
def test_what_is_only_reported_has_the_words_of_the_terminal_and_never_those_of_a_verdict(
    browser: Browser,
    gateway: Canned,
    verdict: str,
    size: str | None,
    split: str,
    change: str | None,
    words: list[str],
) -> None:
    """The gateway gives it a verdict all the same, as if it judged."""
    checks = gateway.compare["models"]["sentiment"]["canary"]["checks"] if gateway.compare else []
    by_name = {check["check"]: check for check in checks}
    by_name["scores"]["verdict"], by_name["split"]["verdict"] = verdict, split
    by_name["scores"]["outputs"][0]["size"] = size
    by_name["cost"] |= {"verdict": verdict, "change": change or "", "ratio": None if change is None else 1.5}
    browser.open(gateway.url)
    shown(browser)

    cells = browser.texts(".checks tbody tr:nth-child(n+3) td:nth-child(5)")
    assert cells == [f"{word}\nreported only" for word in words]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "≈ no sign\ncan fail, not pass"),
        ({"shows_none": False}, "… NOT ENOUGH DATA\ncan fail, not pass"),
        ({"shows_none": False, "verdict": "fail", "judges": True}, "✕ FAIL"),
    ],
    ids=["no sign", "too few", "fails"],
)
def test_copies_of_requests_have_a_row_where_there_are_any(
    browser: Browser, gateway: Canned, said: dict[str, Any], words: str
) -> None:
    checks = gateway.compare["models"]["sentiment"]["canary"]["checks"] if gateway.compare else []
    checks.append(documents.shadow_check(**said))
    browser.open(gateway.url)
    shown(browser)

    row = browser.texts(".checks tbody tr:last-child td")
    assert "Faults of copies" in browser.texts(".checks tbody tr:last-child")[0]
    assert "3\u00a0of\u00a02\u202f600" in row[-4]
    assert row[-2] == words
    assert "Of copies: 2510 of 2600 copies agree." in row[-1]


def test_scores_that_are_not_counted_have_the_words_of_the_terminal(
    browser: Browser, gateway: Canned
) -> None:
    """They keep the canary from passing, so they are more than reported."""
    why = "No pass: 600 of 640 answers of the canary hold no score that can be counted."
    gateway.compare = documents.compare("not_enough_data", why)
    scores = gateway.compare["models"]["sentiment"]["canary"]["checks"][2]
    scores["outputs"][0] |= {"uncounted": "canary"}
    scores["why"] = why
    browser.open(gateway.url)
    shown(browser)

    assert browser.texts(".banner") == [f"… NOT ENOUGH DATA\n{why}"]
    assert browser.texts(".checks tbody tr:nth-child(3) td:nth-child(5)") == ["▲ not counted"]


def test_one_look_says_who_serves_whom_how_fast_how_well_and_what_happened(
    browser: Browser, gateway: Canned
) -> None:
    gateway.compare = documents.compare(*FAILS, fault_rate=0.033)
    browser.open(gateway.url)
    text = shown(browser)

    assert browser.texts("h3, footer h2") == PARTS
    for reported in (
        "95 % · 5 %", "95.1 % · 4.93 %",  # configured and in force; observed
        "registry: champion", "1 in flight", "14 min ago",
        "21 of 640", "+3 points", "+1.8 to +4.4", "slower than 25 ms", "expected 5 %",
        "12.7 ms", "PSI 0.02 (noise 0.03)", "error 20, timeout 1", "1 of its last 50 requests were faults",
        "canary serves v2", "0.1.0, ready", "3f9c3f9c3f9c",
    ):  # fmt: skip
        assert reported in text, reported


def test_it_says_up_to_when_is_judged_and_which_gateways_judge_together(
    browser: Browser, gateway: Canned
) -> None:
    together = documents.gateways(
        "gw-1",
        "gw-2",
        waiting=[{"host": "gw-2", "silent_seconds": 40.2}],
        left_out=[{"host": HOSTILE, "why": "its clock is off"}],
    )
    assert gateway.compare is not None
    one = gateway.compare["models"]["sentiment"]["canary"]
    browser.open(gateway.url)
    text = shown(browser)
    at = f"{utc(one['horizon_timestamp'], 'seconds')[11:19]} UTC"  # as the sentence of a verdict has it
    assert f"with a share of 5 %; judged up to {at}\n" in text
    assert "Judged together" not in text

    gateway.state["fleet"]["gateways"] = one["gateways"] = together
    browser.open(gateway.url)
    text = shown(browser)
    assert f"; judged up to {at}, of 2 gateways\n" in text
    assert f"gw-1, gw-2; ▲ waiting for gw-2, silent for 40 s; ▲ left out {HOSTILE}: its clock is off" in text
    assert browser.run("return window.hurt ?? null") is None


def test_three_aliases_are_observed_with_the_shares_of_all_keys_that_they_got(
    browser: Browser, gateway: Canned
) -> None:
    """Each is compared with production by itself, and what is seen there is of the keys of these two."""
    model = gateway.state["models"]["sentiment"]
    model["split"] = model["split_configured"] = {"production": 80.0, "canary": 10.0, "shadow": 10.0}
    model["aliases"]["shadow"] = documents.alias_state("shadow", 3)
    model["versions"]["3"] = documents.version_state("shadow")
    reported = {"canary": documents.challenger(), "shadow": documents.challenger()}
    for alias, observed in (("canary", 0.108), ("shadow", 0.109)):
        check = reported[alias]["checks"][3]
        check |= {"expected_share": 1 / 9, "observed_share": observed, "pair_share": 0.9}
    gateway.compare = {"models": {"sentiment": reported}}
    browser.open(gateway.url)

    text = shown(browser)
    bars = [re.sub(r"\s+", " ", bar).strip() for bar in browser.texts(".bar-figures")]
    assert bars == ["80 % · 10 % · 10 %"] * 2 + ["80.5 % · 9.72 % · 9.81 %"]
    assert text.count("of the keys of these two") == 2


def test_behind_a_proxy_the_page_asks_beside_itself_where_its_path_ends_with_a_slash(
    browser: Browser, gateway: Canned
) -> None:
    browser.open(f"{gateway.url}/behind/a-proxy/")

    shown(browser)
    assert browser.texts(".sentence") == [documents.WAITS]
    assert set(gateway.asked) == {"/behind/a-proxy/v1/state", "/behind/a-proxy/v1/compare"}
    assert browser.log() == []


PARTS = [
    "Split", "Versions", "Checks", "Latency", "Scores", "Faults and fallbacks", "What happened", "Gateway"
]  # fmt: skip


def test_what_is_still_needed_stands_beside_not_enough_data(browser: Browser, gateway: Canned) -> None:
    browser.open(gateway.url)

    assert shown(browser).count(documents.NEEDED) == 2  # faults and latency


def no_challenger(gateway: Canned) -> str:
    gateway.compare = {"models": {"sentiment": {}}}
    gateway.state["models"]["sentiment"]["aliases"]["canary"] = documents.alias_state("challenger", None)
    return "Production v1 answers everybody; the registry names no canary."


def nothing_bound(gateway: Canned) -> str:
    gateway.compare = {"models": {"sentiment": {}}}
    model = gateway.state["models"]["sentiment"]
    model["aliases"] = {name: documents.alias_state(name, None) for name in ("production", "canary")}
    model["versions"] = {}
    model["warnings"] = ["the registry names no version as champion, which is this model's production"]
    return "Nothing is served: production has no version that is ready."


def canary_alone_is_not_ready(gateway: Canned) -> str:
    gateway.compare = {"models": {"sentiment": {}}}
    model = gateway.state["models"]["sentiment"]
    model["aliases"]["canary"] |= {"bound": None, "aspired": 3, "pending": True}
    model["versions"]["3"] = documents.version_state("canary") | {
        "state": "error", "workers": [], "error": "ImportError: no module named x", "retry_seconds": 20.0
    }  # fmt: skip
    return "Version 3 (error): ImportError: no module named x"


def without_comparison(gateway: Canned) -> str:
    gateway.compare = None
    return "No comparison: Error: v1/compare answers 404"


def nothing_counted_yet(gateway: Canned) -> str:
    gateway.compare = documents.compare()
    one = gateway.compare["models"]["sentiment"]["canary"]
    for name in ("production", "canary"):
        one["latency"][name] = [0] * 18
        one["scores"][0][name] = [0] * 20
        one["rates"][name] = {"requests_per_second": 0.0, "faults": 0, "fallbacks": 0}
    for check in one["checks"][:2]:
        for name in ("rate", "difference", "interval", "seconds_needed"):
            check[name] = None
        check["production"] = check["canary"] = {"requests": 0, "events": 0, "rate": None, "keys": 0}
        check.pop("quantiles_seconds", None)
    one["checks"][2]["outputs"] = []
    return "Nothing was counted in the last 15 min."


def durations_beyond_the_last_edge(gateway: Canned) -> str:
    gateway.compare = documents.compare()
    latency = gateway.compare["models"]["sentiment"]["canary"]["checks"][1]
    latency["quantiles_seconds"]["canary"] |= {"p95": 600.0, "p99": 600.0}
    latency["quantiles_over_last_edge"]["canary"] |= {"p95": True, "p99": True}
    return "over 600 s"


def hundreds_of_events(gateway: Canned) -> str:
    one = gateway.state["events"][1]
    gateway.state["events"] = [one | {"timestamp": one["timestamp"] + n, "new": n} for n in range(500)]
    gateway.state["events"].append(
        {"timestamp": time.time(), "event": "SomethingNew", "of": ["a", "later", "gateway"]}
    )
    return 'SomethingNew: {"of":["a","later","gateway"]}'


def long_names(gateway: Canned) -> str:
    gateway.state = documents.state(LONG)
    gateway.compare = documents.compare(model=LONG)
    for alias in gateway.state["models"][LONG]["aliases"].values():
        alias["name"] = f"stage:{LONG}"
    gateway.state["models"][LONG]["warnings"] = [LONG]
    return LONG


def open_breaker(gateway: Canned) -> str:
    breaker = gateway.state["models"]["sentiment"]["versions"]["2"]["breaker"]
    breaker |= {"state": "open", "why": "25 of its last 50 requests were faults", "since": time.time()}
    gateway.state["models"]["sentiment"]["split"] = {"production": 100.0, "canary": 0.0}
    return (
        "The breaker of canary v2 is open, production has its share: 25 of its last 50 requests were faults"
    )


def classes(gateway: Canned) -> str:
    gateway.compare = documents.compare()
    gateway.compare["models"]["sentiment"]["canary"]["scores"] = [
        {"output": "label", "kind": "class", "classes": ["bad", "good", "__other__"],
         "production": [5000, 7000, 431], "canary": [300, 330, 10]},
    ]  # fmt: skip
    return "any other"


def several_models(gateway: Canned) -> str:
    other = documents.state("churn")
    gateway.state["models"] |= other["models"]
    gateway.state["models"]["__proto__"] = gateway.state["models"]["constructor"] = documents.model_state()
    assert gateway.compare
    gateway.compare["models"] |= documents.compare(*FAILS, model="churn")["models"]
    return "churn"


def registry_is_away(gateway: Canned) -> str:
    gateway.state["registry"] |= {"reachable": False, "error": "ConnectionError: …"}
    gateway.state["serving_from_cache"] = True
    gateway.state["config"]["error"] = ["router.yaml:9 models.sentiment.split.canray: unknown key"]
    return "The configuration in force is not the newest: router.yaml:9"


def requests_are_refused(gateway: Canned) -> str:
    warning = "production refused 17 % of its requests in the last minute (170 of 1000)"
    gateway.state["warnings"] = ["12 connections were refused in the last minute"]
    model = gateway.state["models"]["sentiment"]
    model["warnings"] = [warning]
    model["last_minute"]["aliases"] = {
        "production": documents.alias_minute(1000, refused=170),
        "canary": documents.alias_minute(1200, refused=12, passed_on=300),
    }
    return warning


def requests_are_refused_where_nothing_is_compared(gateway: Canned) -> str:
    requests_are_refused(gateway)
    gateway.compare = {"models": {"sentiment": {}}}
    return "Refused requests"


def a_further_alias(gateway: Canned) -> str:
    model = gateway.state["models"]["sentiment"]
    model["split"] = model["split_configured"] = {"production": 70.0, "canary": 20.0, "beta": 10.0}
    model["aliases"]["beta"] = documents.alias_state("beta", 3)
    assert gateway.compare
    gateway.compare["models"]["sentiment"]["beta"] = documents.challenger(*FAILS) | {"version": 3}
    return "How beta v3 does beside production v1"


SITUATIONS = [
    a_further_alias,
    no_challenger, nothing_bound, canary_alone_is_not_ready, without_comparison, nothing_counted_yet, classes,
    durations_beyond_the_last_edge,
    hundreds_of_events, long_names, open_breaker, several_models, registry_is_away,
    requests_are_refused, requests_are_refused_where_nothing_is_compared,
]  # fmt: skip


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda one: one.__name__)
def test_every_situation_is_reported_and_fits_into_a_narrow_window(
    browser: Browser, gateway: Canned, situation: object
) -> None:
    reported = situation(gateway)  # type: ignore[operator]
    browser.open(gateway.url, width=400)

    text = shown(browser)
    assert reported in text
    assert "could not draw" not in text
    assert beyond_the_edge(browser) == []
    assert nameless(spoken(browser)) == []
    expected = ["v1/compare - Failed to load resource"] if situation is without_comparison else []
    assert [line for line in browser.log() if not any(one in line for one in expected)] == []


def test_refused_requests_are_a_warning_and_stand_among_the_faults(browser: Browser, gateway: Canned) -> None:
    """Those that production answered in a canary's place are said apart; up to 1 % has no mark."""
    warning = requests_are_refused(gateway)
    browser.open(gateway.url)

    shown(browser)
    of_gateway, of_model = browser.texts(".warnings li")
    assert (of_gateway, of_model) == ("12 connections were refused in the last minute", warning)
    refused = [re.sub(r"[\u00a0\u202f]", " ", cell) for cell in browser.texts(".faults td:nth-child(3)")]
    assert refused == [
        "▲ 170\n17 % of 1 000 got 503",
        "12\n1 % of 1 200 got 503\n300 of 1 200 passed on, and production answered",
    ]

    gateway.state, gateway.compare = documents.state(), documents.compare()
    browser.look_again()
    browser.wait(lambda: browser.texts(".faults td:nth-child(3)") == ["none", "none"])
    assert browser.texts(".warnings") == []

    requests_are_refused_where_nothing_is_compared(gateway)
    browser.look_again()
    browser.wait(lambda: "Refused requests" in browser.texts("h3"))
    refused = [re.sub(r"[\u00a0\u202f]", " ", cell) for cell in browser.texts(".faults td:nth-child(3)")]
    assert refused[0] == "▲ 170\n17 % of 1 000 got 503"


def test_an_environment_of_a_versions_own_is_a_line_in_its_row(browser: Browser, gateway: Canned) -> None:
    gateway.state, gateway.compare = documents.state(), documents.compare()
    versions = gateway.state["models"]["sentiment"]["versions"]
    versions["2"]["environment"] = documents.environment_state()
    building = {**documents.version_state("canary"), "state": "loading", "phase": "environment"}
    versions["3"] = {**building, "aliases": [], "workers": []}
    browser.open(gateway.url)

    shown(browser)
    serves = browser.texts(".versions-table td:nth-child(3)")
    assert [words.split("\n") for words in serves] == [
        ["v1"],
        ["v2", "own Python 3.11.7, pins 3f9c3f9c"],
        ["v3"],
    ]
    assert "loading: its environment is built" in browser.texts(".versions-table td")
    hint = "return document.querySelector('.versions-table .aside[title]').title"
    assert browser.run(hint) == "scikit-learn 1.5.2, the gateway has 1.7.1"


def test_how_a_pre_flight_ended_is_a_line_beside_the_version_with_its_figures(
    browser: Browser, gateway: Canned
) -> None:
    gateway.state, gateway.compare = documents.state(), documents.compare()
    found = {"verdict": "fail", "why": HOSTILE, "flips": 0.25, "mean_difference": None, "latency_ratio": 1.5}
    gateway.state["models"]["sentiment"]["versions"]["2"]["preflight"] = found
    browser.open(gateway.url)

    shown(browser)
    serves = browser.texts(".versions-table td:nth-child(3)")
    assert [words.split("\n") for words in serves] == [["v1"], ["v2", "pre-flight: failed"]]
    hint = browser.run("return document.querySelector('.versions-table .aside[title]').title")
    assert (
        hint
        == f"{HOSTILE}\n25\N{NO-BREAK SPACE}% of the decisions flipped\npredicts take 1.5 times production's"
    )


def test_what_the_gate_says_is_a_line_beside_the_version(browser: Browser, gateway: Canned) -> None:
    gateway.state, gateway.compare = documents.state(), documents.compare()
    aliases = gateway.state["models"]["sentiment"]["aliases"]
    aliases["production"]["gate"] = {"state": "passed", "why": "passed against v6", "objections": []}
    aliases["canary"]["gate"] = {"state": "held", "why": HOSTILE, "objections": ["no_record"]}
    browser.open(gateway.url)

    shown(browser)
    serves = browser.texts(".versions-table td:nth-child(3)")
    assert [words.split("\n") for words in serves] == [
        ["v1", "gate: passed"],
        ["v2", "gate: not passed, held at 0"],
    ]
    hint = "return document.querySelector('.versions-table .aside[title]').title"
    assert browser.run(hint) == "passed against v6"


def test_names_and_errors_of_others_are_shown_as_text_and_nothing_else(
    browser: Browser, gateway: Canned
) -> None:
    """They come from whoever may write the registry."""
    gateway.state = documents.state(HOSTILE)
    gateway.compare = documents.compare("fail", f"Why: {HOSTILE}", model=HOSTILE)
    model = gateway.state["models"][HOSTILE]
    model["aliases"]["canary"]["name"] = model["warnings"] = HOSTILE
    model["warnings"] = [HOSTILE]
    model["versions"]["2"] |= {"error": HOSTILE, "mismatches": [HOSTILE], "state": HOSTILE}
    hostile = {"python": HOSTILE, "pins": HOSTILE, "differs": [HOSTILE], "note": HOSTILE}
    model["versions"]["2"]["environment"] = documents.environment_state(**hostile)
    one = gateway.compare["models"][HOSTILE]["canary"]
    one["scores"].append(
        {"output": HOSTILE, "kind": "class", "classes": [HOSTILE], "production": [5], "canary": [5]}
    )
    one["rates"]["canary"]["faults_by_kind"] = {HOSTILE: 3}
    gateway.state["events"] += [
        {
            "timestamp": time.time(),
            "event": "LoadRefused",
            "version": 3,
            "phase": HOSTILE,
            "error": HOSTILE,
            "retry_seconds": 1,
        },
        {"timestamp": time.time(), "event": HOSTILE, "what": HOSTILE},
    ]
    gateway.state["registry"]["error"] = gateway.state["version"] = gateway.state["config"]["digest"] = (
        HOSTILE
    )
    gateway.state["registry"]["reachable"] = False
    browser.open(gateway.url)

    assert shown(browser).count("<img src=x onerror=window.hurt=1>") >= 12
    assert browser.run(
        "return [window.hurt === undefined, document.querySelectorAll('img, main script').length]"
    ) == [True, 0]
    assert browser.log() == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("verdict", ["pass", "fail", "not_enough_data"])
def test_every_text_can_be_read_in_light_and_in_the_dark(
    browser: Browser, gateway: Canned, verdict: str, *, dark: bool
) -> None:
    gateway.compare = documents.compare(verdict, "Why so.")
    open_breaker(gateway)
    registry_is_away(gateway)
    browser.open(gateway.url, dark=dark)
    shown(browser)

    assert too_faint(browser) == []
    assert drawn_too_faintly(browser) == []
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(15, 20, 27)") is dark


def test_no_arm_is_reported_by_its_colour_alone(browser: Browser, gateway: Canned) -> None:
    """Production is filled; the canary is hatched, has an outline, and its marks are dashed."""
    browser.open(gateway.url)
    shown(browser)

    def style(selector: str, name: str) -> str:
        reported: str = browser.run(
            "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]", selector, name
        )
        return reported

    assert style(".bar .arm.production", "fill").startswith("rgb(")
    assert "#hatch" in style(".bar .arm.canary", "fill")
    assert "#hatch" in style(".steps.canary .hatched", "fill")
    assert style(".marks.canary .range", "strokeDasharray") != style(
        ".marks.production .range", "strokeDasharray"
    )


def test_a_screen_reader_finds_landmarks_headings_tables_and_the_figures_of_each_picture(
    browser: Browser, gateway: Canned
) -> None:
    several_models(gateway)
    browser.open(gateway.url)
    shown(browser)
    tree = spoken(browser)
    roles = [role for role, _ in tree]

    assert {"banner", "main", "contentinfo", "navigation"} <= set(roles)
    assert ("region", "churn") in tree
    assert nameless(tree) == []
    described = browser.run("return [...document.querySelectorAll('desc')].map((one) => one.textContent)")
    words = next(one for one in described if "p99" in one)
    assert words == (
        "production v1: 12 431 answers, p50 4 ms, p95 12.7 ms, p99 20.4 ms. "
        "canary v2: 640 answers, p50 4.4 ms, p95 14 ms, p99 22.4 ms."
    ).replace(" ms", "\u00a0ms").replace("12 431", "12\u202f431")
    assert any(
        role in ("image", "img") and name.startswith("Latency of production and canary")
        for role, name in tree
    )
    live = browser.run("return [...document.querySelectorAll('[aria-live]')].map((one) => one.id)")
    assert live == ["announcer"]


LISTEN = """
const announcer = document.getElementById("announcer");
window.said = [];
new MutationObserver(() => announcer.textContent && window.said.push(announcer.textContent))
  .observe(announcer, { childList: true, characterData: true, subtree: true });
"""


def test_a_changed_verdict_is_announced_once_and_is_an_event(browser: Browser, gateway: Canned) -> None:
    """Figures that grow with every request are no news to a screen reader."""
    browser.open(gateway.url)
    shown(browser)
    browser.run(LISTEN)
    gateway.compare = documents.compare(
        "not_enough_data", "Not enough data: 321 of about 640 canary requests."
    )
    browser.look_again()
    browser.wait(lambda: "321" in browser.text(".sentence"))
    assert browser.run("return window.said") == []

    gateway.compare = documents.compare(*FAILS)
    v1, v2 = VersionId("sentiment", 1), VersionId("sentiment", 2)
    changed = VerdictChanged("sentiment", CANARY, v2, v1, "not_enough_data", *FAILS)
    gateway.state["events"].append({"timestamp": time.time(), **as_json(changed)})
    browser.look_again()
    browser.wait(lambda: browser.run("return window.said.length"))
    assert browser.run("return window.said") == [f"sentiment: FAIL. {FAILS[1]}"]
    reported = f"Verdict of canary v2: FAIL, before NOT ENOUGH DATA. {FAILS[1]}"
    assert browser.texts(".events .words")[0] == reported


def test_it_is_used_with_the_keyboard_in_the_order_in_which_it_is_read(
    browser: Browser, gateway: Canned
) -> None:
    several_models(gateway)
    browser.open(gateway.url)
    shown(browser)
    visited = []
    for _ in range(8):
        ActionChains(browser.driver).send_keys(Keys.TAB).perform()
        visited.append(browser.run("return document.activeElement.textContent.trim()"))

    assert visited[0] == "Skip to the models"
    assert [one.split()[0] for one in visited[1:5]] == ["sentiment", "churn", "__proto__", "constructor"]
    assert visited[5:7] == ["Figures of every bin"] * 2
    outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_what_a_reader_opened_focused_or_selected_stays_when_the_page_renews_itself(
    browser: Browser, gateway: Canned
) -> None:
    browser.open(gateway.url)
    shown(browser)
    summary = browser.driver.find_element(By.CSS_SELECTOR, ".figures summary")
    summary.send_keys(Keys.ENTER)
    browser.run("getSelection().selectAllChildren(document.querySelector('.sentence'))")
    gateway.compare = documents.compare("not_enough_data", "Other figures.", slower=3.0)
    browser.look_again()
    browser.wait(lambda: browser.text(".sentence") == "Other figures.")

    assert browser.run("return document.querySelector('.figures').open")
    assert browser.run("return document.activeElement === arguments[0]", summary)
    assert browser.run("return String(getSelection())") == "Other figures."


def test_a_link_leads_to_the_model_that_it_names(browser: Browser, gateway: Canned) -> None:
    several_models(gateway)
    browser.open(gateway.url)
    shown(browser)
    browser.driver.find_elements(By.CSS_SELECTOR, ".model-link")[1].click()

    assert browser.driver.current_url.endswith("#model-churn")
    browser.wait(
        lambda: (
            abs(browser.run("return document.getElementById('model-churn').getBoundingClientRect().top")) < 5
        )
    )


def test_a_page_that_nobody_looks_at_asks_nothing_and_asks_at_once_when_it_is_looked_at(
    browser: Browser, gateway: Canned
) -> None:
    browser.open(gateway.url)
    shown(browser)
    ours = browser.driver.current_window_handle
    browser.driver.switch_to.new_window("tab")
    browser.driver.get("about:blank")
    time.sleep(0.5)  # what was under way when it was hidden
    asked = len(gateway.asked)
    time.sleep(2.5)  # longer than its period
    quiet = len(gateway.asked) - asked
    browser.driver.close()
    browser.driver.switch_to.window(ours)

    assert quiet == 0
    browser.wait(lambda: len(gateway.asked) > asked, 1.5)


def test_without_javascript_it_says_where_the_facts_are(browser: Browser, gateway: Canned) -> None:
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.driver.get(gateway.url)
        assert "/v1/state and" in browser.driver.find_element(By.CSS_SELECTOR, "noscript").text
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)


def test_who_wants_less_motion_gets_none(browser: Browser, gateway: Canned) -> None:
    browser.open(gateway.url)  # which asks for it
    shown(browser)

    assert (
        browser.run("return getComputedStyle(document.querySelector('.banner')).transitionDuration") == "0s"
    )
    assert browser.run("return getComputedStyle(document.documentElement).scrollBehavior") == "auto"


def test_silence_is_reported_with_its_time_and_ends_by_itself(browser: Browser, gateway: Canned) -> None:
    """Also when the page was opened before the gateway said a word."""
    gateway.silent = True
    browser.open(gateway.url)
    browser.wait(lambda: "No answer from the gateway yet" in browser.text("#notice"))
    gateway.silent = False
    shown(browser)
    assert not browser.texts("#notice")[0]

    before = browser.text(".sentence")
    gateway.silent = True
    browser.look_again()
    browser.wait(lambda: browser.run("return document.body.classList.contains('silent')"))
    assert browser.text("#notice").startswith("No answer since ")
    assert browser.text(".sentence") == before
    gateway.silent = False
    browser.wait(lambda: not browser.run("return document.body.classList.contains('silent')"))
    browser.log()  # the refused requests
