"""Every exported series by family and label values, and the two text formats they are written in.

Rendering is ours for its speed (docs/decisions/0004): a series makes what stands before its value once.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Sequence
from math import inf
from typing import Any, Generic, Protocol, TypeVar

from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Series(Protocol):
    """Something with lines in the exposition."""

    def write(self, lines: list[str], *, exemplars: bool) -> None:
        """Append `name{labels} value` lines, each with its newline; exemplars where asked for."""


S = TypeVar("S", bound=Series)


class Value:
    """A counter or a gauge. Add to `value`, or set it."""

    __slots__ = ("_head", "value")

    def __init__(self, name: str, labels: str) -> None:
        self._head = _head(name, labels)
        self.value: float = 0

    def write(self, lines: list[str], *, exemplars: bool) -> None:
        """One line."""
        lines.append(f"{self._head} {number(self.value)}\n")


class Histogram:
    """Counts by upper bound; `counts` are not cumulative, the exported ones are."""

    __slots__ = ("_bounds", "_bucket_heads", "_count_head", "_exemplars", "_sum_head", "counts", "sum")

    def __init__(self, name: str, labels: str, bounds: Sequence[float], *, summed: bool = True) -> None:
        self._bounds = tuple(bounds)
        separator = "," if labels else ""
        edges = (*(number(float(bound)) for bound in bounds), "+Inf")
        self._bucket_heads = [_head(f"{name}_bucket", f'{labels}{separator}le="{edge}"') for edge in edges]
        self._sum_head = _head(f"{name}_sum", labels) if summed else None
        self._count_head = _head(f"{name}_count", labels)
        self._exemplars: dict[int, str] = {}
        """By bucket, so there are never more than buckets."""
        self.counts = [0] * len(edges)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count `value` ≥ 0. NaN would poison the sum for the life of the process, so it is left out."""
        if 0 <= value < inf:
            self.counts[bisect_left(self._bounds, value)] += 1
            self.sum += value

    def exemplify(self, value: float, trace_id: str, at: float) -> None:
        """Name the trace of `value`, observed `at` seconds since 1970. `trace_id` must need no escape.

        The last one of each bucket is exported, in OpenMetrics only.
        """
        if 0 <= value < inf:
            exemplar = f' # {{trace_id="{trace_id}"}} {number(value)} {at:.3f}\n'
            self._exemplars[bisect_left(self._bounds, value)] = exemplar

    def write(self, lines: list[str], *, exemplars: bool) -> None:
        """One line per bound, then the sum and the count, or neither: OpenMetrics has them as a pair."""
        first, running = len(lines), 0
        for head, count in zip(self._bucket_heads, self.counts, strict=True):
            running += count
            lines.append(f"{head} {running}\n")
        if exemplars:
            for bucket, exemplar in self._exemplars.items():
                lines[first + bucket] = lines[first + bucket][:-1] + exemplar
        if self._sum_head is not None:
            lines.append(f"{self._sum_head} {number(self.sum)}\n")
            lines.append(f"{self._count_head} {running}\n")


class Family(Generic[S]):
    """All series of one name, by the values of its labels."""

    def __init__(
        self,
        name: str,
        kind: str,
        text: str,
        labels: Sequence[str],
        make: Callable[[str, str], S],
        bounds: Sequence[float] = (),
    ) -> None:
        self.name = name
        """As exported; a counter's ends in `_total`."""
        self.kind = kind
        """counter, gauge or histogram."""
        self.text = text
        """For `# HELP`: one line without quotes or backslashes."""
        self.labels = tuple(labels)
        self.bounds = tuple(bounds)
        """Upper edges that all its histograms share; none where each has its own."""
        self._make = make
        self._series: dict[tuple[str, ...], S] = {}

    def series(self, *values: str) -> S:
        """The series with these label values, made at 0 when it is new."""
        found = self._series.get(values)
        if found is None:
            found = self._series[values] = self._make(self.name, self.label_text(values))
        return found

    def find(self, *values: str) -> S | None:
        """The series with these label values, if there is one."""
        return self._series.get(values)

    def attach(self, values: tuple[str, ...], series: S) -> S:
        """Export a series that was made elsewhere."""
        self._series[values] = series
        return series

    def label_text(self, values: Sequence[str]) -> str:
        """`model="m",alias="a"`, escaped; a label without a value is left out."""
        pairs = zip(self.labels, values, strict=True)
        return ",".join(f'{label}="{_escaped(value)}"' for label, value in pairs if value)

    def drop(self, **labels: str) -> None:
        """Export no series any longer that has all of these label values; without any: none at all.

        Whoever still holds one may go on counting in vain.
        """
        wanted = [(self.labels.index(label), value) for label, value in labels.items()]
        for values in [v for v in self._series if all(v[place] == value for place, value in wanted)]:
            del self._series[values]

    def lines(self, *, exemplars: bool = False) -> list[str]:
        """The lines of all series, in the order in which they were made."""
        lines: list[str] = []
        for series in self._series.values():
            series.write(lines, exemplars=exemplars)
        return lines


class Store:
    """The families, in the order in which they are exported."""

    def __init__(self) -> None:
        self.families: list[Family[Any]] = []

    def drop(self, **labels: str) -> None:
        """Drop every series with these label values, from all families that have all of these labels."""
        for family in self.families:
            if labels.keys() <= set(family.labels):
                family.drop(**labels)

    def _add(self, family: Family[S]) -> Family[S]:
        self.families.append(family)
        return family


def render(
    families: Iterable[Family[Any]],
    foreign: Iterable[Metric],
    *,
    openmetrics: bool,
    names: Collection[str] = (),
) -> bytes:
    """The exposition of our own families and of what prometheus_client's collectors measure.

    `names` non-empty keeps the families and samples of those names only. Families without a series are left
    out; only OpenMetrics has exemplars.
    """
    parts: list[str] = []

    def add(name: str, kind: str, text: str, lines: list[str]) -> None:
        if names and name not in names:
            lines = [line for line in lines if line.partition(" ")[0].partition("{")[0] in names]
        if lines:
            # OpenMetrics names a counter's family without the suffix its samples carry.
            shown = name.removesuffix("_total") if openmetrics else name
            parts.append(f"# HELP {shown} {text}\n# TYPE {shown} {kind}\n")
            parts.extend(lines)

    for family in families:
        add(family.name, family.kind, family.text, family.lines(exemplars=openmetrics))
    for metric in foreign:
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        add(name, metric.type, metric.documentation, _foreign_lines(metric))
    if openmetrics:
        parts.append("# EOF\n")
    # A lone surrogate in a name must cost a question mark, not the scrape.
    return "".join(parts).encode("utf-8", "replace")


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


def number(value: float) -> str:
    """A value as both formats want it."""
    if isinstance(value, int):
        return str(value)
    return str(floatToGoString(value))  # type: ignore[no-untyped-call] # the client leaves it without types


def _foreign_lines(metric: Metric) -> list[str]:
    lines = []
    for sample in metric.samples:
        labels = ",".join(f'{label}="{_escaped(value)}"' for label, value in sample.labels.items())
        lines.append(f"{_head(sample.name, labels)} {number(sample.value)}\n")
    return lines


def _head(name: str, labels: str) -> str:
    """What stands before the value."""
    return f"{name}{{{labels}}}" if labels else name


def _escaped(value: str) -> str:
    return value.translate(_ESCAPES)


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
