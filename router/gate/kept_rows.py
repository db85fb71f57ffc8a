"""What is kept of each row that both versions answered: target, group and both answers, 32 bytes."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from router.gate.errors import AnswerRefused, Arm, DataRefused
from router.gate.labels import Labels, listed, numbers_in, texts_of
from router.gate.named_metrics import Metric, Needs
from router.gate.statistics.difference import Codes, Floats

_SHOWN = 40
_SCORES_FOR_LABELS = "which is no label: --cut-off makes labels of scores"


class PairedRows(NamedTuple):
    """All rows, in an order that does not depend on how they came, so that equal data has equal intervals."""

    targets: Floats
    """Shape (n,): numbers, or codes of labels; 1.0 is the positive one of two."""
    candidate: Floats
    """Shape (n,): scores, numbers, or codes of labels."""
    production: Floats
    groups: Codes | None
    """Shape (n,): 0 … G−1; None where rows are independent."""


class KeptRows:
    """Rows are added as both versions answer them, and taken once, all together."""

    def __init__(self, metric: Metric, labels: Labels | None, cut_off: float | None) -> None:
        """`labels` of the hold-out, None of numbers; `cut_off` as `data.open_holdout`."""
        self._metric = metric
        self._labels = labels
        self._cut_off = cut_off
        self._columns: tuple[list[Any], list[Any], list[Any], list[Any]] = ([], [], [], [])
        self._knows = {Arm.CANDIDATE: False, Arm.PRODUCTION: False}
        self.rows = 0

    def add(
        self,
        targets: Floats,
        groups: npt.NDArray[np.uint64] | None,
        candidate_answers: Any,
        production_answers: Any,
    ) -> None:
        """Add the rows of one chunk, with one column of both versions' answers, as long as the chunk.

        An answer is a list, an array or a Series of numbers or labels, as JSON or the version gives them.
        Raises AnswerRefused, which says of which version, and of which of the rows that were added.
        """
        kept = (
            targets,
            self._coded(Arm.CANDIDATE, candidate_answers, len(targets)),
            self._coded(Arm.PRODUCTION, production_answers, len(targets)),
            groups,
        )
        for column, values in zip(self._columns, kept, strict=True):
            if values is not None:
                column.append(values)
        self.rows += len(targets)

    def paired(self) -> PairedRows:
        """All rows that were added; they are not kept any longer.

        Raises DataRefused where there are none, and AnswerRefused where a version's labels are none of the
        targets'.
        """
        if not self.rows:
            raise DataRefused("there are no rows to compare")
        for arm, knows in self._knows.items():
            if self._labels is not None and self._metric.needs is Needs.LABELS and not knows:
                raise AnswerRefused(arm, f"answered none of the target's labels {listed(self._labels.known)}")
        targets, candidate, production, groups = map(_taken, self._columns)
        self.rows = 0
        codes = (
            None if groups is None else np.unique(groups, return_inverse=True)[1].astype(np.int64, copy=False)
        )
        keys = (production, candidate, targets) if codes is None else (production, candidate, targets, codes)
        order = np.lexsort(keys)
        return PairedRows(
            targets[order], candidate[order], production[order], None if codes is None else codes[order]
        )

    def _coded(self, arm: Arm, answers: Any, rows: int) -> Floats:
        if len(answers) != rows:
            raise AnswerRefused(arm, f"answered {len(answers)} rows where it was asked about {rows}")
        if getattr(answers, "ndim", 1) != 1:
            raise AnswerRefused(arm, f"answered with {answers.ndim} dimensions where one column is compared")
        if self._metric.needs is Needs.LABELS and self._cut_off is None:
            return self._labelled(arm, answers)
        numbers = numbers_in(answers)
        if (odd := ~np.isfinite(numbers)).any():
            raise AnswerRefused(arm, self._what(answers, odd, "which is no finite number"))
        if self._metric.probabilities and (odd := (numbers < 0.0) | (numbers > 1.0)).any():
            raise AnswerRefused(arm, self._what(answers, odd, "which is no probability"))
        if self._cut_off is not None:
            self._knows[arm] = True
            numbers = (numbers >= self._cut_off).astype(np.float64)
        return numbers

    def _labelled(self, arm: Arm, answers: Any) -> Floats:
        assert self._labels is not None
        texts, places = texts_of(answers)
        if (places < 0).any():
            raise AnswerRefused(arm, self._what(answers, places < 0, "which is no label"))
        codes = []
        for place, text in enumerate(texts):
            if text is None:
                raise AnswerRefused(arm, self._what(answers, places == place, _SCORES_FOR_LABELS))
            code = self._labels.code_of(text)
            if code is None or (self._metric.two_labels and text not in self._labels.known):
                what = f"and the target has the labels {listed(self._labels.known)} only"
                raise AnswerRefused(arm, self._what(answers, places == place, what))
            codes.append(code)
        self._knows[arm] |= any(text in self._labels.known for text in texts)
        found: Floats = np.asarray(codes, dtype=np.float64)[places]
        return found

    def _what(self, answers: Any, odd: npt.NDArray[np.bool_], what: str) -> str:
        first = int(odd.argmax())
        value = answers.iloc[first] if hasattr(answers, "iloc") else answers[first]
        return f"answered {str(value)[:_SHOWN]!r} to row {self.rows + first + 1}, {what}"


def _taken(chunks: list[Any]) -> Any:
    """All chunks of one column in one array; none of them is kept. None where there are none."""
    if not chunks:
        return None
    joined = np.concatenate(chunks)
    chunks.clear()
    return joined
