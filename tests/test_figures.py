"""What damage measured, as `make faults` writes it down."""

from pathlib import Path

from tests.conftest import Measured, write_figures


def test_figures_are_a_table_by_row_of_the_promise(tmp_path: Path) -> None:
    path = tmp_path / "new" / "figures.md"
    write_figures(
        path, [Measured("", "test_c", "9"), Measured("12", "test_b", "0 | 1"), Measured("2", "test_a", "0")]
    )

    assert path.read_text().splitlines() == [
        "| row | test | figure |",
        "|---|---|---|",
        "| 2 | `test_a` | 0 |",
        "| 12 | `test_b` | 0 / 1 |",
        "|  | `test_c` | 9 |",
    ]
