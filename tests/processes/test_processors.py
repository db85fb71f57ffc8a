"""How many processors may be used, by the files of cgroups as machines and containers show them."""

from pathlib import Path

import pytest

from router.processes.processors import processors, read_processors, usable_processors


@pytest.mark.parametrize(
    ("own", "above", "usable"),
    [
        ("max 100000", "max 100000", 8),
        ("200000 100000", "max 100000", 2),
        ("max 100000", "300000 100000", 3),
        ("150000 100000", "max 100000", 2),
        ("10000 100000", "max 100000", 1),
        ("1600000 100000", "max 100000", 8),
        ("garbage", "", 8),
    ],
)
def test_the_tightest_quota_of_version_2_holds_rounded_up(
    tmp_path: Path, own: str, above: str, usable: int
) -> None:
    service = tmp_path / "cgroup" / "slice" / "service"
    service.mkdir(parents=True)
    (service / "cpu.max").write_text(own)
    (tmp_path / "cgroup" / "slice" / "cpu.max").write_text(above)
    (tmp_path / "own").write_text("0::/slice/service\n")

    assert usable_processors(8, tmp_path / "cgroup", tmp_path / "own") == usable


@pytest.mark.parametrize("tree", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(("quota", "usable"), [(-1, 8), (200_000, 2), (250_000, 3)])
def test_a_quota_of_version_1_holds_under_either_name_of_its_tree(
    tmp_path: Path, tree: str, quota: int, usable: int
) -> None:
    """In a container the controller's root is its own cgroup, whatever its name outside is."""
    root = tmp_path / "cgroup" / tree
    root.mkdir(parents=True)
    (root / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (root / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "own").write_text("4:memory:/docker/0123\n3:cpu,cpuacct:/docker/0123\n")

    assert usable_processors(8, tmp_path / "cgroup", tmp_path / "own") == usable


def test_without_cgroups_and_without_affinity_it_is_what_the_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS."""
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 5)

    assert usable_processors(5, tmp_path / "none", tmp_path / "none") == 5
    assert processors.__wrapped__() >= 1


def test_a_reading_has_the_quotas_of_version_2_and_what_was_used_of_them(tmp_path: Path) -> None:
    service = tmp_path / "cgroup" / "service"
    service.mkdir(parents=True)
    (service / "cpu.max").write_text("150000 100000\n")
    (service / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    (tmp_path / "own").write_text("0::/service\n")

    assert read_processors(tmp_path / "cgroup", tmp_path / "own").quotas == ((2.5, 1.5),)


def test_a_reading_has_the_quotas_of_version_1_whose_accounts_are_a_tree_of_their_own(tmp_path: Path) -> None:
    quota, account = tmp_path / "cgroup" / "cpu" / "pod", tmp_path / "cgroup" / "cpuacct" / "pod"
    quota.mkdir(parents=True)
    account.mkdir(parents=True)
    (quota / "cpu.cfs_quota_us").write_text("200000\n")
    (quota / "cpu.cfs_period_us").write_text("100000\n")
    (account / "cpuacct.usage").write_text("3000000000\n")
    (tmp_path / "own").write_text("2:cpuacct:/pod\n1:cpu:/pod\n")

    assert read_processors(tmp_path / "cgroup", tmp_path / "own").quotas == ((3.0, 2.0),)


def test_processors_have_been_idle_for_a_part_of_the_time_that_there_was(tmp_path: Path) -> None:
    reading = read_processors(tmp_path / "none", tmp_path / "none")

    assert 0 < reading.idle <= reading.whole
    assert reading.quotas == ()
