"""What children are told through their environment: how to stay single-threaded, and no secret."""

from collections.abc import Mapping

from router.processes.mlflow_variables import Passage, is_mlflows, passage

# Else numpy's BLAS and pyarrow's allocator start threads at import, and a fork copies the locks they hold.
SINGLE_THREADED = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
# A version's code runs in these processes: what opens a registry or a store is not for it to read.
# By what they open rather than by words such as TOKEN or KEY: a version may need a service of its own, and an
# OPENAI_API_KEY that somebody gave this process is for it. HADOOP_HOME, HF_HOME and JAVA_HOME open nothing.
_SECRET_PREFIXES = (
    *("DATABRICKS_", "CANARY_ROUTER_"),
    *("AWS_", "BOTO", "S3_", "MINIO_", "B2_", "R2_", "CLOUDFLARE_"),  # s3, b2, r2
    *("AZURE_", "ARM_", "MSI_", "IDENTITY_"),  # wasbs, abfss; the last two are a managed identity's door
    *("GOOGLE_", "GCLOUD_", "CLOUDSDK_", "GCS_", "GCP_"),  # gs
    *("PG", "POSTGRES_", "MYSQL_", "MARIADB_", "MSSQL_", "ORACLE_", "SNOWFLAKE_", "DATABASE_", "DB_"),
    *("KRB5", "SSH_", "FTP_", "SFTP_", "VAULT_"),
)
_NEEDED = {
    # They say where, and not who: boto3 and Google's libraries do not start without.
    *("AWS_DEFAULT_REGION", "AWS_REGION", "GOOGLE_CLOUD_PROJECT"),
    # They open nothing and refuse something, which a version's own clients would do without them.
    *("AWS_EC2_METADATA_DISABLED", "AWS_USE_FIPS_ENDPOINT"),
    *("PGCHANNELBINDING", "PGGSSENCMODE", "PGREQUIREAUTH", "PGREQUIRESSL"),
    *("PGSSLCRL", "PGSSLMINPROTOCOLVERSION", "PGSSLMODE", "PGSSLROOTCERT"),
}


def child_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child, from this process' own. What restricts is never withheld."""
    return {**{name: value for name, value in ours.items() if _is_passed(name)}, **SINGLE_THREADED}


def _is_passed(name: str) -> bool:
    if is_mlflows(name):
        return passage(name) is Passage.PASSED
    return name in _NEEDED or not name.startswith(_SECRET_PREFIXES)
