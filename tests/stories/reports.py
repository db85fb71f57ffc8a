"""What each source says of one canary, in one form, so that two of them can be laid side by side."""

import re
from dataclasses import dataclass
from typing import Any

from tests.support.browser import Browser
from tests.support.comparison import check

WORDS = {"✔ pass": "pass", "✓ PASS": "pass", "✘ FAIL": "fail", "✕ FAIL": "fail"}
WORDS |= {"… not enough data": "not_enough_data", "… NOT ENOUGH DATA": "not_enough_data"}
NUMBER = r"[+-]?\d+(?:\.\d+)?(?:e-?\d+)?"


@dataclass(frozen=True)
class Rates:
    """Faults, or slow answers: percent and requests of either side, points more, and the verdict."""

    production: float
    production_requests: int
    canary: float
    canary_requests: int
    points: float
    verdict: str


@dataclass(frozen=True)
class Scores:
    """Means and numbers of scores, PSI, and the word for it."""

    production: float
    production_scores: int
    canary: float
    canary_scores: int
    psi: float
    size: str


@dataclass(frozen=True)
class Report:
    """A source's story. Shares in percent."""

    verdict: str
    why: str
    versions: tuple[int, int]
    """Of production, and of the canary."""
    share: float
    observed_share: float
    split: str
    faults: Rates
    latency: Rates
    slow_ms: float
    """Longer is slow."""
    scores: Scores


def by_interface(entry: dict[str, Any]) -> Report:
    """`/v1/compare`."""
    [output] = check(entry, "scores")["outputs"]
    split = check(entry, "split")
    return Report(
        verdict=entry["verdict"],
        why=entry["why"],
        versions=(entry["production_version"], entry["version"]),
        share=entry["share"] * 100,
        observed_share=split["observed_share"] * 100,
        split={"pass": "as due", "fail": "split skew", "not_enough_data": "not_enough_data"}[
            split["verdict"]
        ],
        faults=_rates(check(entry, "faults")),
        latency=_rates(check(entry, "latency")),
        slow_ms=check(entry, "latency")["edge_seconds"] * 1e3,
        scores=Scores(
            output["production"]["mean"],
            output["production"]["scores"],
            output["canary"]["mean"],
            output["canary"]["scores"],
            output["psi"],
            "no shift" if output["size"] == "none" else f"{output['size']} shift",
        ),
    )


def _rates(one: dict[str, Any]) -> Rates:
    production, canary = one["production"], one["canary"]
    percents = production["rate"] * 100, canary["rate"] * 100
    return Rates(
        percents[0],
        production["requests"],
        percents[1],
        canary["requests"],
        one["difference"] * 100,
        one["verdict"],
    )


def by_terminal(text: str) -> Report:
    """What `canary-router compare` printed."""
    head, sentence, *lines = text.splitlines()
    versions = re.fullmatch(
        rf"sentiment canary: v(\d+) against production v(\d+), ({NUMBER}) % of the keys", head
    )
    assert versions, head
    sign, _, why = sentence.partition(": ")
    cells = (re.split(r"\s*│\s*", line.strip())[1:-1] for line in lines if line.startswith("│"))
    rows = {row[0]: row[1:] for row in cells}
    over = next(name for name in rows if name.startswith("over "))
    split = rows["share of keys"]
    return Report(
        verdict=WORDS.get(sign, "not_enough_data"),
        why=why,
        versions=(int(versions[2]), int(versions[1])),
        share=float(versions[3]),
        observed_share=_numbers(split[1])[0],
        split=WORDS.get(split[-1], split[-1].removeprefix("⚠ ")),
        faults=_row(rows["faults"]),
        latency=_row(rows[over]),
        slow_ms=_numbers(over)[0],
        scores=_scores(rows["score 0"], rows["score 0"][2], rows["score 0"][-1]),
    )


def by_page(browser: Browser) -> Report:
    """What the live page shows at this moment, in one look."""
    shown: dict[str, Any] = browser.run(SHOWN)
    cells = [[_plain(cell) for cell in row] for row in shown["rows"]]
    rows = {row[0].split("\n")[0]: row for row in cells}
    configured, in_force, observed = ([*map(_percent, bar.split("·"))] for bar in map(_plain, shown["bars"]))
    assert configured == in_force
    faults, latency, scores, split = (rows[name] for name in ("Faults", "Slow answers", "Scores", "Split"))
    production, canary = (_numbers(version)[0] for version in shown["versions"])
    slower = re.search(rf"slower than ({NUMBER}) ms", latency[0])
    assert slower, latency
    means = [" ".join(re.findall(NUMBER, cell)[:2]) for cell in scores[1:3]]
    psi = next(line for line in scores[3].split("\n") if line.startswith("PSI"))
    return Report(
        verdict=WORDS[_plain(shown["badge"])],
        why=_plain(shown["sentence"]),
        versions=(int(production), int(canary)),
        share=in_force[1],
        observed_share=observed[1],
        split=_verdict(split[4]),
        faults=_row([_arm(faults[1]), _arm(faults[2]), faults[3], "", _verdict(faults[4])]),
        latency=_row([_arm(latency[1]), _arm(latency[2]), latency[3], "", _verdict(latency[4])]),
        slow_ms=float(slower[1]),
        scores=_scores(means, psi, _verdict(scores[4])),
    )


SHOWN = """
const texts = (selector) => [...document.querySelectorAll(selector)].map((one) => one.innerText);
return {
  badge: texts(".banner .badge")[0], sentence: texts(".sentence")[0], bars: texts(".bar-figures"),
  rows: [...document.querySelectorAll(".checks tbody tr")]
    .map((row) => [...row.children].map((cell) => cell.innerText)),
  versions: texts(".versions tbody tr td:nth-of-type(2)"),
};
"""


def _plain(text: str) -> str:
    """With the signs that a terminal has: spaces and minus."""
    text = re.sub(r"(?<=\d)\u202f(?=\d)", "", text).replace("\u00a0", " ").replace("−", "-")
    return re.sub(r"\s*\n\s*", "\n", text).strip()


def _arm(cell: str) -> str:
    """`3.1 %`, `28 of 900`, `880 keys` as `3.1 % of 900`."""
    rate, counted, *_ = cell.split("\n")
    return f"{rate} of {counted.partition(' of ')[2]}"


def _verdict(cell: str) -> str:
    first = cell.split("\n")[0]
    return WORDS.get(first, first.lstrip("≈▲ "))


def _numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(NUMBER, text)]


def _percent(text: str) -> float:
    return _numbers(text)[0]


def _row(cells: list[str]) -> Rates:
    production, canary = _numbers(cells[0]), _numbers(cells[1])
    points = _numbers(cells[2])[0]
    verdict = WORDS.get(cells[-1], cells[-1])
    return Rates(production[0], int(production[1]), canary[0], int(canary[1]), points, verdict)


def _scores(arms: list[str], psi: str, size: str) -> Scores:
    production, canary = _numbers(arms[0]), _numbers(arms[1])
    return Scores(production[0], int(production[1]), canary[0], int(canary[1]), _numbers(psi)[0], size)
