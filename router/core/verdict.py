"""The three answers to whether a version is as good as production."""

from enum import StrEnum


class Verdict(StrEnum):
    """The three answers. No traffic, few keys or few requests are always the third."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    FAIL = "fail"
    NOT_ENOUGH_DATA = "not_enough_data"
