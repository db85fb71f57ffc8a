"""Where a version behind an address is asked: what the configuration says, and of the version its number."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.ids import is_model_name
from router.core.version_address import Engine, VersionAddress, address_of, is_path

BASE = "http://fraud-v{version}.models:8080"


@pytest.mark.parametrize(
    ("engine", "path", "expected"),
    [
        (
            "v2",
            None,
            ("/v2/models/fraud/infer", "/v2/models/fraud/ready", "/v2/models/fraud", "fraud"),
        ),
        (
            "v2",
            "/v2/models/f-{version}/infer",
            ("/v2/models/f-7/infer", "/v2/models/f-7/ready", "/v2/models/f-7", "f-7"),
        ),
        (
            "v2",
            "/team/v2/models/f/versions/{version}/infer",
            (
                "/team/v2/models/f/versions/7/infer",
                "/team/v2/models/f/versions/7/ready",
                "/team/v2/models/f",
                "f",
            ),
        ),
        ("mlflow", None, ("/invocations", "/ping", None, None)),
        ("mlflow", "/fraud/invocations", ("/fraud/invocations", "/ping", None, None)),
        ("mlflow", "/fraud-v{version}", ("/fraud-v7", "/fraud-v7/ping", None, None)),
        ("mlflow", "/fraud-v{version}/", ("/fraud-v7/", "/fraud-v7/ping", None, None)),
        ("mlflow", "/v{version}/invocations", ("/v7/invocations", "/v7/ping", None, None)),
        ("mlflow", "/v{version}/fraud/score", ("/v7/fraud/score", "/v7/fraud/ping", None, None)),
    ],
)
def test_readiness_and_metadata_are_asked_beside_the_requests(
    engine: Engine, path: str | None, expected: tuple[str, str, str | None, str | None]
) -> None:
    base = "http://fraud-v7.models:8080"
    infer, ready, metadata, name = expected

    assert address_of(BASE, engine, path, "fraud", 7) == VersionAddress(
        engine, base + infer, base + ready, base + metadata if metadata else None, name
    )


@given(st.text(min_size=1).filter(is_model_name), st.integers(1, 2**63 - 1))
def test_whatever_a_model_is_called_host_and_port_are_those_of_the_configuration(
    model: str, number: int
) -> None:
    found = address_of(BASE, "v2", None, model, number)

    for url in (found.infer, found.ready, found.metadata or ""):
        parts = urlsplit(url)
        assert (parts.netloc, parts.query, parts.fragment) == (f"fraud-v{number}.models:8080", "", "")
        assert parts.path.startswith("/v2/models/")
        assert parts.path.count("/") == (3 if url == found.metadata else 4)


@pytest.mark.parametrize(
    ("engine", "path", "usable"),
    [
        ("v2", "/v2/models/f/infer", True),
        ("v2", "/v2/models/f/versions/3/infer", True),
        ("v2", "/v2/models/f/predict", False),
        ("v2", "/infer", False),
        ("v2", "/v2/models//infer", False),
        ("mlflow", "/anything", True),
    ],
)
def test_a_path_is_usable_where_readiness_can_be_asked_beside_it(
    engine: Engine, path: str, usable: bool
) -> None:
    assert is_path(engine, path) is usable
