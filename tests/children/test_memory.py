"""What the kernel tells about memory, read from real processes and from the files of real cgroups."""

import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import psutil
import pytest

from router.children.memory import Memory, resident
from router.core.memory import MIB, Resident
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
    assert Memory(mounted, own).available_bytes() == 500 * MIB
    cgroup(mounted / "system.slice", memory_max=(5 << 30) + 100 * MIB)
    assert Memory(mounted, own).available_bytes() == 100 * MIB
    cgroup(mounted / "system.slice", memory_max=4 << 30)
    assert Memory(mounted, own).available_bytes() == 0


def test_in_a_container_the_root_is_its_own_cgroup(tmp_path: Path) -> None:
    cgroup(tmp_path / "cgroup", memory_max=300 * MIB, memory_current=100 * MIB)
    for told in ("0::/", "0::/docker/4f5e", "0::/../other"):
        (tmp_path / "own").write_text(f"{told}\n")
        assert Memory(tmp_path / "cgroup", tmp_path / "own").available_bytes() == 200 * MIB


@pytest.mark.parametrize("damage", ["none", "empty", "nonsense"])
def test_without_cgroups_it_is_what_the_machine_has(tmp_path: Path, damage: str) -> None:
    if damage != "none":
        (tmp_path / "own").write_text("0::/\n")
        text = {"empty": "", "nonsense": "a b c"}[damage]
        cgroup(tmp_path / "cgroup", memory_max=text, memory_current=text, memory_events=text)
    memory = Memory(tmp_path / "cgroup", tmp_path / "own")

    assert 0.5 < memory.available_bytes() / psutil.virtual_memory().available < 2
    assert not memory.ended_one()


def test_each_process_that_the_kernel_ended_is_told_once(mounted: Path) -> None:
    memory = Memory(mounted, mounted.parent / "own")
    assert not memory.ended_one()  # those before us are not ours
    events = mounted / "system.slice" / "router.service" / "memory.events"
    events.write_text("low 0\noom 9\noom_kill 5\noom_group_kill 0\n")

    assert [memory.ended_one() for _ in range(3)] == [True, True, False]
