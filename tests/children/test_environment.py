"""What a version's processes see of the environment: nothing that opens a registry or a store."""

import pytest

from router.children.environment import SINGLE_THREADED, child_environment


@pytest.mark.parametrize(
    "name",
    [
        *("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_URI", "DATABRICKS_TOKEN"),
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
    ],
)
def test_what_opens_a_registry_or_a_store_is_kept_from_versions(name: str) -> None:
    assert name not in child_environment({name: "secret"})


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "LANG", "TZ", "TMPDIR", "HTTPS_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
        *("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "JAVA_HOME", "HADOOP_HOME", "SPARK_HOME"),
        *("HF_HOME", "HF_HUB_OFFLINE", "TRANSFORMERS_CACHE", "NLTK_DATA", "TORCH_HOME", "XDG_CACHE_HOME"),
        *("OPENAI_API_KEY", "AWS_REGION", "AWS_DEFAULT_REGION", "GOOGLE_CLOUD_PROJECT"),
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION",
    ],
)
def test_what_a_versions_own_libraries_need_stays(name: str) -> None:
    assert child_environment({name: "value"})[name] == "value"


def test_nobody_starts_threads_before_a_fork() -> None:
    assert child_environment({"OMP_NUM_THREADS": "8"}) == SINGLE_THREADED
