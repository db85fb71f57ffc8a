"""Which variables of the gateway's environment reach the processes that run versions.

What opens a registry, a store or a database is withheld, unless the operator lists it for a model; what opens
the registry, a package index or the gateway itself can not be listed. MLflow's own variables are sorted by
hand, and a new MLflow brings names that nobody has sorted yet. So what restricts is recognised by its words,
and a name that is neither known nor restricts is withheld, and reported at start.
"""

import os
import re
from collections.abc import Iterable, Mapping
from enum import Enum, auto
from pathlib import Path, PurePath

# Without these, numpy's BLAS and pyarrow's allocator start threads at import, whose locks a fork copies.
SINGLE_THREADED = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Where a worker is given more, idle ones sleep after 2**20 cycles, a third of a millisecond, not after
    # 2**26: for 40 ms after each predict they would hold a processor that others need.
    "OPENBLAS_THREAD_TIMEOUT": "20",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
# A version's code runs in these processes: what opens a registry or a store is not for it to read.
# By what they open rather than by words such as TOKEN or KEY: a version may need a service of its own, and an
# OPENAI_API_KEY that somebody gave this process is for it. HADOOP_HOME, HF_HOME and JAVA_HOME open nothing.
_OF_STORES = (
    "DATABRICKS_",  # dbfs
    *("AWS_", "BOTO", "S3_", "MINIO_", "B2_", "R2_", "CLOUDFLARE_"),  # s3, b2, r2
    *("AZURE_", "ARM_", "MSI_", "IDENTITY_"),  # wasbs, abfss; the last two are a managed identity's door
    *("GOOGLE_", "GCLOUD_", "CLOUDSDK_", "GCS_", "GCP_"),  # gs
)
_OF_DATABASES_AND_HOSTS = (
    *("PG", "POSTGRES_", "MYSQL_", "MARIADB_", "MSSQL_", "ORACLE_", "SNOWFLAKE_", "DATABASE_", "DB_"),
    *("KRB5", "SSH_", "FTP_", "SFTP_", "VAULT_"),
)
_OF_INDEXES = ("PIP_", "UV_")
_OUR_OWN = "CANARY_ROUTER_"
_WITHHELD_PREFIXES = (*_OF_STORES, *_OF_DATABASES_AND_HOSTS, *_OF_INDEXES, _OUR_OWN)
"""All but MLflow's, which `passage` sorts. docs/migrating.md lists them."""
_NEEDED = {
    # They say where, and not who: boto3 and Google's libraries do not start without.
    *("AWS_DEFAULT_REGION", "AWS_REGION", "GOOGLE_CLOUD_PROJECT"),
    # They open nothing and refuse something, which a version's own clients would do without them.
    *("AWS_EC2_METADATA_DISABLED", "AWS_USE_FIPS_ENDPOINT"),
    *("AWS_CA_BUNDLE", "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE"),
    *("PGCHANNELBINDING", "PGGSSENCMODE", "PGREQUIREAUTH", "PGREQUIRESSL"),
    *("PGSSLCRL", "PGSSLMINPROTOCOLVERSION", "PGSSLMODE", "PGSSLROOTCERT"),
    "UV_THREADPOOL_SIZE",  # of libuv, and not of the installer uv
}
_OF_OUR_PYTHON = {
    # Where an interpreter finds its libraries: this process' own, and what is started from it.
    *("PYTHONHOME", "PYTHONPATH", "PYTHONPLATLIBDIR", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__"),
    *("VIRTUAL_ENV", "VIRTUAL_ENV_PROMPT"),
}
_REGISTRY_CREDENTIALS = {
    # By the scheme of the registry's address, without the driver: what its client reads by itself.
    "databricks": re.compile(r"DATABRICKS_.*|ARM_.*"),
    "databricks-uc": re.compile(r"DATABRICKS_.*|ARM_.*"),
    "postgresql": re.compile(r"PG(PASSWORD|PASSFILE|SERVICE|SERVICEFILE|USER|SSLKEY|SSLCERT|SSLPASSWORD)"),
    "mysql": re.compile(r"MYSQL_(PWD|HOME|TEST_LOGIN_FILE)|MARIADB_.*"),
    "mssql": re.compile(r"MSSQL_.*"),
}
_OF_A_SERVICE = re.compile(r".*_OPENAI_.*|.*_API_KEY|.*_BEDROCK|.*_(HOST|ENDPOINT|REGION|LOCATION|PROJECT)")
"""Those of a store's provider that open, or name, one service that a version calls."""


def child_environment(
    ours: Mapping[str, str], temporary: Path | None = None, venv: PurePath | None = None
) -> dict[str, str]:
    """The environment of a child, from this process' own. What restricts is never withheld.

    `temporary`: a directory for its temporary files; None: as ours. `venv`: the virtual environment that it
    runs in, as if that were activated: nothing says where this process' own libraries are; None: as ours.
    """
    passed = {name: value for name, value in ours.items() if not is_withheld(name)}
    if venv is not None:
        places = os.pathsep.join(filter(None, (str(venv / "bin"), passed.get("PATH", os.defpath))))
        passed = {name: value for name, value in passed.items() if name not in _OF_OUR_PYTHON}
        passed |= {"VIRTUAL_ENV": str(venv), "PATH": places}
    return {**passed, **SINGLE_THREADED, **({"TMPDIR": str(temporary)} if temporary else {})}


def is_withheld(name: str) -> bool:
    """Whether no version gets the variable `name`, unless its model's settings list it."""
    if is_mlflows(name):
        return passage(name) is not Passage.PASSED
    return name not in _NEEDED and name.startswith(_WITHHELD_PREFIXES)


def refusal(name: str, registry_uris: Iterable[str] = ()) -> str:
    """Why settings may not list the variable `name`; empty when they may.

    `registry_uris`: addresses of the registry and of its tracking server, whose clients read credentials
    of their own.
    """
    if name.startswith(_OUR_OWN):
        return "opens the gateway or its registry"
    if not is_withheld(name):
        return ""
    if name.startswith(_OF_INDEXES):
        return "may open a package index"
    if is_mlflows(name):
        rest = _MLFLOW.sub("", name, count=1)
        if _SECRET.search(rest) or _OPENS_REGISTRY.fullmatch(rest):
            return "may open the registry or a tracking server; a version gets one of its own by `tracking`"
    for uri in registry_uris:
        credentials = _REGISTRY_CREDENTIALS.get(uri.partition(":")[0].partition("+")[0].lower())
        if credentials is not None and credentials.fullmatch(name):
            return "opens this gateway's registry"
    return ""


def opens_store(name: str) -> bool:
    """Whether the variable `name`, which settings may list, may open the artifact store."""
    if is_mlflows(name):
        return (
            passage(name) is Passage.WITHHELD
            and _STORES.fullmatch(_MLFLOW.sub("", name, count=1)) is not None
        )
    return is_withheld(name) and name.startswith(_OF_STORES) and _OF_A_SERVICE.fullmatch(name) is None


class Passage(Enum):
    """What becomes of one variable on its way to the processes that run versions."""

    PASSED = auto()  # they get it
    WITHHELD = auto()  # it opens, names or tunes a store or a server, which is not for a version to reach
    UNKNOWN = auto()  # withheld too, and worth a line: it may be one that a version needs


_MLFLOW = re.compile(r"_?MLFLOW_")
_SECRET = re.compile(r"(?:^|_)(?:TOKEN|PASSWORD|SECRET|CREDENTIALS?|USERNAME|KEY)(?:_|$)")
# Without one of these a switch that an operator has set to refuse something would do nothing, silently.
_RESTRICTS = re.compile(
    r"(?:^|_)(?:ALLOW|ALLOWED|BLOCK|BLOCKED|DENY|DENIED|DISABLE|DISABLED|DISALLOW|DISALLOWED|ENFORCE|ENFORCED"
    r"|FAIL_CLOSED|FORBID|FORBIDDEN|ONLY|PREVENT|PROHIBIT|REFUSE|REJECT|REQUIRE|REQUIRED|RESTRICT|RESTRICTED"
    r"|SAFE|STRICT|TRUSTED|VALIDATE|VALIDATION)(?:_|$)"
)


def _names(text: str) -> re.Pattern[str]:
    """A pattern for names without `MLFLOW_`; one that ends in `*` stands for all that begin so."""
    return re.compile("|".join(re.escape(name).replace(r"\*", ".*") for name in text.split()))


_PASSED = _names("""
    CONFIGURE_LOGGING LOGGING_CONFIGURE_LOGGING LOGGING_LEVEL SUPPRESS_PRINTING_URL_TO_STDOUT
    PRINT_MODEL_URLS_ON_CREATION TRUNCATE_LONG_VALUES
    DEFAULT_PREDICTION_DEVICE HUGGINGFACE_* CONVERT_MESSAGES_DICT_FOR_LANGCHAIN
    HTTP_* ENABLE_ASYNC_* ASYNC_* PROMPT_CACHE_* ALIAS_PROMPT_CACHE_* VERSION_PROMPT_CACHE_*
    TRACE_TIMEOUT_* TRACE_BUFFER_* TRACE_SAMPLING_RATIO TRACE_EXTRACT_ATTACHMENTS TRACE_MAX_ATTACHMENT_SIZE
    TRACE_ENABLE_OTLP_DUAL_EXPORT TRACE_PROPAGATE_TO_OTEL_CONTEXT TRACE_USE_ISOLATED_RANDOM_ID_GENERATOR
    ENABLE_OTLP_EXPORTER ENABLE_OTEL_GENAI_SEMCONV USE_DEFAULT_TRACER_PROVIDER USE_BATCH_SPAN_PROCESSOR
    ENABLE_SYSTEM_METRICS_LOGGING SYSTEM_METRICS_*
""")
_WITHHELD = _names("""
    TRACKING_* REGISTRY_* WORKSPACE* ENABLE_WORKSPACES BACKEND_STORE_URI READ_REPLICA_* EXPERIMENT* RUN_ID
    RUN_CONTEXT ACTIVE_MODEL_ID TRACING_DESTINATION TRACING_SQL_* SQL_* UC_* ENABLE_UC_* AUTH_* KERBEROS_*
    S3_* GCS_* BOTO_* EXPERIMENTAL_S3_* PYARROW_* DFS_TMP MYSQL_* SQLALCHEMYSTORE_* ARTIFACT_* ARTIFACTS_*
    DEFAULT_ARTIFACT_ROOT MULTIPART_* ENABLE_MULTIPART_* ENABLE_PROXY_MULTIPART_* PRESIGNED_* MPD_* DOWNLOAD_*
    ENABLE_DBFS_* DBFS_* DATABRICKS_* USE_DATABRICKS_* ENABLE_DB_SDK OPENAI_SECRET_SCOPE SPARK_UDF_*
    SERVER_* FLASK_* GATEWAY_* INTERNAL_GATEWAY_* ENABLE_AI_GATEWAY DEPLOYMENT_* DEPLOYMENTS_* BASIC_AUTH_*
    WEBHOOK_* ICON_URL_* RBAC_* SANDBOX_* ASSISTANT_* ENABLE_ASSISTANT_* ENABLE_REMOTE_ASSISTANT ENABLE_MCP_*
    MCP_* SKILL_* JOB_* JOBS_* IN_JOB_EXECUTOR ONLINE_SCORING_* JUDGE_* GENAI_* EVALUATE_* MODEL_CATALOG_*
    TRACE_ARCHIVAL_* TRACE_ROLLUPS_* TRACE_DELETE_* GET_TRACE_* SEARCH_TRACES_* DELETE_TRACES_*
    MAX_TRACES_* NOTEBOOK_TRACE_*
    SCORING_SERVER_* MODELS_WORKERS PYFUNC_INFERENCE_CONFIG ENABLE_TRACE_IN_SERVING IS_IN_SERVING_ENVIRONMENT
    REQUIREMENTS_INFERENCE_* INPUT_EXAMPLE_* IN_CAPTURE_MODULE_PROCESS CREATE_LOGGED_MODEL_*
    LOG_LOGGED_MODEL_* LOG_MODEL_COMPRESSION LOG_UV_FILES LOCK_MODEL_DEPENDENCIES RECORD_ENV_VARS_*
    CREATE_MODEL_VERSION_* SKIP_* UV_AUTO_DETECT WHEELED_MODEL_* ENV_ROOT MODEL_ENV_* CONDA_* DOCKER_*
    SAGEMAKER_* HOME ENABLE_ARTIFACTS_PROGRESS_BAR ENABLE_SGC_* SGI_NAME TESTING* AUTOLOGGING_TESTING
    RUN_SLOW_TESTS GO_STORE_TESTING TELEMETRY_*
""")
_OPENS_REGISTRY = _names("""
    TRACKING_* REGISTRY_* WORKSPACE_STORE_URI BACKEND_STORE_URI READ_REPLICA_* UC_* AUTH_* KERBEROS_*
    BASIC_AUTH_* FLASK_* WEBHOOK_* MYSQL_* SQLALCHEMYSTORE_* INTERNAL_GATEWAY_*
""")
_STORES = _names("S3_* GCS_* BOTO_* EXPERIMENTAL_S3_* DBFS_* ARTIFACTS_* DEFAULT_ARTIFACT_ROOT")


def passage(name: str) -> Passage:
    """What becomes of the variable `name`, which is one of MLflow's."""
    rest = _MLFLOW.sub("", name, count=1)
    if _SECRET.search(rest):
        return Passage.WITHHELD
    if _RESTRICTS.search(rest) or _PASSED.fullmatch(rest):
        return Passage.PASSED
    return Passage.WITHHELD if _WITHHELD.fullmatch(rest) else Passage.UNKNOWN


def is_mlflows(name: str) -> bool:
    """Whether the variable `name` is one of MLflow's."""
    return _MLFLOW.match(name) is not None


def unknown_variables(names: Iterable[str]) -> list[str]:
    """Those of `names` that are MLflow's and that nobody sorted yet: no version gets them. Sorted."""
    return sorted(name for name in names if is_mlflows(name) and passage(name) is Passage.UNKNOWN)
