"""Each version in the Python environment that it was logged with, by real gateways and the package index.

All tests share two environments that a gateway built: that takes seconds, and is why they are in one file.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import Figure
from tests.e2e.conftest import POLL_SECONDS
from tests.support.document_blocks import ROOT, blocks
from tests.support.document_session import Session
from tests.support.foreign_versions import (
    MODEL,
    NEW,
    OLD,
    UV_CACHE,
    ForeignVersions,
    foreign_versions,
    register,
    version_with,
)
from tests.support.gateway import GatewayProcess, gateways
from tests.support.load import Load
from tests.support.package_index import PackageIndex, package_index
from tests.support.registry import Registry, copied
from tests.support.waiting import wait_until

PAGE = ROOT / "docs" / "environments.md"
MODELS = "  fraud: {split: {production: 50, canary: 50}, environment: own}\n"
PASSWORD, OTHER_PASSWORD = "s3cret-of-the-index", "s3cret-of-another-index"
BUILD_SECONDS = 300.0
"""Two environments, each of some hundred megabytes."""
NO_LIBRARY = 'raise ModuleNotFoundError("the gateway has no scikit-learn", name="sklearn")\n'


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> ForeignVersions:
    return foreign_versions(tmp_path_factory)


@pytest.fixture(scope="module")
def shared_registry(foreign: ForeignVersions, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return copied(foreign.directory, tmp_path_factory.mktemp("own-environment"))


@pytest.fixture(scope="module")
def start_shared(shared_registry: Registry) -> Iterator[Callable[..., GatewayProcess]]:
    with gateways(shared_registry.directory, shared_registry.uri, POLL_SECONDS) as start:
        yield start


@pytest.fixture(scope="module")
def index() -> Iterator[PackageIndex]:
    """Asked before the real one, by a password, and has nothing."""
    with package_index() as index:
        index.credentials = ("reader", PASSWORD)
        yield index


@pytest.fixture(scope="module")
def gateway(
    start_shared: Callable[..., GatewayProcess],
    shared_registry: Registry,
    foreign: ForeignVersions,
    index: PackageIndex,
    slack: float,
) -> GatewayProcess:
    """One whose own environment has no scikit-learn at all."""
    package = shared_registry.directory / "without" / "sklearn"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(NO_LIBRARY)
    gateway = start_shared(
        MODELS,
        wait=False,
        cache=foreign.cache,
        PYTHONPATH=str(package.parent),
        UV_INDEX=index.uri_with_credentials,
        UV_INDEX_PASSWORD=OTHER_PASSWORD,
    )
    gateway.wait_ready(BUILD_SECONDS * slack)
    gateway.wait_bound(NEW, "canary", BUILD_SECONDS * slack, MODEL)
    return gateway


@pytest.fixture
def registry(foreign: ForeignVersions, tmp_path: Path) -> Registry:
    return copied(foreign.directory, tmp_path)


def answers(gateway: GatewayProcess, foreign: ForeignVersions) -> dict[int, Any]:
    """What each version that is bound answers, by its number."""
    body, found = foreign.offline(OLD).body, {}
    for number in range(20):
        headers = {"X-Request-Key": f"user-{number}"}
        answer = gateway.session.post(f"{gateway.url}/models/{MODEL}/invocations", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        found[int(answer.headers["X-Model-Version"])] = answer.json()["predictions"]
    return found


def offline(foreign: ForeignVersions, *numbers: int) -> dict[int, Any]:
    """What they answered in a process of their own."""
    return {number: foreign.offline(number).answers for number in numbers}


def version(gateway: GatewayProcess, number: int) -> dict[str, Any]:
    """What the state says of it; empty where it says nothing."""
    reported: dict[str, Any] = gateway.model(MODEL)["versions"].get(str(number), {})
    return reported


def refused(gateway: GatewayProcess, number: int, seconds: float) -> str:
    """Why the version's environment can not be had, once the gateway says so."""

    def error() -> str:
        about = version(gateway, number)
        return about["error"] if about.get("phase") == "environment" and about["error"] else ""

    wait_until(lambda: error() != "", seconds, gateway.story)
    return error()


@contextmanager
def watched(gateway: GatewayProcess) -> Iterator[set[str]]:
    """Every argument that the gateway's processes were seen to be started with while the block ran."""
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            for process in gateway.descendants():
                with suppress(psutil.Error):
                    seen.update(process.cmdline())

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def test_each_version_answers_as_in_a_process_of_its_own(
    gateway: GatewayProcess, foreign: ForeignVersions, index: PackageIndex, figure: Figure
) -> None:
    """Row 99. Pickled by scikit-learn 1.5.2 and by the newest, with two pandas and two numpy; the gateway has
    no scikit-learn."""
    assert answers(gateway, foreign) == offline(foreign, OLD, NEW)
    assert {one["library"] for one in foreign.offline(OLD).answers} == {"1.5.2"}

    old, new = (version(gateway, number)["environment"] for number in (OLD, NEW))
    assert old["pins"] != new["pins"]
    assert any(line.startswith("scikit-learn 1.5.2, the gateway has ") for line in old["differs"])
    built = gateway.lines("environment built")
    assert {line["version"] for line in built} <= {OLD, NEW}
    for line in built:
        figure(f"v{line['version']}: {line['size_mib']} MiB, {line['seconds']}")
    assert index.authorizations, "the operator's index was asked"


def test_an_alias_moves_from_one_environment_to_another_and_no_request_fails(
    gateway: GatewayProcess, shared_registry: Registry, foreign: ForeignVersions, slack: float, figure: Figure
) -> None:
    """Row 100. The older one is loaded anew each time, by a template that starts for it."""
    expected = {number: one[:1] for number, one in offline(foreign, OLD, NEW).items()}
    asked = foreign.offline(OLD).asked
    row = {"dataframe_split": {"columns": asked["columns"], "data": asked["data"][:1]}}
    body = json.dumps(row).encode()
    with Load(gateway.url, rate=100, body=body) as load:
        for number in (NEW, OLD, NEW, OLD):
            shared_registry.move("production", number, MODEL)
            gateway.wait_bound(number, "production", 60 * slack, MODEL)
            gone = {OLD, NEW} - {NEW, number}
            wait_until(lambda g=gone: not g & set(map(int, gateway.model(MODEL)["versions"])), 60 * slack)
    figure(load.summary())

    assert load.failed == []
    assert [one for one in load.seen if json.loads(one.body)["predictions"] != expected[one.version]] == []


def test_what_is_no_plain_requirement_is_refused_by_line_and_nobody_is_asked(
    gateway: GatewayProcess, shared_registry: Registry, foreign: ForeignVersions, tmp_path: Path, slack: float
) -> None:
    """Row 101. Production serves on; no connection is made, and no password is anywhere."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        hostile = {
            f"cloudpickle\n--index-url http://{host}/simple\n": "requirements.txt line 2",
            f"cloudpickle @ http://{host}/cloudpickle-9-py3-none-any.whl\n": "requirements.txt line 1",
            f"#\n--extra-index-url http://${{UV_INDEX_PASSWORD}}@{host}/simple\n": "requirements.txt line 2",
            "numpy\npandas\n-e .\n": "requirements.txt line 3",
            "-r ../../other/requirements.txt\n": "requirements.txt line 1",
            "# \n" * 3_500_000: "requirements.txt has ",
        }
        errors = []
        with watched(gateway) as arguments:
            for turn, (text, where) in enumerate(hostile.items()):
                number = version_with(shared_registry, foreign, tmp_path / str(turn), text)
                shared_registry.move("canary", number, MODEL)
                errors.append(refused(gateway, number, 30 * slack))
                assert where in errors[-1]
                assert any(where in str(line) for line in gateway.lines("version not loaded")), (
                    gateway.story()
                )
                assert gateway.bound(name=MODEL) == OLD
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()

    assert answers(gateway, foreign)[OLD] == offline(foreign, OLD)[OLD]
    no_password_is_shown(gateway, foreign, arguments)
    [shown] = (block.text for block in blocks(PAGE, "text"))
    assert [without_number(line) for line in shown.splitlines()] == list(map(without_number, errors[:3]))


def without_number(error: str) -> str:
    return re.sub(r"fraud v\d+:", "fraud v…:", error)


def no_password_is_shown(gateway: GatewayProcess, foreign: ForeignVersions, arguments: set[str]) -> None:
    """In no output, argument or file, and in the environment of no worker."""
    outputs = {path: gateway.get(path).text for path in ("/v1/state", "/metrics")}
    outputs["log"] = gateway.log.read_text()
    outputs["arguments"] = "\n".join(arguments)
    for path in (*foreign.cache.glob(f"{MODEL}/*.json"), *foreign.cache.glob(".environments/*/*.json")):
        outputs[str(path)] = path.read_text()
    for pid in gateway.worker_pids(OLD, MODEL):
        outputs[f"environment of {pid}"] = Path(f"/proc/{pid}/environ").read_text(errors="replace")
    assert len(outputs) > 8
    assert [where for where, text in outputs.items() if PASSWORD in text or OTHER_PASSWORD in text] == []


def test_what_can_not_be_resolved_is_named_and_production_serves_on(
    gateway: GatewayProcess, shared_registry: Registry, foreign: ForeignVersions, tmp_path: Path, slack: float
) -> None:
    """Row 102. A package that no index has, and two requirements that exclude each other."""
    impossible = {
        "no-such-package-anywhere==1.0\n": "no-such-package-anywhere",
        "pandas==2.2.3\nnumpy<1.20\n": "numpy",
    }
    with watched(gateway) as arguments:
        for turn, (text, named) in enumerate(impossible.items()):
            number = version_with(shared_registry, foreign, tmp_path / str(turn), text)
            shared_registry.move("canary", number, MODEL)
            assert named in refused(gateway, number, 60 * slack)
    assert any("compile" in argument for argument in arguments), "uv was seen at work"

    assert answers(gateway, foreign)[OLD] == offline(foreign, OLD)[OLD]
    no_password_is_shown(gateway, foreign, arguments)


def test_a_gateway_starts_without_its_index_and_a_build_that_hangs_or_is_killed_leaves_nothing(
    gateway: GatewayProcess,
    start: Callable[..., GatewayProcess],
    registry: Registry,
    foreign: ForeignVersions,
    tmp_path: Path,
    slack: float,
) -> None:
    """Row 103. What served is in the cache of `gateway`; a version that needs the index waits for it."""
    with package_index() as silent:
        silent.hanging = True
        limits = f"environments: {{index: '{silent.uri}', build_timeout_seconds: {2 * slack:.0f}}}\n"
        other = start(MODELS + limits, cache=foreign.cache)
        other.wait_bound(NEW, "canary", 60 * slack, MODEL)
        assert answers(other, foreign) == offline(foreign, OLD, NEW)
        assert silent.connections == 0

        number = version_with(registry, foreign, tmp_path / "new", "cloudpickle\n")
        registry.move("canary", number, MODEL)
        builder = wait_for_uv(other, slack)
        builder.kill()  # or its time was over before
        late = "was not ready within"
        wait_until(lambda: late in refused(other, number, 60 * slack), 60 * slack, other.story)

    assert list((foreign.cache / ".environments").glob(".part-*")) == []
    assert answers(other, foreign)[OLD] == offline(foreign, OLD)[OLD]


@pytest.mark.slow  # five commands, each of which starts a gateway's processes
def test_what_the_page_shows_is_what_happens(
    gateway: GatewayProcess, registry: Registry, foreign: ForeignVersions, slack: float
) -> None:
    """docs/environments.md, from its top, with the environments that `gateway` has built."""
    cache = {"CANARY_ROUTER_REGISTRY__CACHE_DIR": str(foreign.cache)}
    with Session(registry.directory, slack, cache) as session:
        for block in blocks(PAGE):
            if not block.text.startswith("$ DEMO_SECONDS"):
                session.play(block)


@pytest.mark.slow  # an environment is built anew
def test_a_version_that_writes_into_its_libraries_changes_no_other_and_is_named(
    gateway: GatewayProcess,
    start: Callable[..., GatewayProcess],
    registry: Registry,
    foreign: ForeignVersions,
    slack: float,
) -> None:
    """Row 105. It has the environment of the newer version, which is built anew before that is loaded."""
    writer = register(registry, foreign.writer())
    registry.move("canary", writer, MODEL)
    other = start(MODELS, cache=foreign.cache)
    other.wait_bound(writer, "canary", 60 * slack, MODEL)
    assert answers(other, foreign)[OLD] == offline(foreign, OLD)[OLD]

    registry.move("canary", NEW, MODEL)
    other.wait_bound(NEW, "canary", BUILD_SECONDS * slack, MODEL)
    assert answers(other, foreign) == offline(foreign, OLD, NEW)
    [line] = other.lines("an environment had changed, and was put right")
    assert "sklearn/__init__.py" in line["why"]
    assert f"{MODEL} v{writer}" in line["why"]


NOTHING_BUT_THE_CACHE = """
mount --make-rprivate / && mount --bind "$CACHE" "$CACHE" && mount -o remount,bind,ro / &&
exec unshare --user --map-user=1000680000 --map-group=0 "$@"
"""


@pytest.mark.slow  # two environments are built anew
def test_where_nothing_but_the_cache_can_be_written_to_environments_are_built_and_served(
    start: Callable[..., GatewayProcess],
    foreign: ForeignVersions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    slack: float,
) -> None:
    """Row 104. No home directory, and a user id that nobody has an entry for."""
    if os.getuid() != 0 or not shutil.which("unshare"):
        pytest.skip("a read-only root takes root, and another user id takes unshare")
    cache = tmp_path / "only this"
    packages = cache / UV_CACHE
    packages.parent.mkdir(parents=True, mode=0o700)
    cache.chmod(0o700)
    subprocess.run(["cp", "-al", str(foreign.cache / UV_CACHE), str(packages)], check=True)
    monkeypatch.delenv("HOME")
    inside = ("unshare", "--mount", "sh", "-c", NOTHING_BUT_THE_CACHE, "sh", sys.executable)
    gateway = start(MODELS, wait=False, cache=cache, command=inside, CACHE=str(cache))
    gateway.wait_ready(2 * BUILD_SECONDS * slack)
    gateway.wait_bound(NEW, "canary", 2 * BUILD_SECONDS * slack, MODEL)

    assert answers(gateway, foreign) == offline(foreign, OLD, NEW)


@pytest.mark.slow  # two environments are built, the first with all downloads
def test_what_environments_cost(
    start: Callable[..., GatewayProcess],
    registry: Registry,
    foreign: ForeignVersions,
    tmp_path: Path,
    slack: float,
    figure: Figure,
) -> None:
    """Built with and without downloads; a version with equal pins; READY with and without a template that
    runs, and in the gateway's own environment; memory of a template."""
    required = (foreign.files(NEW) / "requirements.txt").read_text()
    equal = version_with(registry, foreign, tmp_path / "equal", required)
    other = version_with(registry, foreign, tmp_path / "other", f"{required}\ntabulate\n")
    registry.client.delete_registered_model_alias(MODEL, "canary")
    registry.move("production", NEW, MODEL)
    gateway = start(MODELS, wait=False, cache=tmp_path / "empty")
    gateway.wait_ready(BUILD_SECONDS * slack)
    ready = {}
    for name, number in (("other", other), ("equal", equal), ("again", other)):
        registry.move("canary", number, MODEL)
        gateway.wait_bound(number, "canary", BUILD_SECONDS * slack, MODEL)
        ready[name] = gateway.loads()[-1]["seconds"]
        gone = {NEW, other, equal} - {NEW, number}
        wait_until(lambda g=gone: not g & set(map(int, gateway.model(MODEL)["versions"])), 60 * slack)
    for line, what in zip(gateway.lines("environment built"), ("downloads", "packages cached"), strict=True):
        figure(f"{what}: {line['size_mib']} MiB, seconds {line['seconds']}")
    templates = template_memory(gateway)
    figure(f"templates beside the gateway's own, PSS: {', '.join(f'{size >> 20} MiB' for size in templates)}")

    gateway.stop()
    shared = start("  fraud: {split: {production: 50, canary: 50}}\n", cache=tmp_path / "empty")
    registry.move("canary", equal, MODEL)
    shared.wait_bound(equal, "canary", 60 * slack, MODEL)
    ready["shared"] = shared.loads()[-1]["seconds"]
    for name, seconds in ready.items():
        figure(f"READY, {name}: {seconds}")
    assert ready["equal"]["environment"] < 1.0 * slack
    assert sum(ready["again"].values()) < 4.0 * slack


def template_memory(gateway: GatewayProcess) -> list[int]:
    """Proportional bytes of each environment's template; pages that its workers share count in part."""
    sizes = []
    for process in gateway.descendants():
        with suppress(psutil.Error):
            if re.fullmatch(r"router-[0-9a-f]{8}", process.name()):
                sizes.append(process.memory_full_info().pss)
    return sizes


def wait_for_uv(gateway: GatewayProcess, slack: float) -> psutil.Process:
    """uv at work for this gateway."""
    wait_until(lambda: gateway.descendants_named("uv"), 30 * slack, gateway.story)
    return gateway.descendants_named("uv")[0]
