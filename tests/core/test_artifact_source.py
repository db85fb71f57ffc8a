"""Where a version's files may come from: an allow-list, so what nobody named is refused."""

import pytest

from router.core.artifact_source import AllowedSources

REMOTE = AllowedSources(tracking_uri="http://ada:pw@mlflow:5000/base")
LOCAL = AllowedSources(any_local=True, tracking_uri="sqlite:////srv/mlflow.db")
ROOTED = AllowedSources(schemes=(), roots=("/srv/models", "s3://bucket/models", "https://store/m/"))


@pytest.mark.parametrize(
    ("allowed", "uri"),
    [
        (REMOTE, "mlflow-artifacts:/1/models/m-1/artifacts"),
        (REMOTE, "mlflow-artifacts://mlflow:5000/1/models/m-1"),
        (REMOTE, "http://mlflow:5000/base/api/2.0/mlflow-artifacts/artifacts/1/m"),
        (REMOTE, "s3://bucket/models/1"),
        (REMOTE, "gs://bucket/models/..hidden/a..b"),
        (REMOTE, "wasbs://container@account.blob.core.windows.net/m"),
        (REMOTE, "dbfs:/models/1"),
        (LOCAL, "/home/ada/mlruns/0/models/m-1/artifacts"),
        (LOCAL, "file:///home/ada/mlruns/0"),
        (LOCAL, "file://localhost/home/ada"),
        (ROOTED, "/srv/models"),
        (ROOTED, "file:///srv/models/a%20b/1"),
        (ROOTED, "s3://bucket/models/1"),
        (ROOTED, "https://STORE/m/1"),
        (AllowedSources(schemes=("https",)), "https://anywhere/m"),
    ],
)
def test_what_is_named_is_allowed(allowed: AllowedSources, uri: str) -> None:
    assert allowed.refusal(uri) is None


@pytest.mark.parametrize(
    ("allowed", "uri", "reported"),
    [
        (REMOTE, "file:///etc", "local path"),
        (REMOTE, "/etc", "local path"),
        (REMOTE, "FILE:///etc", "local path"),
        (REMOTE, "http://169.254.169.254/latest/meta-data", "artifact_schemes"),
        (REMOTE, "HTTP://169.254.169.254/", "artifact_schemes"),
        (REMOTE, "mlflow-artifacts://169.254.169.254/1", "another server"),
        (REMOTE, "mlflow-artifacts://mlflow:5000@169.254.169.254/1", "another server"),
        (REMOTE, "http://mlflow:5000/metrics", "artifact_schemes"),
        (REMOTE, "https://mlflow:5000/base/api/2.0/mlflow-artifacts/artifacts/1", "artifact_schemes"),
        (REMOTE, "ftp://host/m", "artifact_schemes"),
        (REMOTE, "r2://bucket@169.254.169.254/m", "artifact_schemes"),
        (REMOTE, "nonsense:/m", "artifact_schemes"),
        (REMOTE, "s3://bucket/models/../../other", "plain address"),
        (REMOTE, "s3://bucket/%2e%2e/other", "plain address"),
        (REMOTE, "s3://bucket/%252e%252e/other", "plain address"),
        (REMOTE, "mlflow-artifacts:/1/..%2f..%2fetc", "plain address"),
        (REMOTE, "mlflow-artifacts:/1/m?..", "plain address"),
        (REMOTE, "mlflow-artifacts:/1\\..\\etc", "plain address"),
        (REMOTE, "mlflow-artifacts:/1/m%00", "plain address"),
        (REMOTE, "s3://bucket/m%0d%0aHost: x", "plain address"),
        (REMOTE, "http://[::1", "plain address"),
        (REMOTE, "", "absolute path"),
        (LOCAL, "/home/ada/../../etc", "plain address"),
        (LOCAL, "mlruns/0", "absolute path"),
        (LOCAL, "file://server/share", "another host"),
        (LOCAL, "http://169.254.169.254/", "artifact_schemes"),
        (ROOTED, "/srv/models-of-others/1", "local path"),
        (ROOTED, "/srv", "local path"),
        (ROOTED, "/srv/models/%2e%2e/x", "plain address"),
        (ROOTED, "s3://bucket/models-2/1", "artifact_schemes"),
        (ROOTED, "s3://bucket2/models/1", "artifact_schemes"),
        (ROOTED, "https://store.evil/m/1", "artifact_schemes"),
        (AllowedSources(roots=("/srv",), any_local=True), "/home/ada/m", "local path"),
    ],
)
def test_what_is_not_named_is_refused_with_what_to_set(
    allowed: AllowedSources, uri: str, reported: str
) -> None:
    refusal = allowed.refusal(uri)

    assert refusal is not None
    assert reported in refusal
    assert repr(uri) in refusal
