"""The package index that this machine's environment names, or PyPI: whether it is reached is asked once."""

import os
from collections.abc import Mapping

import pytest

from router.core.package_index import index_variables
from router.environments.uv import Uv
from router.errors import IndexUnreachable


@pytest.fixture(scope="session")
def real_index(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Variables by which uv asks it; the test is skipped where it gives no answer."""
    variables = index_variables(os.environ, None, os.getcwd())
    # Where nothing is reached, that is to be known soon.
    asked = {**variables, "UV_HTTP_TIMEOUT": "20", "UV_HTTP_RETRIES": "1"}
    try:
        Uv(tmp_path_factory.mktemp("uv"), asked).run("pip", "compile", "-", input="msgspec\n")
    except IndexUnreachable as error:
        pytest.skip(f"no package index is reached: {error}")
    return variables
