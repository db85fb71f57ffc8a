"""What gateways sign proves who wrote it, in answer to what; and nothing less than all of it does."""

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.signature import (
    NONCE_BYTES,
    SIGNATURE_BYTES,
    exchange_key,
    signed_answer,
    signed_request,
    verified_answer,
    verified_request,
)

KEY = exchange_key(b"a-token-of-some-length")
NONCE, OTHER_NONCE = b"n" * NONCE_BYTES, b"m" * NONCE_BYTES

bodies = st.binary(max_size=200)
nonces = st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES)


@given(nonces, bodies)
def test_what_is_signed_is_read_by_whoever_has_the_key(nonce: bytes, body: bytes) -> None:
    assert verified_request(KEY, signed_request(KEY, nonce, body)) == (nonce, body)
    assert verified_answer(KEY, nonce, signed_answer(KEY, nonce, body)) == body


@given(bodies, st.data())
def test_one_changed_bit_or_missing_byte_makes_it_unsigned(body: bytes, data: st.DataObject) -> None:
    request, answer = signed_request(KEY, NONCE, body), signed_answer(KEY, NONCE, body)
    bit = data.draw(st.integers(0, 8 * len(request) - 1))
    with pytest.raises(ValueError, match="not signed"):
        verified_request(KEY, _flipped(request, bit))
    bit = data.draw(st.integers(0, 8 * len(answer) - 1))
    with pytest.raises(ValueError, match="not signed"):
        verified_answer(KEY, NONCE, _flipped(answer, bit))
    with pytest.raises(ValueError, match="not signed"):
        verified_request(KEY, request[: data.draw(st.integers(0, len(request) - 1))])
    with pytest.raises(ValueError, match="not signed"):
        verified_answer(KEY, NONCE, answer[: data.draw(st.integers(0, len(answer) - 1))])


def test_another_token_is_another_key() -> None:
    other = exchange_key(b"a-token-of-some-lengtH")

    with pytest.raises(ValueError, match="not signed by this fleet's admin token"):
        verified_request(other, signed_request(KEY, NONCE, b"body"))
    with pytest.raises(ValueError, match="not signed by this fleet's admin token"):
        verified_answer(other, NONCE, signed_answer(KEY, NONCE, b"body"))


def test_an_answer_to_another_request_is_none_to_this_one() -> None:
    with pytest.raises(ValueError, match="not signed"):
        verified_answer(KEY, OTHER_NONCE, signed_answer(KEY, NONCE, b"body"))


@given(bodies)
def test_a_request_that_is_sent_back_is_no_answer(body: bytes) -> None:
    """Nor any part of it: whoever is in between has no key, and can only repeat what it heard."""
    request = signed_request(KEY, NONCE, body)
    for sent_back in (request, request[NONCE_BYTES:], request[NONCE_BYTES + SIGNATURE_BYTES :]):
        with pytest.raises(ValueError, match="not signed"):
            verified_answer(KEY, NONCE, sent_back)


def test_the_key_is_neither_the_token_nor_what_is_signed_with_it() -> None:
    """A key of another purpose that is derived from the same token must not open this one."""
    token = b"a-token-of-some-length"

    assert hmac.digest(token, b"mlflow-canary-router: exchange between gateways", "sha256") == KEY
    assert token not in signed_request(KEY, NONCE, b"body") + KEY
    with pytest.raises(ValueError, match="a nonce has 16 bytes"):
        signed_request(KEY, b"short", b"body")


def _flipped(raw: bytes, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
