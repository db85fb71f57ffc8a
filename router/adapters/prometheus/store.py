"""Series, and families of them that share a name."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Any, Generic, Protocol, TypeVar

from prometheus_client.utils import floatToGoString

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Series(Protocol):
    """Something with lines in the exposition."""

    def lines(self) -> Iterator[str]:
        """`name{labels} value`, each with its newline."""


S = TypeVar("S", bound=Series)


class Value:
    """A counter or a gauge. Add to `value`, or set it."""

    __slots__ = ("_head", "value")

    def __init__(self, name: str, labels: str) -> None:
        self._head = head(name, labels)
        self.value: float = 0

    def lines(self) -> Iterator[str]:
        """One line."""
        yield f"{self._head} {number(self.value)}\n"


class Histogram:
    """Counts by upper bound; `counts` are not cumulative, the exported ones are."""

    __slots__ = ("_bounds", "_bucket_heads", "_count_head", "_sum_head", "counts", "sum")

    def __init__(self, name: str, labels: str, bounds: Sequence[float], *, summed: bool = True) -> None:
        self._bounds = tuple(bounds)
        separator = "," if labels else ""
        edges = (*(number(float(bound)) for bound in bounds), "+Inf")
        self._bucket_heads = [head(f"{name}_bucket", f'{labels}{separator}le="{edge}"') for edge in edges]
        self._sum_head = head(f"{name}_sum", labels) if summed else None
        self._count_head = head(f"{name}_count", labels)
        self.counts = [0] * len(edges)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count `value` ≥ 0. NaN would poison the sum for the life of the process, so it is left out."""
        if 0 <= value < inf:
            self.counts[bisect_left(self._bounds, value)] += 1
            self.sum += value

    def lines(self) -> Iterator[str]:
        """One line per bound, then the sum and the count, or neither: OpenMetrics has them as a pair."""
        running = 0
        for line_head, count in zip(self._bucket_heads, self.counts, strict=True):
            running += count
            yield f"{line_head} {running}\n"
        if self._sum_head is not None:
            yield f"{self._sum_head} {number(self.sum)}\n"
            yield f"{self._count_head} {running}\n"


class TracedHistogram(Histogram):
    """A histogram that remembers the last traced request of each bucket: an exemplar, in OpenMetrics only."""

    __slots__ = ("_exemplars",)

    def __init__(self, name: str, labels: str, bounds: Sequence[float]) -> None:
        super().__init__(name, labels, bounds)
        self._exemplars: dict[int, str] = {}
        """By bucket, so there are never more than buckets."""

    def exemplify(self, value: float, trace_id: str, at: float) -> None:
        """Name the trace of `value`, observed `at` seconds since 1970. `trace_id` must need no escape."""
        if 0 <= value < inf:
            told = f' # {{trace_id="{trace_id}"}} {number(value)} {at:.3f}\n'
            self._exemplars[bisect_left(self._bounds, value)] = told

    def lines_with_exemplars(self) -> Iterator[str]:
        """As `lines`, for OpenMetrics."""
        for i, line in enumerate(self.lines()):
            told = self._exemplars.get(i)
            yield line if told is None else line[:-1] + told


class Family(Generic[S]):
    """All series of one name."""

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

    def label_text(self, values: Sequence[str]) -> str:
        """`model="m",alias="a"`, escaped; a label without a value is left out."""
        pairs = zip(self.labels, values, strict=True)
        return ",".join(f'{label}="{escaped(value)}"' for label, value in pairs if value)

    def attach(self, values: tuple[str, ...], series: S) -> S:
        """Export a series that was made elsewhere."""
        self._series[values] = series
        return series

    def drop(self, values: tuple[str, ...]) -> None:
        """Export it no longer; whoever still holds it may go on counting in vain."""
        self._series.pop(values, None)

    def clear(self) -> None:
        """Export none."""
        self._series.clear()

    def lines(self, *, exemplars: bool = False) -> Iterator[str]:
        """The lines of all series, in the order in which they were made."""
        for series in self._series.values():
            if exemplars and isinstance(series, TracedHistogram):
                yield from series.lines_with_exemplars()
            else:
                yield from series.lines()


class Scope:
    """Series that leave together."""

    def __init__(self) -> None:
        self._held: dict[tuple[Family[Any], tuple[str, ...]], None] = {}

    def series(self, family: Family[S], *values: str) -> S:
        """The series of `family` with these label values, until this scope is closed."""
        self._held[family, values] = None
        return family.series(*values)

    def attach(self, family: Family[S], values: tuple[str, ...], series: S) -> S:
        """Export `series` in `family` until this scope is closed."""
        self._held[family, values] = None
        return family.attach(values, series)

    def close(self) -> None:
        """Drop what was asked for here. The scope can be filled again."""
        for family, values in self._held:
            family.drop(values)
        self._held.clear()


def head(name: str, labels: str) -> str:
    """What stands before the value."""
    return f"{name}{{{labels}}}" if labels else name


def escaped(value: str) -> str:
    """A label value as both formats want it."""
    return value.translate(_ESCAPES)


def number(value: float) -> str:
    """A value as both formats want it."""
    if isinstance(value, int):
        return str(value)
    return str(floatToGoString(value))  # type: ignore[no-untyped-call] # the client leaves it without types
