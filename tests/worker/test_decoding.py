"""The compiled decoder beside MLflow's own functions: the same data, or handed over to them."""

import os
import warnings
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from router.worker.decoding import CompiledDecoder, compile_decoder
from tests.conftest import Figure
from tests.worker.mlflow_itself import NOTHING, assert_same, version_with
from tests.worker.mlflow_itself import given as given_by_mlflow
from tests.worker.requests_to_decode import PARAMS, SCHEMAS, Generated, requests

DECODED = [name for name in SCHEMAS if name not in ("dated", "unnamed")]
LONG = settings(
    max_examples=int(os.environ.get("EXAMPLES", "1800")),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
QUICK = settings(LONG, max_examples=12)


def decoder_of(name: str, **more: Any) -> tuple[CompiledDecoder, Any]:
    model, version = version_with(SCHEMAS[name], **more)
    decoder, why = compile_decoder(model)
    assert decoder is not None, why
    return decoder, lambda body: given_by_mlflow(model, version, body)


def assert_decoded_as_by_mlflow(decoder: CompiledDecoder, by_mlflow: Any, body: bytes) -> bool:
    """Whether the request took the fast path; it may not where MLflow's data would be others."""
    part = decoder.part(body)
    if part is None:
        return False
    ours = decoder.table([part])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own, on requests that overflow
        data, params = by_mlflow(body)
    assert data is not NOTHING, f"MLflow refuses {body!r}"
    assert_same(ours, data)
    assert repr(decoder.params) == repr(params)
    rows = len(next(iter(ours.values()))) if isinstance(ours, dict) else len(ours)
    assert part.rows == rows
    return True


@pytest.mark.parametrize("name", DECODED)
def test_a_decoded_request_is_the_one_of_mlflow(name: str) -> None:
    """Or it is handed over. Generated requests of every format, plain, at the edges, and broken."""
    decoder, by_mlflow = decoder_of(name)

    @QUICK
    @given(requests(name, plain=True) | requests(name, plain=False))
    def check(request: Generated) -> None:
        assert_decoded_as_by_mlflow(decoder, by_mlflow, request.body)

    check()


@pytest.mark.slow
def test_fifty_thousand_requests_are_decoded_as_by_mlflow(figure: Figure) -> None:
    """And nine of ten plain ones take the fast path, whatever the signature."""
    seen: Counter[str] = Counter()
    for name in DECODED:
        decoder, by_mlflow = decoder_of(name, params=PARAMS if name in ("text", "tensor") else None)
        for plain in (True, False):
            took = Counter[bool]()

            @LONG
            @given(requests(name, plain=plain))
            def check(request: Generated, decoder=decoder, by_mlflow=by_mlflow, took=took) -> None:
                took[assert_decoded_as_by_mlflow(decoder, by_mlflow, request.body)] += 1

            check()
            kind = "plain" if plain else "odd"
            seen[kind] += took.total()
            seen[f"{kind}, fast"] += took[True]
            if plain:
                assert took[True] >= 0.9 * took.total(), name
    figure(f"{seen['plain'] + seen['odd']} requests, 0 differences; {dict(seen)}")
    assert seen["plain"] + seen["odd"] >= 50_000
