"""What the kernel says about memory, read from real processes and from the files of real cgroups."""

import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import psutil
import pytest

from router.core.memory import MIB, Resident, Room
from router.processes.memory import Memory, resident
from tests.conftest import Figure

GROW = """
import sys
kept = []
for line in sys.stdin:
    kept.append(bytearray(int(line)))
    kept[-1][::4096] = b"x" * len(kept[-1][::4096])
    print("grown", flush=True)
"""


def test_a_process_that_grows_is_seen_to_grow() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", GROW], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def grow(size: int) -> Resident:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{size}\n")
            process.stdout.readline()
            return resident(process.pid)

        before = grow(1)
        after = grow(64 * MIB)
        assert 60 * MIB < after.total - before.total < 70 * MIB
        assert abs(after.total - psutil.Process(process.pid).memory_info().rss) < 4 * MIB
        assert 0 < after.shared < after.total
        process.stdin.close()
        process.wait()
        assert resident(process.pid) == Resident()


def test_reading_a_process_costs_the_loop_nothing_to_speak_of(slack: float, figure: Figure) -> None:
    started = perf_counter()
    for _ in range(200):
        resident(os.getpid())
    seconds = (perf_counter() - started) / 200
    figure(f"{seconds * 1e6:.0f} µs for one reading")
    assert seconds < 0.001 * slack


def cgroup(directory: Path, **files: object) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name.replace("_", ".", 1)).write_text(f"{content}\n")


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """As a machine with cgroups v2 shows them: a service in a slice, no files in the root."""
    root = tmp_path / "cgroup"
    cgroup(root / "system.slice", memory_max="max", memory_current=5 << 30)
    service = root / "system.slice" / "router.service"
    cgroup(service, memory_max=1000 * MIB, memory_current=700 * MIB)
    cgroup(
        service, memory_stat=f"anon 5\ninactive_file {200 * MIB}", memory_events="low 0\noom 0\noom_kill 3"
    )
    (tmp_path / "own").write_text("1:name=systemd:/x\n0::/system.slice/router.service\n")
    return root


def test_what_is_available_is_what_the_tightest_cgroup_leaves(mounted: Path) -> None:
    """Page cache that nobody maps is given up for whoever needs the memory."""
    own = mounted.parent / "own"
    assert Memory(mounted, own).room().available == 500 * MIB
    cgroup(mounted / "system.slice", memory_max=(5 << 30) + 100 * MIB)
    assert Memory(mounted, own).room().available == 100 * MIB
    cgroup(mounted / "system.slice", memory_max=4 << 30)
    assert Memory(mounted, own).room().available == 0
    assert Memory(mounted, own).room().limit == "memory.max of 4096 MiB"


def test_memory_high_counts_as_a_limit_for_the_kernel_slows_down_whoever_is_over_it(mounted: Path) -> None:
    cgroup(mounted / "system.slice" / "router.service", memory_high=750 * MIB)
    room = Memory(mounted, mounted.parent / "own").room()
    assert room == Room(250 * MIB, "memory.high of 750 MiB")


def first_version(directory: Path, *, limit: int, used: int, inactive: int = 0, kills: int = 0) -> None:
    """A memory cgroup with the files of version 1."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (directory / "memory.usage_in_bytes").write_text(f"{used}\n")
    (directory / "memory.stat").write_text(f"inactive_file 7\ntotal_inactive_file {inactive}\n")
    (directory / "memory.oom_control").write_text(f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n")


NO_LIMIT = 9223372036854771712
"""What version 1 says where there is no limit."""


@pytest.fixture
def mounted_v1(tmp_path: Path) -> Path:
    """As a machine with cgroups v1 shows them: a container in a slice, each controller with its own tree."""
    root = tmp_path / "cgroup"
    first_version(root / "memory", limit=NO_LIMIT, used=9 << 30)
    first_version(root / "memory" / "docker", limit=NO_LIMIT, used=5 << 30)
    container = root / "memory" / "docker" / "4f5e"
    first_version(container, limit=1200 * MIB, used=800 * MIB, inactive=100 * MIB, kills=3)
    (tmp_path / "own").write_text("9:name=systemd:/x\n5:cpu,cpuacct:/y\n4:memory:/docker/4f5e\n0::/\n")
    return root


def test_a_limit_of_cgroups_v1_holds_and_is_named(mounted_v1: Path) -> None:
    own = mounted_v1.parent / "own"
    assert Memory(mounted_v1, own).room() == Room(500 * MIB, "memory.limit_in_bytes of 1200 MiB")
    first_version(mounted_v1 / "memory" / "docker", limit=(5 << 30) + 100 * MIB, used=5 << 30)
    assert Memory(mounted_v1, own).room().available == 100 * MIB


def test_without_a_limit_of_v1_it_is_what_the_machine_has(mounted_v1: Path) -> None:
    first_version(mounted_v1 / "memory" / "docker" / "4f5e", limit=NO_LIMIT, used=800 * MIB)
    room = Memory(mounted_v1, mounted_v1.parent / "own").room()
    assert room.limit == f"the machine's {psutil.virtual_memory().total // MIB} MiB"


def test_in_a_container_of_v1_the_controllers_root_is_its_own_cgroup(tmp_path: Path) -> None:
    first_version(tmp_path / "cgroup" / "memory", limit=300 * MIB, used=100 * MIB)
    (tmp_path / "own").write_text("4:memory:/docker/4f5e\n")
    assert Memory(tmp_path / "cgroup", tmp_path / "own").room().available == 200 * MIB


@pytest.mark.parametrize("unified", ["unified", "."])
def test_on_a_hybrid_machine_the_tighter_version_holds(mounted_v1: Path, unified: str) -> None:
    own = mounted_v1.parent / "own"
    own.write_text("4:memory:/docker/4f5e\n0::/router.service\n")
    cgroup(mounted_v1 / unified / "router.service", memory_max=900 * MIB, memory_current=800 * MIB)
    assert Memory(mounted_v1, own).room() == Room(100 * MIB, "memory.max of 900 MiB")
    cgroup(mounted_v1 / unified / "router.service", memory_max="max")
    assert Memory(mounted_v1, own).room().available == 500 * MIB


def test_the_kernels_kills_are_counted_under_v1_too(mounted_v1: Path) -> None:
    memory = Memory(mounted_v1, mounted_v1.parent / "own")
    first_version(mounted_v1 / "memory" / "docker" / "4f5e", limit=1, used=1, kills=4)
    assert [memory.ended_one() for _ in range(2)] == [True, False]


@pytest.mark.parametrize(("place", "group", "all_together"), [
    ("system.slice/router.service", 1, True), ("system.slice", 1, True), ("system.slice", 0, False),
])  # fmt: skip
def test_a_cgroup_that_is_ended_as_one_is_known(
    mounted: Path, place: str, group: int, *, all_together: bool
) -> None:
    """Of those above as well: the kernel ends the whole of the highest one that says so."""
    (mounted / place / "memory.oom.group").write_text(f"{group}\n")
    assert Memory(mounted, mounted.parent / "own").ends_all_together is all_together


def test_in_a_container_the_root_is_its_own_cgroup(tmp_path: Path) -> None:
    cgroup(tmp_path / "cgroup", memory_max=300 * MIB, memory_current=100 * MIB)
    for reported in ("0::/", "0::/docker/4f5e", "0::/../other"):
        (tmp_path / "own").write_text(f"{reported}\n")
        assert Memory(tmp_path / "cgroup", tmp_path / "own").room().available == 200 * MIB


@pytest.mark.parametrize("damage", ["none", "empty", "nonsense"])
def test_without_cgroups_it_is_what_the_machine_has(tmp_path: Path, damage: str) -> None:
    if damage != "none":
        (tmp_path / "own").write_text("0::/\n")
        text = {"empty": "", "nonsense": "a b c"}[damage]
        cgroup(tmp_path / "cgroup", memory_max=text, memory_current=text, memory_events=text)
    memory = Memory(tmp_path / "cgroup", tmp_path / "own")

    assert 0.5 < memory.room().available / psutil.virtual_memory().available < 2
    assert not memory.ended_one()


def test_each_process_that_the_kernel_ended_is_reported_once(mounted: Path) -> None:
    memory = Memory(mounted, mounted.parent / "own")
    assert not memory.ended_one()  # those before us are not ours
    events = mounted / "system.slice" / "router.service" / "memory.events"
    events.write_text("low 0\noom 9\noom_kill 5\noom_group_kill 0\n")

    assert [memory.ended_one() for _ in range(3)] == [True, True, False]
