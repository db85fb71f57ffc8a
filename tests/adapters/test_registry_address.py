"""Who gets the registry's credentials."""

from router.adapters.registry.agent import RegistryAddress, registry_environment
from router.core.environment_variables import child_environment

ENVIRON = {
    "PATH": "/usr/bin",
    "HTTPS_PROXY": "http://proxy",
    "MLFLOW_TRACKING_TOKEN": "t",
    "MLFLOW_TRACKING_PASSWORD": "p",
    "AWS_SECRET_ACCESS_KEY": "a",
    "AZURE_STORAGE_CONNECTION_STRING": "z",
    "GOOGLE_APPLICATION_CREDENTIALS": "/g.json",
    "DATABRICKS_TOKEN": "d",
    "CANARY_ROUTER_SERVER__ADMIN_TOKEN_FILE": "/secret",
}


def test_what_workers_are_not_born_with_is_told_to_who_talks_to_the_registry() -> None:
    reported = registry_environment(ENVIRON)

    assert reported.keys() == {
        name for name in ENVIRON if name.startswith(("MLFLOW", "AWS", "AZURE", "GOOGLE", "DATA"))
    }
    assert not reported.keys() & child_environment(ENVIRON).keys()


def test_our_own_settings_are_reported_to_nobody() -> None:
    assert not any(name.startswith("CANARY_ROUTER_") for name in registry_environment(ENVIRON))


def test_an_address_does_not_show_its_credentials() -> None:
    address = RegistryAddress(
        "http://ada:hunter2@mlflow", "http://ada:hunter2@mlflow", {"MLFLOW_TRACKING_TOKEN": "t0ken"}
    )

    assert "hunter2" not in repr(address)
    assert "t0ken" not in repr(address)
