"""Whether requests that share a predict are answered as by predicts of their own: what "equal" means here.

Exactly, for texts, whole numbers, booleans and everything else that is not a float. Floats are rounded in
another order in tables of another size: two are equal when they differ by no more than one of these:

| type | relatively | absolutely |
|---|---|---|
| float64 | `batching_rtol` | 64 roundings, 1.4e-14 |
| float32 | `batching_rtol`, and at least 64 roundings, 7.6e-6 | 64 roundings, 7.6e-6 |
| float16 | `batching_rtol`, and at least 2 roundings, 2.0e-3 | as float32 |

A rounding is the distance from 1 to the next number of the type. A 64-bit float counts as a float32 where it
holds one that is not a whole number: many versions convert what a network computed. `batching_rtol: 0`
demands the same bits of every type.
"""

from typing import Any

import numpy as np
import pandas as pd

_DOUBLE, _SINGLE, _HALF = (float(np.finfo(kind).eps) for kind in (np.float64, np.float32, np.float16))
ROUNDINGS = 64
"""Measured in float32 networks: answers up to 1 differ by up to 3 absolutely, logits up to 34 by up to 80,
which the relative bound allows. Versions that depend on other rows differ by thousands."""
_RELATIVE = {np.dtype(np.float32): ROUNDINGS * _SINGLE, np.dtype(np.float16): 2 * _HALF}
"""At least, by the type of the real numbers; none for the others."""
_ABSOLUTE = {np.dtype(np.float32): ROUNDINGS * _SINGLE, np.dtype(np.float16): ROUNDINGS * _SINGLE}
_OF_DOUBLES = ROUNDINGS * _DOUBLE


def equal(one: Any, other: Any, rtol: float) -> bool:
    """Whether two predictions are the same: types, shapes and all that is no float exactly, floats as above.

    `rtol`: `batching_rtol`. May raise what comparing the version's own objects raises.
    """
    if type(one) is not type(other):
        return False
    if one is other:  # pandas' NA equals nothing, and says so by an error
        return True
    if isinstance(one, pd.DataFrame):
        return list(one.columns) == list(other.columns) and all(
            equal(one.iloc[:, i], other.iloc[:, i], rtol) for i in range(one.shape[1])
        )
    if isinstance(one, pd.Series):
        return one.dtype == other.dtype and equal(one.to_numpy(), other.to_numpy(), rtol)
    if isinstance(one, np.ndarray):
        if one.dtype != other.dtype or one.shape != other.shape:
            return False
        if one.dtype.kind in "fc":
            return _floats_equal(one, other, rtol)
        if one.dtype.kind != "O":
            return bool(np.array_equal(one, other))
        return equal(one.tolist(), other.tolist(), rtol)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(
            equal(mine, theirs, rtol) for mine, theirs in zip(one, other, strict=True)
        )
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(value, other[key], rtol) for key, value in one.items())
    if isinstance(one, (float, np.floating)):
        return _floats_equal(np.asarray(one), np.asarray(other), rtol)
    return bool(one == other)


def _floats_equal(one: Any, other: Any, rtol: float) -> bool:
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    if rtol == 0 or same.all():
        return bool(same.all())
    one, other = one[~same], other[~same]
    kind = one.real.dtype
    with np.errstate(invalid="ignore", over="ignore"):  # infinities, and what float32 can not hold
        relative: Any = max(rtol, _RELATIVE.get(kind, 0.0))
        absolute: Any = _ABSOLUTE.get(kind, _OF_DOUBLES)
        if kind == np.float64:
            singles = _holds_singles(one) & _holds_singles(other) & ~(_are_whole(one) & _are_whole(other))
            single = np.dtype(np.float32)
            relative = np.where(singles, max(rtol, _RELATIVE[single]), relative)
            absolute = np.where(singles, _ABSOLUTE[single], absolute)
        wide = np.complex128 if one.dtype.kind == "c" else np.float64
        gap = np.abs(one.astype(wide) - other.astype(wide))
        size = np.maximum(np.abs(one), np.abs(other)).astype(np.float64)
        close = gap <= np.maximum(relative * size, absolute)
        return bool(np.all(close & np.isfinite(gap)))  # an infinity is close to nothing


def _holds_singles(numbers: Any) -> Any:
    return numbers.astype(np.complex64 if numbers.dtype.kind == "c" else np.float32) == numbers


def _are_whole(numbers: Any) -> Any:
    return np.rint(numbers) == numbers
