"""What a version's processes see of the environment: nothing that opens a registry or a store."""

import os
from pathlib import PurePath

import mlflow.environment_variables
import pytest

from router.core.environment_variables import (
    SINGLE_THREADED,
    child_environment,
    is_withheld,
    opens_store,
    refusal,
    unknown_variables,
)

# By hand, and not by the words that the gateway looks for: what an operator sets to have something refused.
RESTRICTING = (
    *("MLFLOW_ALLOW_FILE_STORE", "MLFLOW_ALLOW_HTTP_REDIRECTS"),
    *("MLFLOW_ALLOW_MODEL_CODE_EXECUTION", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"),
    *("MLFLOW_ALLOWED_HOST_ADDRESSED_ARTIFACT_SCHEMES", "MLFLOW_DISABLE_ENV_CREATION"),
    *("MLFLOW_DISABLE_SCHEMA_DETAILS", "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX"),
    *("MLFLOW_TRACE_SAMPLING_RATIO", "MLFLOW_ENABLE_OTLP_EXPORTER"),
    *("AWS_CA_BUNDLE", "AWS_EC2_METADATA_DISABLED", "PGSSLMODE", "PGSSLROOTCERT"),
)
# That of MLflow 3.17 which opens, names or authorises something: no word of its name may let it through.
OPENING = (
    *("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_WORKSPACE_STORE_URI", "MLFLOW_BACKEND_STORE_URI"),
    *("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
    *("MLFLOW_TRACKING_CLIENT_CERT_PATH", "MLFLOW_UC_OSS_TOKEN", "MLFLOW_KERBEROS_TICKET_CACHE"),
    *("MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_AUTH_CONFIG_PATH", "MLFLOW_FLASK_SERVER_SECRET_KEY"),
    *("MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY", "_MLFLOW_INTERNAL_GATEWAY_AUTH_TOKEN", "MLFLOW_MYSQL_SSL_KEY"),
    *("MLFLOW_READ_REPLICA_BACKEND_STORE_URI", "MLFLOW_TRACING_DESTINATION", "MLFLOW_S3_UPLOAD_EXTRA_ARGS"),
    "MLFLOW_ALLOW_NEW_STORE_TOKEN",
)


@pytest.mark.parametrize(
    "name",
    [
        *OPENING,
        "DATABRICKS_TOKEN",
        "CANARY_ROUTER_SERVER__ADMIN_TOKEN",
        *("AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "BOTO_CONFIG"),
        *(
            "MLFLOW_S3_ENDPOINT_URL",
            "S3_SECRET_KEY",
            "MINIO_ROOT_PASSWORD",
            "B2_APP_KEY",
            "R2_SECRET_ACCESS_KEY",
        ),
        *("AZURE_STORAGE_CONNECTION_STRING", "AZURE_CLIENT_SECRET", "ARM_CLIENT_SECRET"),
        *("MSI_SECRET", "IDENTITY_HEADER"),
        *("GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG", "GCS_TOKEN"),
        *("PGPASSWORD", "PGPASSFILE", "PGSERVICEFILE", "POSTGRES_PASSWORD", "MYSQL_PWD", "DATABASE_URL"),
        *("KRB5CCNAME", "SSH_AUTH_SOCK", "FTP_PASSWORD", "VAULT_TOKEN"),
        *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX_OURS_PASSWORD", "UV_DEFAULT_INDEX"),
    ],
)
def test_what_opens_a_registry_or_a_store_is_kept_from_versions(name: str) -> None:
    assert name not in child_environment({name: "secret"})


@pytest.mark.parametrize(
    "name",
    [
        *(
            "PATH",
            "HOME",
            "LANG",
            "TZ",
            "TMPDIR",
            "UV_THREADPOOL_SIZE",
            "HTTPS_PROXY",
            "SSL_CERT_FILE",
            "REQUESTS_CA_BUNDLE",
        ),
        *("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "JAVA_HOME", "HADOOP_HOME", "SPARK_HOME"),
        *("HF_HOME", "HF_HUB_OFFLINE", "TRANSFORMERS_CACHE", "NLTK_DATA", "TORCH_HOME", "XDG_CACHE_HOME"),
        *("OPENAI_API_KEY", "AWS_REGION", "AWS_DEFAULT_REGION", "GOOGLE_CLOUD_PROJECT"),
        *RESTRICTING,
    ],
)
def test_what_a_versions_own_libraries_need_stays(name: str) -> None:
    assert child_environment({name: "value"})[name] == "value"


def test_nobody_starts_threads_before_a_fork() -> None:
    assert child_environment({"OMP_NUM_THREADS": "8"}) == SINGLE_THREADED


def test_in_a_virtual_environment_nothing_says_where_the_gateways_own_libraries_are() -> None:
    ours = {
        "PYTHONPATH": "/ours",
        "PYTHONHOME": "/ours",
        "VIRTUAL_ENV": "/ours",
        "VIRTUAL_ENV_PROMPT": "ours",
        "PYTHONHASHSEED": "1",
        "PATH": "/ours/bin:/bin",
        "PGPASSWORD": "secret",
    }

    theirs = child_environment(ours, venv=PurePath("/theirs"))

    assert theirs == SINGLE_THREADED | {
        "PYTHONHASHSEED": "1",
        "PATH": "/theirs/bin:/ours/bin:/bin",
        "VIRTUAL_ENV": "/theirs",
    }


def test_without_a_path_of_its_own_a_virtual_environment_comes_before_the_systems_default() -> None:
    found = child_environment({}, venv=PurePath("/theirs"))

    assert found["PATH"] == f"/theirs/bin:{os.defpath}"


def test_every_variable_that_mlflow_reads_is_known_to_pass_or_to_open_something() -> None:
    """A new MLflow brings new names: whether a version gets one is decided, and not left to chance."""
    known = {
        variable.name
        for variable in vars(mlflow.environment_variables).values()
        if isinstance(variable, mlflow.environment_variables._EnvironmentVariable)
    }

    assert len(known) > 200
    assert unknown_variables(known) == []


@pytest.mark.parametrize(
    "name",
    [
        *("MLFLOW_ALLOW_ANYTHING_NEW", "MLFLOW_LOADER_ALLOWED_MODULES", "MLFLOW_DISABLE_SOMETHING"),
        *("MLFLOW_REQUIRE_SIGNED_MODELS", "MLFLOW_MODELS_TRUSTED_ONLY", "MLFLOW_STRICT_LOADING"),
        *("MLFLOW_FORBID_NETWORK", "_MLFLOW_ALLOW_INTERNALS", "MLFLOW_ENFORCE_SAFE_FORMATS"),
    ],
)
def test_what_a_later_mlflow_restricts_by_reaches_versions_before_anybody_sorted_it(name: str) -> None:
    assert child_environment({name: "false"})[name] == "false"
    assert unknown_variables([name]) == []


def test_what_a_later_mlflow_reads_otherwise_is_withheld_and_reported() -> None:
    assert "MLFLOW_BRAND_NEW" not in child_environment({"MLFLOW_BRAND_NEW": "1"})
    assert unknown_variables(["PATH", "MLFLOW_TRACKING_TOKEN", "MLFLOW_BRAND_NEW"]) == ["MLFLOW_BRAND_NEW"]


@pytest.mark.parametrize(
    "name",
    [
        *("AZURE_OPENAI_API_KEY", "GOOGLE_API_KEY", "AWS_BEARER_TOKEN_BEDROCK", "DATABRICKS_HOST"),
        *("PGVECTOR_CONNECTION", "VAULT_ADDR", "DB_CONNECTION", "MLFLOW_GATEWAY_URI", "MLFLOW_BRAND_NEW"),
    ],
)
def test_what_opens_a_service_of_a_version_s_own_is_withheld_until_it_is_listed(name: str) -> None:
    assert is_withheld(name)
    assert refusal(name) == ""
    assert not opens_store(name)


@pytest.mark.parametrize(
    "name",
    [
        *("AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN", "BOTO_CONFIG", "MINIO_ROOT_PASSWORD"),
        *("AZURE_STORAGE_CONNECTION_STRING", "AZURE_CLIENT_SECRET", "GOOGLE_APPLICATION_CREDENTIALS"),
        *("DATABRICKS_TOKEN", "MLFLOW_S3_ENDPOINT_URL"),
    ],
)
def test_what_opens_the_artifact_store_may_be_listed_and_is_known_as_such(name: str) -> None:
    assert refusal(name) == ""
    assert opens_store(name)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("CANARY_ROUTER_SERVER__ADMIN_TOKEN", "the gateway"),
        *((name, "`tracking`") for name in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD")),
        *((name, "`tracking`") for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_URI")),
        *((name, "`tracking`") for name in ("MLFLOW_REGISTRY_URI", "MLFLOW_UC_OSS_TOKEN")),
        *((name, "`tracking`") for name in ("MLFLOW_BRAND_NEW_TOKEN", "_MLFLOW_NEW_PASSWORD")),
        *((name, "index") for name in ("UV_INDEX_OURS_PASSWORD", "PIP_INDEX_URL", "PIP_PROXY")),
    ],
)
def test_what_opens_registry_tracking_index_or_gateway_can_not_be_listed(name: str, why: str) -> None:
    assert is_withheld(name)
    assert why in refusal(name)


@pytest.mark.parametrize(
    ("uri", "refused", "allowed"),
    [
        ("databricks-uc", "DATABRICKS_TOKEN", "PGPASSWORD"),
        ("databricks://profile", "DATABRICKS_HOST", "MYSQL_PWD"),
        ("postgresql+psycopg2://mlflow@db/mlflow", "PGPASSWORD", "PGVECTOR_CONNECTION"),
        ("mysql+pymysql://mlflow@db/mlflow", "MYSQL_PWD", "DATABRICKS_TOKEN"),
    ],
)
def test_what_opens_this_registry_can_not_be_listed(uri: str, refused: str, allowed: str) -> None:
    assert refusal(refused, (uri, "http://mlflow:5000")) == "opens this gateway's registry"
    assert refusal(allowed, (uri,)) == ""
    assert refusal(refused, ("http://mlflow:5000",)) == ""
