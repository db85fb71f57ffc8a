"""The two text formats, and which of them a scraper asked for."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric

from router.adapters.prometheus.store import Family, Series, escaped, head, number

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Block:
    """One family as it is exported."""

    name: str
    """A counter's ends in `_total`."""
    kind: str
    text: str
    lines: Iterable[str]


def blocks(families: Iterable[Family[Series]], *, openmetrics: bool) -> Iterator[Block]:
    """Our own families; only OpenMetrics has exemplars."""
    for family in families:
        yield Block(family.name, family.kind, family.text, family.lines(exemplars=openmetrics))


def foreign_blocks(metrics: Iterable[Metric]) -> Iterator[Block]:
    """What prometheus_client's own collectors give: counters and gauges of the process."""
    for metric in metrics:
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        yield Block(name, metric.type, metric.documentation, _foreign_lines(metric))


def _foreign_lines(metric: Metric) -> Iterator[str]:
    for sample in metric.samples:
        labels = ",".join(f'{label}="{escaped(value)}"' for label, value in sample.labels.items())
        yield f"{head(sample.name, labels)} {number(sample.value)}\n"


def render(exported: Iterable[Block], *, openmetrics: bool, names: Collection[str]) -> bytes:
    """The exposition; `names` non-empty keeps the families and samples of those names only.

    Families without a series are left out.
    """
    parts: list[str] = []
    for block in exported:
        lines = [line for line in block.lines if not names or _kept(block.name, line, names)]
        if lines:
            # OpenMetrics names a counter's family without the suffix its samples carry.
            name = block.name.removesuffix("_total") if openmetrics else block.name
            parts += (f"# HELP {name} {block.text}\n# TYPE {name} {block.kind}\n", *lines)
    if openmetrics:
        parts.append("# EOF\n")
    # A lone surrogate in a name must cost a question mark, not the scrape.
    return "".join(parts).encode("utf-8", "replace")


def _kept(family: str, line: str, names: Collection[str]) -> bool:
    return family in names or line.partition(" ")[0].partition("{")[0] in names


def wants_openmetrics(accept: str) -> bool:
    """Whether an Accept header likes OpenMetrics 1.0.0 at least as much as plain text.

    prometheus_client's own choice raises on a version that is not a number.
    """
    liked = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for media_range in accept.split(","):
        kind, *parameters = (part.strip() for part in media_range.lower().split(";"))
        options = dict(parameter.partition("=")[::2] for parameter in parameters)
        if kind == "application/openmetrics-text" and options.get("version", "1.0.0") != "1.0.0":
            continue
        if kind in liked:
            liked[kind] = max(liked[kind], _quality(options.get("q", "1")))
    openmetrics, text = liked.values()
    return openmetrics > 0 and openmetrics >= text


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
