"""The pod that the chart makes: what it may, where it writes, what it takes, when it is waited for."""

import json
import re

import pytest

from router.settings import Settings
from tests.deploy.chart import NAME, VALUES, Object, container_of, named, objects, pod_of
from tests.deploy.test_chart import image_environment
from tests.deploy.test_image import final_stage, only


def test_all_that_is_written_is_on_a_volume_and_the_rest_is_read_only() -> None:
    """Where the image's environment says that caches and state lie."""
    pod = pod_of(objects(VALUES))
    container = pod["containers"][0]
    written = {m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")}
    environment = image_environment()

    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert written == {environment["XDG_CACHE_HOME"], environment["STATE_DIRECTORY"], "/tmp", "/dev/shm"}
    sizes = {v["name"]: v["emptyDir"]["sizeLimit"] for v in pod["volumes"] if "emptyDir" in v}
    assert sizes == {"cache": "24Gi", "state": "512Mi", "temporary": "2Gi", "shared-memory": "64Mi"}


def test_the_configuration_is_mounted_as_a_directory_where_the_image_looks_for_it() -> None:
    """A file that is mounted alone (subPath) would never change."""
    mounts = container_of(objects(VALUES))["volumeMounts"]
    (config,) = [mount for mount in mounts if mount["name"] == "config"]

    assert f"{config['mountPath']}/router.yaml" == image_environment()["CANARY_ROUTER_CONFIG"]
    assert not [mount for mount in mounts if "subPath" in mount]
    assert container_of(objects(VALUES))["args"] == json.loads(only("CMD"))


def test_a_pod_can_do_no_more_than_it_must() -> None:
    """As the Pod Security Standard `restricted` asks, under any user id that is not root, in group 0."""
    pod = pod_of(objects(VALUES))
    context = pod["containers"][0]["securityContext"]

    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsGroup": 0,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert pod["automountServiceAccountToken"] is False
    assert named(objects(VALUES), "ServiceAccount")["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert not [volume for volume in pod["volumes"] if "hostPath" in volume]
    (made,) = [arguments for name, arguments in final_stage() if name == "RUN"]
    assert re.search(r"install -d -o \d+ -g 0 -m 1770", made), "directories of the image are group 0's"


def test_a_volume_of_all_pods_is_opened_to_a_group_once() -> None:
    values = {**VALUES, "cache": {"persistent": True}, "fsGroup": 10001, "runAsUser": 1_000_680_000}
    found = objects(values)
    context = pod_of(found)["securityContext"]

    assert (context["runAsUser"], context["fsGroup"]) == (1_000_680_000, 10001)
    assert context["fsGroupChangePolicy"] == "OnRootMismatch"
    claim = named(found, "PersistentVolumeClaim", f"{NAME}-cache")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert {"claimName": f"{NAME}-cache"} in [
        v.get("persistentVolumeClaim") for v in pod_of(found)["volumes"]
    ]


@pytest.mark.parametrize(
    ("models", "values", "mebibytes"),
    [
        # 768 of the gateway, 64 of /dev/shm, 512 of unsent answers; two versions of 512, and one that loads
        ("sentiment: {}", {}, 1344 + 2 * 512 + 512),
        ("sentiment:", {"server": {"unsent_answers_mib": 100}}, 932 + 3 * 512),
        ("a: {}\n  b: {}", {}, 1344 + 4 * 512 + 512),
        ("a: {workers: 3}\n  b: {}", {}, 1344 + 2 * 3 * 512 + 2 * 512 + 3 * 512),
        ("a: {load_memory_mib: 2000, worker_memory_mib: 100}\n  b: {}", {}, 1344 + 3 * 2100 + 2 * 512),
        ("a: {split: {production: 80, canary: 20, third: 0}}", {}, 1344 + 4 * 512),
        ("a: {keep_previous_seconds: 3600}", {}, 1344 + 4 * 512),
        ("a: {environment: own}", {}, 1344 + 3 * (512 + 192)),
        ("a: {}", {"memory": {"workerMiB": 100, "gatewayMiB": 200}, "sharedMemoryMiB": 1}, 713 + 300),
        ("a: {}", {"memory": {"limitMiB": 4096}}, 4096),
    ],
)
def test_memory_is_asked_for_what_is_loaded_at_once(models: str, values: Object, mebibytes: int) -> None:
    resources = container_of(objects({**VALUES, "config": f"models:\n  {models}\n", **values}))["resources"]

    assert resources["requests"]["memory"] == resources["limits"]["memory"] == f"{mebibytes}Mi"


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"split": {"production": 100}},
        {"split": {"production": 50, "third": 50}},
        {"split": {"production": 80, "canary": 20, "third": 0}},
        {"aliases": {"production": "champion", "previous": "former"}},
    ],
    ids=str,
)
def test_as_many_versions_are_reckoned_with_as_the_gateway_loads(model: Object) -> None:
    """Of each role one, whatever its share."""
    roles = Settings.model_validate({"models": {"a": model}}).models["a"].aliases.roles
    config = json.dumps({"a": model}, indent=2)
    memory = {"gatewayMiB": 256, "workerMiB": 100}
    small = {"memory": memory, "sharedMemoryMiB": 1, "server": {"unsent_answers_mib": 1}}
    values = {**VALUES, **small, "config": f"models: {config}\n"}

    assert (
        container_of(objects(values))["resources"]["limits"]["memory"] == f"{258 + 100 * len(roles) + 100}Mi"
    )


@pytest.mark.parametrize(
    ("config", "gibibytes"),
    [
        ("models: {a: }", 24),
        ("models: {a: }\nregistry: {cache_max_gib: 2}", 3),
        ("models: {a: }\nenvironments: {max_gib: 30}", 24),
        (
            "registry: {cache_max_gib: 10}\nenvironments: {max_gib: 30}\nmodels: {a: {environment: own}}",
            48,
        ),
        ("models: {a: {environment: own}, b: {environment: own}}", 48),
    ],
)
def test_the_cache_has_room_for_its_bounds_and_a_fifth_more(config: str, gibibytes: int) -> None:
    pod = pod_of(objects({**VALUES, "config": config}))
    (cache,) = [volume for volume in pod["volumes"] if volume["name"] == "cache"]

    assert cache["emptyDir"]["sizeLimit"] == f"{gibibytes}Gi"


@pytest.mark.parametrize(("seconds", "grace"), [({}, 30), ({"drain_seconds": 60.5}, 76)])
def test_a_pod_is_waited_for_longer_than_it_drains(seconds: Object, grace: int) -> None:
    pod = pod_of(objects({**VALUES, "server": seconds}))

    assert pod["terminationGracePeriodSeconds"] == grace
    assert pod["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    without = pod_of(objects({**VALUES, "preStopSeconds": 0}))
    assert without["terminationGracePeriodSeconds"] == 25
    assert "lifecycle" not in without["containers"][0]


def test_a_slow_start_is_waited_for_and_a_slow_load_never_ended() -> None:
    container = container_of(objects({**VALUES, "startupSeconds": 301}))
    probe = container["startupProbe"]

    assert probe["failureThreshold"] * probe["periodSeconds"] >= 301
    assert "readyz" not in json.dumps([probe, container["livenessProbe"]])
    deployment = named(objects({**VALUES, "readySeconds": 777}), "Deployment")["spec"]
    assert deployment["progressDeadlineSeconds"] == 777
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
