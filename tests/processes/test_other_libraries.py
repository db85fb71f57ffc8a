"""Versions that were pickled by other libraries, and under another Python, than the gateway's, served beside
its own. The environments are made by hand: of MLflow, of what the child side imports, and nothing else.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
import uv
from msgspec.structs import replace

from router.core.ids import VersionId
from router.processes.environment_templates import EnvironmentTemplates
from router.processes.forkserver import ForkServerSupervisor
from router.processes.worker_client import WorkerLoader
from router.protocol.messages import LoadSpec, PredictStatus
from tests.conftest import Figure
from tests.processes.conftest import Notes, ask, launch_seconds
from tests.support.built_once import made_once
from tests.support.child_libraries import WORKER_LIBRARIES
from tests.support.linked_environment import environment_of, package_directory
from tests.support.save_elsewhere import frame
from tests.support.saved_versions import json_query, predictions

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
SCRIPT = Path(__file__).parents[1] / "support" / "save_elsewhere.py"
ENVIRONMENTS = {
    "3.11": ("numpy==2.0.*", "pandas==2.2.*", "scikit-learn==1.5.2"),
    "3.12": ("numpy==1.26.*", "pandas==2.2.*", "scikit-learn==1.5.2"),
    "3.13": ("numpy", "pandas", "scikit-learn"),
}
"""By Python, what a version asks for."""
LOADS = 7
TIMES_SHARED = 1.5
START_SECONDS = 4.0
every_environment = pytest.mark.parametrize("minor", ENVIRONMENTS)


def run(*command: object) -> str:
    ended = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout


def interpreter(minor: str) -> Path | None:
    """One of that version, which a shim of that name on the PATH need not be."""
    named = shutil.which(f"python{minor}")
    pyenvs = (
        Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob(f"versions/{minor}.*/bin/python")
    )
    for candidate in ([Path(named)] if named else []) + sorted(pyenvs):
        asked = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        if subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() == minor:
            return candidate
    return None


@pytest.fixture(scope="session")
def python_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The Python of an environment of that minor version, in which a version is saved in `version`."""
    installer = uv.find_uv_bin()

    def made(minor: str) -> Path:
        if (base := interpreter(minor)) is None:
            pytest.skip(f"there is no Python {minor} here")

        def make(directory: Path) -> None:
            python = directory / "venv" / "bin" / "python"
            ours = [f"{name}=={version(name)}" for name in WORKER_LIBRARIES - {"numpy", "pandas", "pyarrow"}]
            run(installer, "venv", "--quiet", "--no-project", "--python", base, directory / "venv")
            install = (installer, "pip", "install", "--quiet", "--compile-bytecode", "--python", python)
            run(*install, *ours, *ENVIRONMENTS[minor])
            run(python, SCRIPT, "save", directory / "version")

        return made_once(f"python-{minor}", make, tmp_path_factory) / "venv" / "bin" / "python"

    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateways() -> AsyncIterator[ForkServerSupervisor]:
    template = ForkServerSupervisor(Notes(), launch_seconds=launch_seconds())
    await template.start()
    yield template
    await template.close()


@pytest_asyncio.fixture(loop_scope="module")
async def templates(gateways: ForkServerSupervisor, tmp_path: Path) -> AsyncIterator[EnvironmentTemplates]:
    package = package_directory(tmp_path / "package")
    templates = EnvironmentTemplates(Notes(), None, None, package, gateways, launch_seconds=launch_seconds())
    yield templates
    await templates.close()


def spec(directory: Path) -> LoadSpec:
    return replace(LoadSpec(VersionId("churn", 1), str(directory), None), own_environment=True)


@every_environment
async def test_a_version_is_served_by_the_libraries_that_pickled_it_and_answers_as_in_a_process_of_its_own(
    minor: str, python_of: Callable[[str], Path], templates: EnvironmentTemplates
) -> None:
    python = python_of(minor)
    directory = python.parents[2] / "version"
    alone = json.loads(run(python, SCRIPT, "predict", directory))
    loader = WorkerLoader(templates.launcher(environment_of(python)))

    worker = await loader.load(spec(directory), deadline_seconds=launch_seconds())
    rows = frame(9).to_dict("split", index=False)
    [answer] = await ask(worker, json_query({"dataframe_split": rows}))
    await worker.close()

    assert answer.predict_status is PredictStatus.OK
    assert predictions(answer.body) == alone
    assert worker.info.mismatches == ()
    used = run(python, "-c", "import sklearn, sys; print(sklearn.__version__, *sys.version_info[:2])")
    ours = f"{version('scikit-learn')} {sys.version_info.major} {sys.version_info.minor}"
    assert used.split() != ours.split(), "it runs with what the gateway has: nothing was proven"


async def test_a_version_in_an_environment_whose_template_runs_is_ready_nearly_as_soon_as_in_the_gateways(
    python_of: Callable[[str], Path],
    templates: EnvironmentTemplates,
    gateways: ForkServerSupervisor,
    tmp_path: Path,
    figure: Figure,
    slack: float,
) -> None:
    """And nearly as soon as those imports are done where its template has to start first."""
    python = python_of("3.12")
    run(sys.executable, SCRIPT, "save", tmp_path / "version")
    seconds: dict[str, list[float]] = {"shared": [], "own": []}
    shared = WorkerLoader(gateways), spec(tmp_path / "version")
    own = WorkerLoader(templates.launcher(environment_of(python))), spec(python.parents[2] / "version")
    await (await shared[0].load(shared[1], deadline_seconds=launch_seconds())).close()
    for _ in range(1 + LOADS):
        for name, (loader, version_to_load) in (("shared", shared), ("own", own)):
            began = time.perf_counter()
            worker = await loader.load(version_to_load, deadline_seconds=launch_seconds())
            seconds[name].append(time.perf_counter() - began)
            await worker.close()
    started, *ready = seconds["own"]
    before = statistics.median(seconds["shared"])
    [template] = [child for child in psutil.Process().children() if child.name() == "router-01234567"]
    rollup = Path(f"/proc/{template.pid}/smaps_rollup").read_text()
    pss = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    figure(
        f"READY {1000 * statistics.median(ready):.0f} ms in an environment whose template runs,"
        f" {1000 * before:.0f} ms in the gateway's; {started:.2f} s where it has to start; its template holds"
        f" {pss / 1024:.0f} MiB (PSS)"
    )

    assert statistics.median(ready) < TIMES_SHARED * before * slack
    assert started < START_SECONDS * slack
