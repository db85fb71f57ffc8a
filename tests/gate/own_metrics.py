"""Functions that somebody else wrote, as `--metric tests.gate.own_metrics:name` finds them."""

import numpy as np


def pinball(targets: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """A loss per row: to promise too much costs nine times what too little costs."""
    return np.maximum(0.1 * (targets - numbers), 0.9 * (numbers - targets))


pinball.greater_is_better = False  # type: ignore[attr-defined]


def median_error(targets: np.ndarray, numbers: np.ndarray) -> float:
    """One number of all rows."""
    return float(np.median(np.abs(targets - numbers)))


median_error.greater_is_better = False  # type: ignore[attr-defined]


def top_tenth(targets: np.ndarray, scores: np.ndarray) -> float:
    """Share of positive rows among the tenth that scores highest."""
    first = np.argsort(-scores, kind="stable")[: max(1, len(scores) // 10)]
    return float(targets[first].mean())


top_tenth.greater_is_better = True  # type: ignore[attr-defined]
top_tenth.needs = "scores"  # type: ignore[attr-defined]


def says_nothing(targets: np.ndarray, numbers: np.ndarray) -> float:
    """Whether more is better, nobody knows."""
    return 0.0


def needs_more(targets: np.ndarray, numbers: np.ndarray) -> float:
    """Needs what there is not."""
    return 0.0


needs_more.greater_is_better = True  # type: ignore[attr-defined]
needs_more.needs = "tokens"  # type: ignore[attr-defined]


def of_two_shapes(targets: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Neither a value per row nor one of all."""
    return np.zeros(3)


of_two_shapes.greater_is_better = True  # type: ignore[attr-defined]


def raises(targets: np.ndarray, numbers: np.ndarray) -> float:
    """Not on these rows."""
    raise RuntimeError("there is no table of prices")


raises.greater_is_better = True  # type: ignore[attr-defined]
