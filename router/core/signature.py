"""Signatures by which gateways of one fleet recognise each other's messages: HMAC with SHA-256. Pure.

The key is derived from the admin token, so that who has the token can sign, and who hears what is signed
learns neither token nor key. A request carries a nonce, and its answer is signed together with that nonce: an
answer to another request, recorded and sent again, is none to this one. What is signed as a request is no
answer, so that a message sent back to whoever wrote it proves nothing either.
"""

import hmac

NONCE_BYTES = 16
SIGNATURE_BYTES = 32
_LABEL = b"mlflow-canary-router: exchange between gateways"
_REQUEST, _ANSWER = b"q", b"a"


def exchange_key(token: bytes) -> bytes:
    """The key of whoever has the admin token."""
    return hmac.digest(token, _LABEL, "sha256")


def signed_request(key: bytes, nonce: bytes, body: bytes) -> bytes:
    """What is sent of `body`; `nonce` is 16 bytes that nobody can guess, new for each request."""
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"a nonce has {NONCE_BYTES} bytes")
    return nonce + _signature(key, _REQUEST, nonce, body) + body


def verified_request(key: bytes, sent: bytes) -> tuple[bytes, bytes]:
    """Nonce and body of what `signed_request` gave. Raises ValueError where the signature is not by `key`."""
    nonce, body = sent[:NONCE_BYTES], sent[NONCE_BYTES + SIGNATURE_BYTES :]
    _check(key, _REQUEST, nonce, sent[NONCE_BYTES : NONCE_BYTES + SIGNATURE_BYTES], body)
    return nonce, body


def signed_answer(key: bytes, nonce: bytes, body: bytes) -> bytes:
    """What is sent of `body`, in answer to the request with this `nonce`."""
    return _signature(key, _ANSWER, nonce, body) + body


def verified_answer(key: bytes, nonce: bytes, sent: bytes) -> bytes:
    """The body of what `signed_answer` gave. Raises ValueError where the signature is not by `key`, or is
    that of another request's answer."""
    body = sent[SIGNATURE_BYTES:]
    _check(key, _ANSWER, nonce, sent[:SIGNATURE_BYTES], body)
    return body


def _signature(key: bytes, kind: bytes, nonce: bytes, body: bytes) -> bytes:
    # Kind and nonce have fixed lengths, so that no other three give the same bytes.
    return hmac.digest(key, kind + nonce + body, "sha256")


def _check(key: bytes, kind: bytes, nonce: bytes, signature: bytes, body: bytes) -> None:
    if not hmac.compare_digest(signature, _signature(key, kind, nonce, body)):
        raise ValueError("it is not signed by this fleet's admin token")
