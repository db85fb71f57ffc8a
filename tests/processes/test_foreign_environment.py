"""Children run where this gateway is not installed: its source alone is on their path."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from router.processes.forkserver import ForkServerSupervisor
from router.processes.worker_client import WorkerLoader
from router.protocol.messages import PredictStatus
from tests.processes.conftest import Notes, ask, launch_seconds
from tests.support.saved_versions import spec_of, text_query

HIDE = """
import importlib.metadata as metadata

find = metadata.Distribution.from_name

def found(name):
    if name.replace("_", "-").lower() == "mlflow-canary-router":
        raise metadata.PackageNotFoundError(name)
    return find(name)

metadata.Distribution.from_name = staticmethod(found)
"""


@pytest.fixture
def hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpreters that start from here on find no metadata of our distribution."""
    (tmp_path / "sitecustomize.py").write_text(HIDE)
    others = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), others])))


@pytest.mark.usefixtures("hidden")
def test_our_metadata_is_hidden() -> None:
    """Or the other tests of this file prove nothing."""
    asked = subprocess.run(
        [sys.executable, "-c", "import router; router.__version__"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert "PackageNotFoundError" in asked.stderr


@pytest.mark.usefixtures("hidden")
async def test_a_version_is_served_where_the_gateway_is_not_installed(
    notes: Notes, versions: Path, slack: float
) -> None:
    """The fork server imports all that its children need, the agent's modules too."""
    template = ForkServerSupervisor(notes, launch_seconds=launch_seconds())
    await template.start()
    try:
        loader = WorkerLoader(template)
        worker = await loader.load(spec_of(versions, "plain"), deadline_seconds=60 * slack)
        (answer,) = await ask(worker, text_query("a"), seconds=30 * slack)
        await worker.close()
    finally:
        await template.close()

    assert answer.predict_status is PredictStatus.OK
