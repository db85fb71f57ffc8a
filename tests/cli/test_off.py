"""`canary-router off`: the file is made where the gateway looks for it, whatever else is wrong."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from router.adapters.config.file import ConfigFile
from router.adapters.state.off_file import OffFile
from router.cli import root
from router.errors import ConfigRefused

BROKEN = "models: {sentiment: {split: {production: 90, canray: 10}}}\n"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration whose gateway keeps its state below `tmp_path`."""
    for name in ("STATE_DIRECTORY", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = tmp_path / "router.yaml"
    path.write_text("models: {sentiment: {}}\n")
    return path


def off(config: Path, *options: str) -> Result:
    return CliRunner().invoke(root, ["off", "-c", str(config), *options])


def used(directory: Path) -> Path:
    """As a gateway leaves it."""
    directory.mkdir(mode=0o700, parents=True)
    (directory / "lock").touch()
    return directory


def state_directory(config: Path) -> Path:
    found = ConfigFile(config, {"XDG_STATE_HOME": str(config.parent)}, {}).state_directory()
    assert found is not None
    return found


@pytest.mark.parametrize("models", ["", BROKEN, "models: {a: !!python/object 1}\n", "models: [\n"])
def test_it_is_made_where_the_configuration_says_whatever_is_wrong_with_its_models(
    config: Path, tmp_path: Path, models: str
) -> None:
    directory = used(tmp_path / "state")
    config.write_text(f"server: {{state_dir: {directory}}}\n{models}")

    ended = off(config, "--reason", "errors since 14:00", "--by", "anna")

    asked = OffFile(directory, "").read()
    if models.endswith("[\n"):  # nobody knows whether the file says something else after that
        assert isinstance(ended.exception, ConfigRefused)
        assert asked is None
        ended = off(config, "--state-dir", str(directory), "--reason", "errors since 14:00", "--by", "anna")
        asked = OffFile(directory, "").read()
    assert ended.exit_code == 0, ended.output
    assert asked is not None
    assert asked.why == "anna: errors since 14:00"
    assert f"rm {asked.path}, then `canary-router resume --all" in ended.output


def test_without_a_named_directory_it_is_found_by_registry_and_admin_address(config: Path) -> None:
    config.write_text(f"server: {{admin: 127.0.0.1:9999}}\nregistry: {{uri: http://mlflow:5000}}\n{BROKEN}")
    directory = used(state_directory(config))

    assert off(config).exit_code == 0
    assert OffFile(directory, "").read() is not None


@pytest.mark.parametrize(
    "text",
    [
        "servr: {state_dir: /x}\nmodels: {m: {}}\n",
        "server: {admin: nowhere}\nmodels: {m: {}}\n",
        "server: [\n",
    ],
    ids=["a misspelled section", "a wrong address", "no YAML"],
)
def test_where_nobody_knows_the_directory_it_names_those_there_are(config: Path, text: str) -> None:
    directory = used(state_directory(config))
    config.write_text(text)

    refused = off(config).exception

    assert isinstance(refused, ConfigRefused)
    assert f"--state-dir DIR it is not needed. Gateways of this user have used {directory}." in str(refused)
    assert OffFile(directory, "").read() is None


def test_a_directory_that_no_gateway_has_used_is_no_success(config: Path, tmp_path: Path) -> None:
    """The gateway may run as a service, whose directory is another one."""
    other = used(tmp_path / "canary-router" / "other")

    ended = off(config)

    assert ended.exit_code == 1
    assert "the canaries are not off" in ended.output
    assert f"Gateways of this user have used {other}." in ended.output
    assert OffFile(state_directory(config), "").read() is not None, "the next start finds it"


def test_each_user_who_runs_a_gateway_on_a_shared_volume_has_the_file(config: Path, tmp_path: Path) -> None:
    one, two = (used(tmp_path / "volume" / uid) for uid in ("10001", "10002"))

    assert off(config, "--state-dir", str(tmp_path / "volume")).exit_code == 0

    assert [(place / "canary-off").exists() for place in (one, two)] == [True, True]


def test_a_file_that_can_not_be_made_is_reported(config: Path) -> None:
    ended = off(config, "--state-dir", "/proc/canary-router")

    assert ended.exit_code == 1
    assert "/proc/canary-router: the file can not be made: No such file" in ended.output


@pytest.mark.parametrize("reason", ["", "two\nlines", "x" * 501])
def test_a_reason_is_one_line(config: Path, reason: str) -> None:
    assert off(config, "--reason", reason).exit_code == 2
