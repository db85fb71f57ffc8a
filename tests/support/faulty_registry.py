"""A registry whose versions do damage, and answers to compare them by."""

from pathlib import Path

import pytest

from tests.support.registry import built_registry_of

CANARY_KEY, PRODUCTION_KEY = "user-2", "user-1"
"""Buckets 418 and 62121 under the salt `sentiment`."""


def body_of(text: str, rows: int = 1) -> bytes:
    """A request of `rows` rows whose first text is `text`."""
    data = ",".join(f'["{text}"]' for _ in range(rows))
    return f'{{"dataframe_split": {{"columns": ["text"], "data": [{data}]}}}}'.encode()


@pytest.fixture(scope="session")
def built_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the place of the end-to-end tests' own, for a module that imports it."""
    return built_registry_of(Path(__file__).with_name("build_faults.py"), tmp_path_factory)
