"""Objects for Kubernetes that run one version where a gateway looks for it. Pure: nothing is applied here."""

import re
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from router.core.version_address import PLACEHOLDER, VersionAddress

Kind = Literal["inferenceservice", "deployment"]
Manifest = dict[str, Any]

MLFLOW_IMAGE = "ghcr.io/mlflow/mlflow"
MLSERVER_IMAGE = "docker.io/seldonio/mlserver:1.7.1-mlflow"
PREDICTOR = "-predictor"
"""What KServe puts behind the name of an InferenceService for the Service that is asked."""
_CONTAINER_BEFORE_HOST = ("abfs", "abfss", "wasb", "wasbs")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MODEL = "/mnt/models"
_USER = 10001


class NotRendered(ValueError):
    """These objects can not be made of what is known; the sentence says what to change."""


@dataclass(frozen=True, slots=True)
class VersionToRun:
    """One version, and where the gateway will look for it."""

    model: str
    number: int
    address: VersionAddress
    base: str
    """Scheme, host and port of `where.http`, with `{version}` in it."""
    registry: str
    """Where `models:/NAME/VERSION` is looked up from within the cluster; without credentials."""
    mlflow: str
    """Release of MLflow that the files are fetched and, with its protocol, served by."""
    source: str | None = None
    """Where the version's files lie, as KServe reads them; None: not named."""
    image: str | None = None
    """Of the server; None: that of the engine."""


@dataclass(frozen=True, slots=True)
class _Place:
    name: str
    namespace: str | None
    port: int


def manifests(kind: Kind, wanted: VersionToRun) -> list[Manifest]:
    """An InferenceService of KServe, or a Deployment and its Service. Raises NotRendered."""
    place = _place(wanted)
    if kind == "inferenceservice":
        return [_inference_service(wanted, place)]
    return [_deployment(wanted, place), _service(wanted, place)]


def without_credentials(uri: str) -> str:
    """`uri` as it may stand in Git: a pod gets its credentials from a Secret."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else uri


def has_credentials(uri: str) -> bool:
    """Whether there is a user in `uri`; what Azure's addresses have before the @ is a container."""
    parts = urlsplit(uri)
    user, at, _ = parts.netloc.rpartition("@")
    return bool(at) and (parts.scheme not in _CONTAINER_BEFORE_HOST or ":" in user)


def _place(wanted: VersionToRun) -> _Place:
    """The Service that the address names: `NAME.NAMESPACE`, and what may follow in a cluster."""
    parts = urlsplit(wanted.base.replace(PLACEHOLDER, str(wanted.number)))
    name, *rest = (parts.hostname or "").split(".")
    if PLACEHOLDER not in urlsplit(wanted.base).netloc.partition(".")[0]:
        raise NotRendered("the first part of where.http has to hold {version}: it is the name of a Service")
    if not _LABEL.fullmatch(name) or (len(rest) > 1 and rest[1] != "svc"):
        raise NotRendered("where.http has to name a Service of the cluster, NAME.NAMESPACE")
    return _Place(name, rest[0] if rest else None, parts.port or (443 if parts.scheme == "https" else 80))


def _labels(wanted: VersionToRun, name: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/version": str(wanted.number),
        "app.kubernetes.io/component": "model",
    }


def _metadata(wanted: VersionToRun, place: _Place, name: str) -> Manifest:
    namespace = {"namespace": place.namespace} if place.namespace else {}
    # A registered model may have any name, which a label may not.
    annotations = {"canary-router/registered-model": wanted.model}
    return {"name": name, **namespace, "labels": _labels(wanted, name), "annotations": annotations}


def _inference_service(wanted: VersionToRun, place: _Place) -> Manifest:
    if not place.name.endswith(PREDICTOR):
        raise NotRendered(
            f"KServe answers at NAME{PREDICTOR}: have where.http name NAME-v{{version}}{PREDICTOR}.NAMESPACE"
        )
    if wanted.source is None:
        raise NotRendered(
            "name where its files lie by --source: KServe reads s3://, gs://, pvc:// and others"
        )
    if wanted.address.engine != "v2":
        raise NotRendered("KServe's runtime for MLflow speaks v2: say where.protocol: v2")
    name = place.name.removesuffix(PREDICTOR)
    if wanted.address.name != name:
        raise NotRendered(
            f"KServe calls its model {name}: say where.path: /v2/models/"
            f"{name.replace(str(wanted.number), PLACEHOLDER)}/infer"
        )
    model: Manifest = {
        "modelFormat": {"name": "mlflow"},
        "protocolVersion": "v2",
        "storageUri": wanted.source,
        # By it the gateway sees that it is this version, and no other.
        "env": [{"name": "MLSERVER_MODEL_VERSIONS", "value": f'["{wanted.number}"]'}],
    }
    if wanted.image is not None:
        model["image"] = wanted.image
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": _metadata(wanted, place, name),
        "spec": {"predictor": {"minReplicas": 1, "model": model}},
    }


def _deployment(wanted: VersionToRun, place: _Place) -> Manifest:
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [_fetch(wanted)],
        "containers": [_server(wanted, place)],
        "volumes": [{"name": "model", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
    }
    selector = {"app.kubernetes.io/name": place.name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(wanted, place, place.name),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": selector},
            "template": {"metadata": {"labels": _labels(wanted, place.name)}, "spec": pod},
        },
    }


def _fetch(wanted: VersionToRun) -> Manifest:
    if wanted.source is None and not wanted.registry.startswith(("http://", "https://")):
        raise NotRendered("no pod reaches this registry: name where the version's files lie by --source")
    uri = wanted.source or f"models:/{wanted.model}/{wanted.number}"
    return {
        "name": "fetch",
        "image": f"{MLFLOW_IMAGE}:v{wanted.mlflow}",
        "command": ["mlflow", "artifacts", "download", "-u", uri, "-d", _MODEL],
        "env": [{"name": "MLFLOW_TRACKING_URI", "value": wanted.registry}, *_HOME],
        **_CONFINED,
    }


def _server(wanted: VersionToRun, place: _Place) -> Manifest:
    port = 8080 if place.port < 1024 else place.port
    own = {"path": urlsplit(wanted.address.ready).path, "port": "http"}
    common = {
        "name": "server",
        "ports": [{"name": "http", "containerPort": port}],
        "readinessProbe": {"httpGet": own, "periodSeconds": 5},
        **_CONFINED,
    }
    if wanted.address.engine == "mlflow":
        arguments = ["-m", _MODEL, "-h", "0.0.0.0", "-p", str(port), "--env-manager", "local"]
        return {
            **common,
            "image": wanted.image or f"{MLFLOW_IMAGE}:v{wanted.mlflow}",
            "command": ["mlflow", "models", "serve", *arguments],
            "env": _HOME,
        }
    settings = {
        "MLSERVER_MODEL_NAME": wanted.address.name,
        # By it the gateway sees that it is this version, and no other.
        "MLSERVER_MODEL_VERSIONS": f'["{wanted.number}"]',
        "MLSERVER_MODEL_IMPLEMENTATION": "mlserver_mlflow.MLflowRuntime",
        "MLSERVER_MODEL_URI": _MODEL,
        "MLSERVER_HTTP_PORT": str(port),
    }
    return {
        **common,
        "image": wanted.image or MLSERVER_IMAGE,
        "command": ["mlserver", "start", _MODEL],
        "env": [*({"name": name, "value": value} for name, value in settings.items()), *_HOME],
    }


def _service(wanted: VersionToRun, place: _Place) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(wanted, place, place.name),
        "spec": {
            "selector": {"app.kubernetes.io/name": place.name},
            "ports": [{"name": "http", "port": place.port, "targetPort": "http"}],
        },
    }


_HOME: list[Manifest] = [{"name": "HOME", "value": "/tmp"}]  # noqa: S108 - a volume of the pod's own
_CONFINED: Manifest = {
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    },
    "volumeMounts": [
        {"name": "model", "mountPath": _MODEL},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - as above
    ],
}
