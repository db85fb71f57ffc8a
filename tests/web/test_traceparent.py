"""The header `traceparent`, as W3C Trace Context has it: https://www.w3.org/TR/trace-context/."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.web.invocations import trace_id_of

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    "sent",
    [GOOD, f"00-{TRACE}-{PARENT}-03", f"cc-{TRACE}-{PARENT}-01", f"cc-{TRACE}-{PARENT}-01-what-will-be"],
    ids=["of today", "with a flag more", "of a later version", "of a later version, with more in it"],
)
def test_the_trace_id_of_a_good_header_is_read(sent: str) -> None:
    assert trace_id_of(sent) == TRACE


MALFORMED = {
    "empty": "",
    "no trace id": f"00-{'0' * 32}-{PARENT}-01",
    "no parent id": f"00-{TRACE}-{'0' * 16}-01",
    "capital letters": GOOD.upper(),
    "a version that never is": f"ff-{TRACE}-{PARENT}-01",
    "more than version 0 has": f"{GOOD}-more",
    "more without a dash": f"cc-{TRACE}-{PARENT}-01more",
    "a line break behind it": f"{GOOD}\n",
    "a blank before it": f" {GOOD}",
    "two in one": f"{GOOD},{GOOD}",
    "short": GOOD[:-1],
    "no digit": f"00-{TRACE[:-1]}g-{PARENT}-01",
    "a digit of another alphabet": f"00-{TRACE[:-1]}٤-{PARENT}-01",
    "a quote": f'00-{TRACE[:-1]}"-{PARENT}-01',
    "without dashes": GOOD.replace("-", " "),
    "very long": f"cc-{TRACE}-{PARENT}-01-{'x' * 1000}",
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_header_names_no_trace(sent: str) -> None:
    assert trace_id_of(sent) == ""


@pytest.mark.parametrize("flags", ["00", "02", "fe"])
def test_a_trace_that_its_caller_does_not_keep_is_not_named(flags: str) -> None:
    assert trace_id_of(f"00-{TRACE}-{PARENT}-{flags}") == ""


@given(st.one_of(st.text(max_size=80), st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.*")))
def test_whatever_is_sent_a_trace_id_is_32_digits_or_nothing(sent: str) -> None:
    """So it needs no escape in an exposition, and no header makes it longer."""
    found = trace_id_of(sent)

    assert found == "" or (len(found) == 32 and set(found) <= set(string.hexdigits.lower()))
    assert found in sent
