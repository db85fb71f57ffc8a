"""What the memory of a process means."""

from router.core.memory import Resident


def test_pages_of_files_cost_another_worker_nothing() -> None:
    assert Resident(100, 30).own == 70
    assert Resident().own == 0
