"""Credentials in anything that people read."""

import time

import pytest

from router.core.redaction import masked, masked_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://mlflow:5000", "http://mlflow:5000"),
        ("sqlite:////var/lib/mlflow.db", "sqlite:////var/lib/mlflow.db"),
        ("https://ada:hunter2@mlflow.example/x", "https://***@mlflow.example/x"),
        ("https://ada:hun@ter2@mlflow.example", "https://***@mlflow.example"),
        ("https://token@mlflow.example", "https://***@mlflow.example"),
        ("HTTPS://ada:hunter2@mlflow.example", "HTTPS://***@mlflow.example"),
        ("http://mlflow:5000/models/x@production", "http://mlflow:5000/models/x@production"),
        ("postgresql+psycopg://ada:hunter2@db:5432/mlflow", "postgresql+psycopg://***@db:5432/mlflow"),
        ("mysql://ada:hun/ter2@db/mlflow", "mysql://***@db/mlflow"),
        ("mysql://ada:hun@ter2@db/mlflow", "mysql://***@db/mlflow"),
        ("mssql://?odbc_connect=DSN=x;PWD=hunter2", "mssql://?odbc_connect=***"),
        ("postgresql://db/mlflow?user=ada&password=hunter2&x=1", "postgresql://db/mlflow?user=ada&password=***&x=1"),
        ("s3://bucket/k?X-Amz-Signature=ab12&v=1", "s3://bucket/k?X-Amz-Signature=***&v=1"),
        ("https://h/c?sv=1&sig=hunter2", "https://h/c?sv=1&sig=***"),
        ("models:/sentiment@production", "models:/sentiment@production"),
        ("no URI: ada@example.org", "no URI: ada@example.org"),
        ("a.http://ada:hun/ter2@h", "a.http://***@h"),
        ("9pg://ada:hunter2@db", "9pg://***@db"),
        ("two: http://a:b@c and ftp://d:e@f", "two: http://***@c and ftp://***@f"),
    ],
)  # fmt: skip
def test_credentials_are_masked_and_the_rest_stays(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_a_line_has_no_control_characters_and_a_bound() -> None:
    line = masked_line("one\ntwo\x1b[31m\tthree\x00 http://ada:hunter2@host " + "x" * 1000, limit=60)

    assert line == "one two?[31m three? http://***@host " + "x" * 23 + "…"


def test_a_hundred_megabytes_are_cut_before_they_are_read() -> None:
    assert masked_line("http://a:b@c/" * 8_000_000, limit=13) == "http://***@c…"


@pytest.mark.parametrize(
    "piece", ["a.-", "a.a.a.", "x://", "://a", "a://b:", "a://b: @", "http://a", "?pass", "a-token.."]
)
def test_a_hostile_text_is_masked_in_no_time(piece: str, slack: float) -> None:
    """A traceback is masked on the event loop."""
    started = time.perf_counter()
    masked((piece * 20_000)[:20_000])

    assert time.perf_counter() - started < 0.05 * slack
