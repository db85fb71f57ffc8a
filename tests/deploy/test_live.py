"""Real Prometheus, real gateway, real bad canary: every question is answered, and the real alert fires."""

import json
import urllib.request
from collections.abc import Callable

import pytest

from tests.conftest import Figure
from tests.deploy.conftest import BAD_CANARY, CLASSIFIER, NOBODY, OwnPrometheus, Prometheus, Target
from tests.deploy.dashboard import ANNOTATIONS, VARIABLES, filled_in, questions
from tests.deploy.promtool import all_rules, run_on
from tests.support.waiting import wait_until

ALERT = "CanaryRouterCanaryFailsMore"
OF_CLASSIFIERS = ("Classes by alias A",)
"""The versions of `sentiment` answer with scores."""
OF_ELSEWHERE = "Scores read of answers elsewhere A"
"""They run in the gateway."""
A_MAIL = b'{"dataframe_split": {"columns": ["links", "words"], "data": [[0, 9], [3, 1]]}}'
CANARY_ONLY = ("minus production", "canary to", "(PSI)", "(K-S)", "as the gateways", "faults", "in its place")
BOTH = {"production", "canary"}


def wait_while(lacking: Callable[[], object], seconds: float) -> float:
    """Poll until nothing lacks any more; the seconds that took."""
    return wait_until(lambda: not lacking(), seconds, lambda: f"{lacking()}", pause_seconds=0.3)


def lack(prometheus: Prometheus, query: str, aliases: set[str] | None = None) -> str:
    """Why this query is not answered yet; empty when it is. A warning is a failure."""
    answer = prometheus.query(query)
    assert answer["status"] == "success", answer
    assert not answer.get("warnings"), answer
    assert not answer.get("infos"), answer
    series = answer["data"]["result"]
    if not series:
        return "no data"
    if any(one["value"][1] == "NaN" for one in series):
        return "a value is NaN"
    shown = {one["metric"].get("alias") for one in series} - {None}
    return "" if aliases is None or shown == aliases else f"aliases {shown}"


def not_firing(prometheus: Prometheus) -> str:
    """Why the alert does not fire yet; empty when it does."""
    states = {one["labels"]["alertname"]: one["state"] for one in prometheus.alerts()}
    return "" if states.get(ALERT) == "firing" else f"{states}"


def test_promtool_has_no_remark_about_what_a_gateway_under_traffic_exports(target: Target) -> None:
    with urllib.request.urlopen(f"http://{target.address}/metrics", timeout=10) as answer:
        exported = answer.read()

    checked = run_on(exported, "check", "metrics")

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_a_bad_canary_makes_the_real_alert_fire(prometheus: Prometheus, slack: float, figure: Figure) -> None:
    """It raises on an eighth of its requests; the rules' own windows and `for`."""
    seconds = wait_while(lambda: not_firing(prometheus), 60 * slack)
    [alert] = (one for one in prometheus.alerts() if one["labels"]["alertname"] == ALERT)
    assert alert["labels"]["version"] == str(BAD_CANARY)
    assert alert["labels"]["production_version"] == "1"
    assert alert["labels"]["severity"] == "warning"
    assert alert["annotations"]["summary"].startswith(f"sentiment@canary v{BAD_CANARY} fails ")
    assert alert["annotations"]["runbook_url"].endswith(f"{ALERT}.md")
    figure(f"{ALERT} fired {seconds:.0f} s after Prometheus began to scrape")


def test_nothing_fires_but_what_is_wrong(prometheus: Prometheus, slack: float) -> None:
    """The version that did not load is asked for no more, and production is well."""
    wait_while(lambda: not_firing(prometheus), 60 * slack)

    firing = {one["labels"]["alertname"] for one in prometheus.alerts() if one["state"] == "firing"}

    assert firing <= {ALERT, "CanaryRouterFallbackInUse", "CanaryRouterVerdictFail"}


def test_alertmanager_hears_of_it_and_notifies_the_team(
    prometheus: Prometheus, alertmanager: str, slack: float
) -> None:
    if alertmanager == NOBODY:
        pytest.skip("Alertmanager is missing; install the Debian package `prometheus-alertmanager`")
    wait_while(lambda: not_firing(prometheus), 60 * slack)

    def unheard() -> str:
        with urllib.request.urlopen(f"http://{alertmanager}/api/v2/alerts", timeout=10) as answer:
            reported = {one["labels"]["alertname"]: one for one in json.load(answer)}
        if ALERT not in reported:
            return f"only {sorted(reported)}"
        return "" if reported[ALERT]["receivers"] == [{"name": "team"}] else f"{reported[ALERT]}"

    wait_while(unheard, 30 * slack)


def test_every_rule_is_evaluated_without_an_error(prometheus: Prometheus, slack: float) -> None:
    assert len(prometheus.rules()) == len(all_rules())

    def unwell() -> list[tuple[str, str, str]]:
        reported = ((rule["name"], rule["health"], rule.get("lastError", "")) for rule in prometheus.rules())
        return [rule for rule in reported if rule[1] != "ok"]

    wait_while(unwell, 10 * slack)


def test_every_recorded_series_has_data(prometheus: Prometheus, slack: float) -> None:
    names = [rule["record"] for rule in all_rules() if "record" in rule]

    wait_while(lambda: {name: why for name in names if (why := lack(prometheus, name))}, 30 * slack)


def test_every_panel_has_an_answer(prometheus: Prometheus, slack: float) -> None:
    """For both aliases, where it distinguishes them."""
    asked = {name: query for name, query in questions() if name not in (*OF_CLASSIFIERS, OF_ELSEWHERE)}
    assert len(asked) > 50

    def lacking() -> dict[str, str]:
        return {
            name: why for name, query in asked.items() if (why := lack(prometheus, query, of(name, query)))
        }

    wait_while(lacking, 60 * slack)


def test_the_panel_of_classes_shows_labels_by_alias(
    prometheus: Prometheus, target: Target, slack: float
) -> None:
    query = dict(questions(CLASSIFIER))["Classes by alias A"]

    def lacking() -> str:
        for number in range(10):
            headers = {"Content-Type": "application/json", "X-Request-Key": f"user-{number}"}
            url = f"http://{target.address}/models/{CLASSIFIER}/invocations"
            urllib.request.urlopen(urllib.request.Request(url, A_MAIL, headers), timeout=10).close()
        return lack(prometheus, query, BOTH)

    wait_while(lacking, 60 * slack)
    found = prometheus.query(query)["data"]["result"]
    assert {one["metric"]["class"] for one in found} == {"ham", "spam", "__other__"}


def of(name: str, query: str) -> set[str] | None:
    """The aliases that a panel must show; None where it need not distinguish them."""
    if "by (alias" not in query and ":canary_router" not in query:
        return None
    return {"canary"} if any(word in name for word in CANARY_ONLY) else BOTH


def test_the_score_panel_shows_shares_of_one(prometheus: Prometheus, slack: float) -> None:
    query = f"sum by (alias) ({dict(questions())['Scores by alias A']})"
    wait_while(lambda: lack(prometheus, query, BOTH), 30 * slack)

    sums = [float(one["value"][1]) for one in prometheus.query(query)["data"]["result"]]

    assert sums == [pytest.approx(1.0), pytest.approx(1.0)]


@pytest.mark.parametrize(
    ("variable", "label", "values"),
    [
        ("job", "job", {"canary-router"}),
        ("model", "model", {"sentiment", "mail"}),
        ("instance", "instance", None),
    ],
)
def test_the_variables_find_what_there_is(
    variable: str,
    label: str,
    values: set[str] | None,
    prometheus: Prometheus,
    target: Target,
    slack: float,
) -> None:
    asked = VARIABLES[variable]["query"]["query"]
    selector, _, named = asked.removeprefix("label_values(").removesuffix(")").rpartition(", ")
    assert named == label
    query = f"count by ({label}) ({filled_in(selector)})"
    wait_while(lambda: lack(prometheus, query), 30 * slack)

    found = prometheus.query(query)["data"]["result"]
    assert {one["metric"][label] for one in found} == (values or {target.address})


def test_the_annotation_of_a_firing_alert_is_answered(prometheus: Prometheus, slack: float) -> None:
    [query] = (filled_in(one["expr"]) for one in ANNOTATIONS if one["name"] == "Alert firing")

    wait_while(lambda: lack(prometheus, query), 60 * slack)


@pytest.mark.slow  # after the alert fired, its `for` of 30 s passes once more
def test_a_restart_of_prometheus_does_not_lose_the_alert(
    prometheus: OwnPrometheus, slack: float, figure: Figure
) -> None:
    """Killed: what it stored is enough to fire again. Alertmanager goes on meanwhile: it heard of no end."""
    wait_while(lambda: not_firing(prometheus), 60 * slack)
    prometheus.kill()
    prometheus.start()

    seconds = wait_while(lambda: not_firing(prometheus), 60 * slack)
    figure(f"{ALERT} fired again {seconds:.0f} s after Prometheus was killed")
