"""Fixtures that every room shares."""

import os

import pytest


@pytest.fixture(scope="session")
def slack() -> float:
    """Factor by which bounds in seconds are widened on a slow machine."""
    return float(os.environ.get("CI_SLACK", "1"))
