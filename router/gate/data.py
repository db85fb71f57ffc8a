"""The hold-out: rows to ask both versions about, and what the right answers are."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from router.gate.data_files import TableFiles, open_table
from router.gate.errors import DataRefused
from router.gate.kept_rows import KeptRows
from router.gate.labels import Labels, listed, numbers_in, text_of, texts_of, two_labels
from router.gate.named_metrics import Metric, Needs
from router.gate.statistics.difference import Floats

Hashes = npt.NDArray[np.uint64]
_SHOWN = 40


class Chunk(NamedTuple):
    """Some rows of the hold-out, in its order."""

    features: pd.DataFrame
    """All columns but the target, the group's too: a version takes those of its signature."""
    targets: Floats
    """Shape (n,): numbers, or codes of labels."""
    groups: Hashes | None
    """Shape (n,): 64 bits of each group's name."""


@dataclass(frozen=True, slots=True)
class Holdout:
    """Rows whose targets were looked at, each once, before any version is asked."""

    rows: int
    columns: tuple[str, ...]
    """Of the features, in the data's order."""
    metric: Metric
    labels: Labels | None
    """None where targets are numbers."""
    cut_off: float | None
    _table: TableFiles
    _target: str
    _group: str | None
    _text: frozenset[str]

    def chunks(self) -> Iterator[Chunk]:
        """All rows, once more, and at most 10 000 at once. Raises DataRefused."""
        targets = _Targets(self._target, self.metric, self.labels)
        for table in self._table.chunks(text=self._text):
            groups = None if self._group is None else _hashes(table[self._group])
            yield Chunk(table[list(self.columns)], targets.coded(table[self._target]), groups)

    def kept_rows(self) -> KeptRows:
        """Where to keep what versions answer to the chunks."""
        return KeptRows(self.metric, self.labels, self.cut_off)

    def digest(self) -> str:
        """SHA-256 of the data in hex, of one file as `sha256sum` prints it. Call it after the last chunk.

        Raises DataRefused where the data changed after it was opened.
        """
        return self._table.digest()

    def require(self, columns: Collection[str], who: str) -> None:
        """Raises DataRefused unless all `columns`, which `who` requires, are there."""
        missing = [name for name in columns if name not in self.columns]
        if missing:
            raise DataRefused(f"{who} requires the columns {listed(missing)}, which the data does not have")


def open_holdout(
    path: Path,
    metric: Metric,
    target: str,
    *,
    group: str | None = None,
    positive: str | None = None,
    cut_off: float | None = None,
    text_columns: Collection[str] = (),
) -> Holdout:
    """Open the data at `path` and look at each target and group, before versions are loaded.

    `positive`: which of two labels is the positive one; None where they are 0 and 1. `cut_off`: for a metric
    of labels, answers are scores, and those of at least it are the positive label. `text_columns`: features
    that are texts in a CSV even where they look like numbers, by the versions' signatures.

    Raises DataRefused: no such file, none of the formats, columns missing or too many, no rows, rows without
    target or group, targets of the wrong kind, one label only, one group only.
    """
    if cut_off is not None and not math.isfinite(cut_off):
        raise DataRefused("a cut-off is a finite number")
    if cut_off is not None and metric.needs is not Needs.LABELS:
        raise DataRefused(f"{metric.name} takes {metric.needs}, of which no cut-off makes labels")
    table = open_table(path)
    for name, what in ((target, "target"), (group, "group")):
        if name is not None and name not in table.columns:
            close = get_close_matches(name, table.columns, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {listed(table.columns)}"
            raise DataRefused(f"the data has no column {name}, which is to be the {what}: {hint}")
    if target == group:
        raise DataRefused(f"the column {target} can not be both target and group")
    text = frozenset(
        (
            *text_columns,
            *((target,) if metric.needs is not Needs.NUMBERS else ()),
            *((group,) if group else ()),
        )
    )
    seen = _Targets(target, metric, None)
    some_groups: set[int] = set()
    for chunk in table.chunks([target] if group is None else [target, group], text):
        seen.look_at(chunk[target])
        if group is not None:
            _check_groups(chunk[group], group, seen.rows - len(chunk))
            if len(some_groups) < 2:
                some_groups.update(_hashes(chunk[group])[:].tolist())
    if not seen.rows:
        raise DataRefused(f"{path} has no rows")
    if group is not None and len(some_groups) < 2:
        raise DataRefused(f"all rows have the same {group}: an interval over groups needs two at least")
    columns = tuple(name for name in table.columns if name != target)
    labels = seen.labels(positive, cut=cut_off is not None)
    return Holdout(seen.rows, columns, metric, labels, cut_off, table, target, group, text)


class _Targets:
    """The target's column: looked at once, then coded."""

    def __init__(self, name: str, metric: Metric, labels: Labels | None) -> None:
        self._name = name
        self._metric = metric
        self._labels = labels
        self._texts: set[str] = set()
        self.rows = 0

    def look_at(self, column: "pd.Series[Any]") -> None:
        """Raises DataRefused for the first row without a target, or with one that is not of the kind."""
        if (missing := column.isna().to_numpy()).any():
            more = int(missing.sum()) - 1
            others = f", and {more} more soon after" if more else ""
            raise DataRefused(f"row {self._row(missing)} has no target {self._name}{others}")
        if self._metric.needs is Needs.NUMBERS:
            if (odd := ~np.isfinite(numbers_in(column))).any():
                self._refuse(column, odd, "no finite number, which this metric needs")
        else:
            texts, places = texts_of(column)
            if None in texts:
                self._refuse(
                    column, places == texts.index(None), "no label: a whole number, a truth or a text"
                )
            self._texts.update(text for text in texts if text is not None)
            Labels(self._texts)  # so that there are not too many of them
        self.rows += len(column)

    def labels(self, positive: str | None, *, cut: bool) -> Labels | None:
        """What the labels that were seen are; None of numbers. Raises DataRefused."""
        if self._metric.needs is Needs.NUMBERS:
            return None
        if positive is not None:
            positive = text_of(positive)
        if self._metric.two_labels or cut:
            return two_labels(self._texts, positive, self._metric.name)
        return Labels(self._texts, positive)

    def coded(self, column: "pd.Series[Any]") -> Floats:
        """Targets as numbers, which `look_at` found nothing against."""
        if self._labels is None:
            return numbers_in(column)
        texts, places = texts_of(column)
        codes = [self._labels.code_of(text) if text in self._labels.known else None for text in texts if text]
        if None in codes or len(codes) < len(texts):
            raise DataRefused("the data changed while it was read")
        found: Floats = np.asarray(codes, dtype=np.float64)[places]
        return found

    def _refuse(self, column: "pd.Series[Any]", odd: npt.NDArray[np.bool_], what: str) -> None:
        value = str(column.iloc[int(odd.argmax())])[:_SHOWN]
        raise DataRefused(f"row {self._row(odd)} has the target {value!r}, which is {what}")

    def _row(self, odd: npt.NDArray[np.bool_]) -> int:
        """Number of the first of them in the data, from 1 on."""
        return self.rows + int(odd.argmax()) + 1


def _check_groups(column: "pd.Series[Any]", name: str, before: int) -> None:
    if (missing := column.isna().to_numpy()).any():
        raise DataRefused(f"row {before + int(missing.argmax()) + 1} has no group {name}")


def _hashes(column: "pd.Series[Any]") -> Hashes:
    """64 bits of each row's group, the same for 12, 12.0 and "12".

    Names may be long and as many as rows; two of 2 million groups share their bits once in ten million.
    """
    places, different = pd.factorize(column)
    names: Sequence[str] = [text_of(one) or str(one) for one in different]
    hashes: Hashes = pd.util.hash_array(np.asarray(names, dtype=object), categorize=False)
    return hashes[places]
