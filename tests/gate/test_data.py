"""The hold-out as it is read: the same of each format, and a sentence for each thing that can be wrong."""

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from router.gate import data_files
from router.gate.data import Holdout, _hashes, open_holdout
from router.gate.errors import DataRefused
from router.gate.named_metrics import metric_of

ROWS = 250
DRAWN = np.random.default_rng(1)
TABLE = pd.DataFrame(
    {
        "tenure": DRAWN.normal(size=ROWS),
        "plan": DRAWN.choice(["basic", "plus"], ROWS),
        "customer": DRAWN.integers(0, 40, ROWS),
        "zip": [f"0{place:04}" for place in range(ROWS)],
        "churned": DRAWN.integers(0, 2, ROWS),
    }
)


def write_parquet(table: pd.DataFrame, path: Path) -> Path:
    path = path.with_suffix(".parquet")
    table.to_parquet(path, row_group_size=60)
    return path


def write_csv(table: pd.DataFrame, path: Path) -> Path:
    path = path.with_suffix(".csv")
    table.to_csv(path, index=False)
    return path


def write_csv_gz(table: pd.DataFrame, path: Path) -> Path:
    path = path.with_suffix(".csv.gz")
    table.to_csv(path, index=False)
    return path


def write_json(table: pd.DataFrame, path: Path) -> Path:
    path = path.with_suffix(".jsonl")
    table.to_json(path, orient="records", lines=True, double_precision=15)
    return path


def write_json_gz(table: pd.DataFrame, path: Path) -> Path:
    plain = write_json(table, path)
    packed = path.with_suffix(".ndjson.gz")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    return packed


def write_parts(table: pd.DataFrame, path: Path) -> Path:
    """As Spark does."""
    path.mkdir()
    (path / "_SUCCESS").touch()
    (path / ".part-0.parquet.crc").touch()
    write_parquet(table.iloc[:100], path / "part-0")
    write_parquet(table.iloc[100:], path / "part-1")
    return path


Writer = Callable[[pd.DataFrame, Path], Path]
WRITERS = [write_parquet, write_csv, write_csv_gz, write_json, write_json_gz, write_parts]


def opened(path: Path, metric: str = "roc_auc", target: str = "churned", **options: Any) -> Holdout:
    return open_holdout(path, metric_of(metric), target, **options)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_files, "CHUNK_ROWS", 64)
    monkeypatch.setattr(data_files, "_FEWEST_ROWS", 20)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("write", WRITERS)
def test_every_format_gives_the_same_rows_targets_and_groups(write: Writer, tmp_path: Path) -> None:
    path = write(TABLE, tmp_path / "holdout")
    holdout = opened(path, group="customer", text_columns=["zip"])

    chunks = list(holdout.chunks())

    assert holdout.rows == ROWS
    assert len(chunks) > 2
    assert max(len(chunk.targets) for chunk in chunks) <= 64
    features = pd.concat([chunk.features for chunk in chunks], ignore_index=True)
    assert tuple(features.columns) == holdout.columns == ("tenure", "plan", "customer", "zip")
    assert features["tenure"].to_numpy() == pytest.approx(TABLE["tenure"].to_numpy(), abs=1e-14)
    assert features["zip"].tolist() == TABLE["zip"].tolist()
    assert np.concatenate([chunk.targets for chunk in chunks]).tolist() == TABLE["churned"].tolist()
    groups = np.concatenate([chunk.groups for chunk in chunks if chunk.groups is not None])
    assert len(set(zip(groups.tolist(), TABLE["customer"], strict=True))) == TABLE["customer"].nunique()
    assert len(set(groups.tolist())) == TABLE["customer"].nunique()


def test_a_group_is_the_same_whatever_type_holds_it() -> None:
    """A CSV has texts only, and a column of JSON may change its type from chunk to chunk."""
    columns = [[12, 7], [12.0, 7.0], ["12", "7"], ["12.0", "7"], np.asarray([12, 7], dtype=object)]
    hashes = [_hashes(pd.Series(each)).tolist() for each in columns]

    assert all(each == hashes[0] for each in hashes)
    assert hashes[0][0] != hashes[0][1]


@pytest.mark.parametrize("write", WRITERS)
def test_equal_data_has_one_digest_which_of_a_file_is_what_sha256sum_prints(
    write: Writer, tmp_path: Path
) -> None:
    path = write(TABLE, tmp_path / "holdout")
    holdout = opened(path)
    list(holdout.chunks())

    found = holdout.digest()

    assert len(found) == 64
    assert opened(path).digest() == found
    if path.is_file():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == found
    else:
        (path / "part-1.parquet").rename(path / "part-2.parquet")
        assert opened(path).digest() != found


def test_data_that_changes_while_versions_are_asked_is_not_what_the_digest_names(tmp_path: Path) -> None:
    holdout = opened(write_csv(TABLE, tmp_path / "holdout"))
    write_csv(TABLE.head(200), tmp_path / "holdout")

    with pytest.raises(DataRefused, match="changed while it was read"):
        holdout.digest()


def test_a_label_that_comes_while_versions_are_asked_is_refused(tmp_path: Path) -> None:
    holdout = opened(write_csv(TABLE, tmp_path / "holdout"))
    write_csv(TABLE.assign(churned="maybe"), tmp_path / "holdout")

    with pytest.raises(DataRefused, match="the data changed while it was read"):
        list(holdout.chunks())


@pytest.mark.parametrize("write", [write_parquet, write_csv, write_json])
@pytest.mark.parametrize(
    ("targets", "positive", "codes"),
    [
        ([0, 1, 1], None, [0.0, 1.0, 1.0]),
        ([0, 1, 1], "0", [1.0, 0.0, 0.0]),
        ([False, True, True], None, [0.0, 1.0, 1.0]),
        ([0.0, 1.0, 1.0], None, [0.0, 1.0, 1.0]),
        (["no", "yes", "yes"], "yes", [0.0, 1.0, 1.0]),
        (["yes", "no", "no"], "yes", [1.0, 0.0, 0.0]),
        ([2, 1, 1], "2", [1.0, 0.0, 0.0]),
    ],
)
def test_the_positive_label_is_one(
    write: Writer, targets: list[Any], positive: str | None, codes: list[float], tmp_path: Path
) -> None:
    path = write(pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": targets}), tmp_path / "holdout")
    (chunk,) = opened(path, target="y", positive=positive).chunks()

    assert chunk.targets.tolist() == codes


@pytest.mark.parametrize("write", [write_parquet, write_csv, write_json])
def test_targets_of_numbers_stay_numbers(write: Writer, tmp_path: Path) -> None:
    path = write(TABLE, tmp_path / "holdout")
    (chunk,) = opened(path, "absolute_error", "tenure").chunks()

    assert chunk.targets == pytest.approx(TABLE["tenure"].to_numpy(), abs=1e-14)


@pytest.mark.parametrize(
    ("metric", "changed", "options", "sentence"),
    [
        ("roc_auc", {"churned": [0, 1, None]}, {}, "row 3 has no target y$"),
        ("roc_auc", {"churned": [None, 1, None]}, {}, "row 1 has no target y, and 1 more soon after"),
        ("absolute_error", {"churned": [0.5, None, 1]}, {}, "row 2 has no target y"),
        (
            "absolute_error",
            {"churned": ["1", "b", "2"]},
            {},
            "row [12] has the target '[1b]', which is no finite",
        ),
        ("roc_auc", {"churned": [1, 1, 1]}, {}, "all rows have the target 1: roc_auc needs rows of two"),
        ("f1", {"churned": ["a", "b", "c"]}, {}, "f1 compares two labels, and the target has 3: a, b, c"),
        ("roc_auc", {"churned": ["no", "yes", "no"]}, {}, "which of the labels no, yes is the positive one"),
        ("roc_auc", {"churned": ["no", "yes", "no"]}, {"positive": "y"}, "no row has the positive label y"),
        ("accuracy", {"churned": ["a", "b", "c"]}, {"cut_off": 0.5}, "accuracy compares two labels"),
        ("roc_auc", {}, {"cut_off": 0.5}, "roc_auc takes scores, of which no cut-off makes labels"),
        ("accuracy", {}, {"cut_off": float("nan")}, "a cut-off is a finite number"),
        ("roc_auc", {}, {"target": "z"}, "no column z, which is to be the target: there are"),
        ("roc_auc", {}, {"target": "Y"}, "which is to be the target"),
        ("roc_auc", {}, {"group": "grop"}, "no column grop, which is to be the group: did you mean group?"),
        ("roc_auc", {}, {"group": "y"}, "the column y can not be both target and group"),
        ("roc_auc", {"group": ["a", None, "b"]}, {"group": "group"}, "row 2 has no group group"),
        ("roc_auc", {"group": ["a", "a", "a"]}, {"group": "group"}, "all rows have the same group"),
    ],
)
@pytest.mark.parametrize("write", [write_parquet, write_csv, write_json])
def test_each_fault_of_the_data_has_its_own_sentence(
    write: Writer,
    metric: str,
    changed: dict[str, Any],
    options: dict[str, Any],
    sentence: str,
    tmp_path: Path,
) -> None:
    columns = {"x": [1.0, 2.0, 3.0], "group": ["a", "b", "c"], "y": changed.get("churned", [0, 1, 0])}
    table = pd.DataFrame(columns | {name: each for name, each in changed.items() if name != "churned"})
    if "target" not in options:
        options = {"target": "y", **options}
    if write is write_parquet and sentence.startswith("row [12]"):
        sentence = "row 1 has the target '1'"

    with pytest.raises(DataRefused, match=sentence):
        opened(write(table, tmp_path / "holdout"), metric, **options)


@pytest.mark.parametrize("write", [write_parquet, write_json])
def test_a_fraction_is_no_label(write: Writer, tmp_path: Path) -> None:
    """Of a CSV it is a text, and a label as any other."""
    path = write(pd.DataFrame({"x": [1, 2], "y": [1, 0.5]}), tmp_path / "holdout")

    with pytest.raises(DataRefused, match=r"row 2 has the target '0\.5', which is no label"):
        opened(path, "accuracy", "y")


FILES = [
    ("none.csv", None, "there is no file .*none.csv"),
    ("empty.csv", b"", "empty.csv is empty"),
    ("header.csv", b"x,y\n", "header.csv has no rows"),
    ("empty.jsonl", b"", "empty.jsonl is empty"),
    ("empty.parquet", b"", "empty.parquet can not be read"),
    ("notes.parquet", b"PAR1 and nothing more", "notes.parquet can not be read"),
    ("more.csv", b"x,y\n1,0\n2,1\n3,0,7\n", "more.csv has 3 values in line 4, more than its 2 columns"),
    (
        "first.csv",
        b"x,y\n1,0,7\n2,1,7\n",
        "first.csv has more values in its first row than columns in its header",
    ),
    ("latin.csv", "x,y\nä,0\n".encode("latin-1"), "latin.csv is not UTF-8"),
    ("twice.csv", b"y,y\n1,0\n", "two columns of the name y"),
    ("broken.jsonl", b'{"x": 1, "y": 0}\n{"x": 1,\n', "broken.jsonl has no JSON in line 2"),
    ("nan.jsonl", b'{"x": NaN, "y": 0}\n', "nan.jsonl has no JSON in line 1"),
    ("list.jsonl", b'{"x": 1, "y": 0}\n[1, 0]\n', "list.jsonl has no object in line 2"),
    ("table.xlsx", b"?", "table.xlsx has none of the endings that are read: .parquet, .csv, .jsonl"),
    ("table", b"?", "table has none of the endings"),
    ("table.parquet.gz", b"?", "has none of the endings"),
    ("broken.csv.gz", b"no gzip", "broken.csv.gz can not be read"),
]


@pytest.mark.parametrize(("name", "content", "sentence"), FILES, ids=[name for name, _, _ in FILES])
def test_a_file_that_can_not_be_read_is_named_with_the_line(
    name: str, content: bytes | None, sentence: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(DataRefused, match=sentence):
        opened(tmp_path / name, target="y")


def test_a_directory_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataRefused, match="has no files"):
        opened(tmp_path / "empty")
    write_csv(TABLE, tmp_path / "a")
    write_parquet(TABLE, tmp_path / "b")
    (tmp_path / "mixed").mkdir()
    for file in ("a.csv", "b.parquet"):
        (tmp_path / file).rename(tmp_path / "mixed" / file)
    with pytest.raises(DataRefused, match="files of several formats: csv, parquet"):
        opened(tmp_path / "mixed")


def test_parts_of_other_columns_are_no_table(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    write_parquet(TABLE, tmp_path / "parts" / "a")
    write_parquet(TABLE.rename(columns={"plan": "tariff"}), tmp_path / "parts" / "b")

    with pytest.raises(DataRefused, match=r"b.parquet has other columns than a.parquet has"):
        opened(tmp_path / "parts")


def test_more_columns_than_are_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_files, "MOST_COLUMNS", 4)

    with pytest.raises(DataRefused, match="has 5 columns, more than the 4 that are read"):
        opened(write_csv(TABLE, tmp_path / "wide"))


def test_a_key_that_the_first_lines_do_not_have_is_named(tmp_path: Path) -> None:
    lines = ['{"x": 1, "y": 0}'] * 120 + ['{"x": 1, "y": 1, "z": 2}']
    (tmp_path / "late.jsonl").write_text("\n".join(lines))

    with pytest.raises(DataRefused, match="has the key z in some of its lines"):
        opened(tmp_path / "late.jsonl", target="y")


def test_more_labels_than_a_target_has_are_a_number_or_a_text(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": range(1500), "y": [f"label {place}" for place in range(1500)]})

    with pytest.raises(DataRefused, match="over 1000 labels"):
        opened(write_csv(table, tmp_path / "texts"), "accuracy", "y")


def test_columns_that_a_version_requires_and_the_data_lacks_are_named(tmp_path: Path) -> None:
    holdout = opened(write_csv(TABLE, tmp_path / "holdout"))
    holdout.require(["tenure", "plan"], "version 5")

    with pytest.raises(
        DataRefused, match="version 5 requires the columns income, which the data does not have"
    ):
        holdout.require(["tenure", "income"], "version 5")
