"""Real versions, saved once per run of the tests, and the requests that go with them."""

import json
from pathlib import Path
from typing import Any

import pytest

from router.core.ids import VersionId
from router.core.scores import OutputSpec
from router.protocol.messages import LoadSpec, Query, ScoringProtocol
from tests.support.built_once import built_once


def saved_versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the saved versions, one subdirectory each."""
    return built_once(Path(__file__).with_name("build_versions.py"), tmp_path_factory)


def spec_of(root: Path, name: str, scores: tuple[OutputSpec, ...] | None = None) -> LoadSpec:
    """What a worker needs to load the version saved as `name`."""
    return LoadSpec(VersionId(name, 1), str(root / name), scores)


def text_query(*texts: str) -> Query:
    """A request to the versions that take a column `text`."""
    return json_query({"dataframe_split": {"columns": ["text"], "data": [[text] for text in texts]}})


def command_query(*commands: str) -> Query:
    """A request to the version `commands`, which does what it is asked."""
    return json_query({"dataframe_records": [{"command": command} for command in commands]})


def json_query(body: Any) -> Query:
    """A JSON request without Content-Type."""
    return Query(json.dumps(body).encode(), None)


def inference_query(*inputs: dict[str, Any], **more: Any) -> Query:
    """A request of the Open Inference Protocol with these tensors."""
    body = json.dumps({"inputs": inputs, **more}).encode()
    return Query(body, None, protocol=ScoringProtocol.V2)


def tensor(datatype: str, shape: list[int], data: Any, name: str = "x", **parameters: Any) -> dict[str, Any]:
    """One tensor of a request."""
    reported = {"name": name, "datatype": datatype, "shape": shape, "data": data}
    return {**reported, "parameters": parameters} if parameters else reported


def predictions(body: bytes) -> Any:
    """What a good answer says."""
    return json.loads(body)["predictions"]
