"""The commands `promote` and `rollback`: bad input, exit codes, and what they need to know beforehand."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from router.cli import root
from router.promotion.ports import RoleNames
from tests.cli.servers import Reply, Request, serving
from tests.promotion.fakes import ALIASES, GATEWAY, STAGES, FakeGateways, FakeRegistry

Invoke = Callable[..., Result]
NOBODY = "http://127.0.0.1:9"
REASON = ("--reason", "all checks pass")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CANARY_ROUTER_SERVER__ADMIN_TOKEN", raising=False)
    path = tmp_path / "router.yaml"
    staged = '{aliases: {production: "stage:Production", canary: "stage:Staging"}}'
    path.write_text(
        f"server: {{admin: 127.0.0.1:9}}\nregistry: {{uri: 'sqlite:///{tmp_path}/absent.db'}}\n"
        f"models: {{sentiment: , staged: {staged}}}\n"
    )
    return path


@pytest.fixture
def invoke(config: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Runs a command on `config`."""
    for name in ("MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")

    def run(command: str, *arguments: str, config: Path = config) -> Result:
        return CliRunner().invoke(root, [command, "-c", str(config), *arguments])

    return run


@contextmanager
def gateway(gateways: FakeGateways) -> Iterator[str]:
    """What `gateways` show, over HTTP."""

    def answer(request: Request) -> Reply:
        if request.method == "GET":
            (document,) = gateways.get(request.path).values()
        else:
            (document,) = gateways.post(request.path, json.loads(request.body)).values()
        return Reply(document)

    with serving(answer) as url:
        yield url


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    """What the commands open, whatever the address is."""
    found = FakeRegistry(production=1, canary=2)
    monkeypatch.setattr("router.promotion.registry.MlflowRegistry", lambda *_: found)
    return found


@pytest.mark.parametrize("command", ["promote", "rollback"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing argument 'MODEL'"),
        (("sentiment",), "Missing option '--reason'"),
        (("sentiment", "--reason", ""), "--reason must not be empty"),
        (("sentiment", "--reason", "  "), "--reason must not be empty"),
        (("sentiment", "--reason", "x" * 501), "--reason has 501 characters, 500 at most"),
        (("sentiment", "--reason", "a\nb"), "--reason must hold no control characters"),
        (("sentiment", *REASON, "--by", ""), "--by must not be empty"),
        (("sentiment", *REASON, "--by", "x" * 101), "--by has 101 characters, 100 at most"),
        (("sentiment", *REASON, "--by", "a\x1b[2J"), "--by must hold no control characters"),
        (("sentiment", *REASON, "--wait-seconds", "-1"), "--wait-seconds': must be 0 to 86400"),
        (("sentiment", *REASON, "--wait-seconds", "nan"), "--wait-seconds': must be 0 to 86400"),
        (("sentiment", *REASON, "--wait-seconds", "inf"), "--wait-seconds': must be 0 to 86400"),
        (("sentiment", *REASON, "--wait-seconds", "soon"), "--wait-seconds': 'soon' is not a valid float"),
        (("sentiment", *REASON, "--url", "gw:8081"), "--url must begin with http:// or https://"),
        (("sentimnt", *REASON), "no model 'sentimnt' in the configuration; there are: sentiment, staged"),
    ],
)
def test_bad_input_is_a_usage_error_that_names_it(
    invoke: Invoke, registry: FakeRegistry, command: str, arguments: tuple[str, ...], said: str
) -> None:
    done = invoke(command, *arguments)

    assert done.exit_code == 2
    assert said in done.stderr
    assert registry.aliases == {"production": 1, "canary": 2}


def test_an_address_without_a_scheme_is_named_before_anything_is_written(
    invoke: Invoke, registry: FakeRegistry
) -> None:
    registry.aliases = {"production": 2, "previous": 1}

    done = invoke("rollback", "sentiment", *REASON, "--url", "gw:8081")

    assert (done.exit_code, "--url must begin with http:// or https://" in done.stderr) == (2, True)
    assert registry.aliases == {"production": 2, "previous": 1}
    assert not any(registry.all_tags.values())


def test_the_configuration_names_the_alias_of_what_was_production_before(
    invoke: Invoke, registry: FakeRegistry, config: Path
) -> None:
    config.write_text(config.read_text().replace("sentiment: ,", "sentiment: {aliases: {previous: before}},"))
    with gateway(FakeGateways(registry)) as url:
        promoted = invoke("promote", "sentiment", *REASON, "--url", url)
        after = dict(registry.aliases)
        rolled_back = invoke("rollback", "sentiment", *REASON, "--url", url)

    assert (promoted.exit_code, rolled_back.exit_code) == (0, 0), promoted.output + rolled_back.output
    assert after == {"production": 2, "before": 1}
    assert registry.aliases == {"production": 1, "before": 1}


def test_an_alias_that_serves_is_not_overwritten_by_what_was_before(
    invoke: Invoke, registry: FakeRegistry, tmp_path: Path
) -> None:
    """By what a gateway says; a configuration can not say so."""
    registry.aliases = {"production": 1, "previous": 2}
    absent, names = tmp_path / "absent.yaml", RoleNames("production", "previous")
    with gateway(FakeGateways(registry, names)) as url:
        done = invoke("promote", "sentiment", *REASON, "--url", url, config=absent)

    assert (done.exit_code, "@previous is an alias of a role already" in done.stderr) == (2, True)
    assert registry.aliases == {"production": 1, "previous": 2}


@pytest.mark.parametrize("version", ["0", "-1", "v2", "1.5", str(2**63)])
def test_a_version_is_a_whole_number_from_1(invoke: Invoke, version: str) -> None:
    done = invoke("rollback", "sentiment", *REASON, "--to", version)

    assert (done.exit_code, "Invalid value for '--to'" in done.stderr) == (2, True)


def test_a_canary_that_is_a_stage_can_not_be_kept(invoke: Invoke) -> None:
    done = invoke("promote", "staged", *REASON, "--keep-canary")

    assert (done.exit_code, "--keep-canary: the canary of staged is what is in stage" in done.stderr) == (
        2,
        True,
    )


@pytest.mark.parametrize("command", ["promote", "rollback"])
def test_a_configuration_that_is_not_valid_is_named_and_the_way_without_it(
    invoke: Invoke, tmp_path: Path, command: str
) -> None:
    """`main` prints every problem, and ends with 2."""
    done = invoke(command, "sentiment", *REASON, config=tmp_path / "absent.yaml")

    assert "absent.yaml" in str(done.exception)
    assert "--url http://HOST:PORT, and --registry URI" in str(done.exception)
    assert type(done.exception).__name__ == "ConfigRefused"


def test_a_registry_that_this_machine_does_not_have_says_how_to_name_it(invoke: Invoke) -> None:
    done = invoke("promote", "sentiment", *REASON)

    assert done.exit_code == 1
    assert "absent.db" in done.stderr
    assert "--registry names it as this machine does" in done.stderr


def test_a_registry_that_was_named_is_not_explained(invoke: Invoke, tmp_path: Path) -> None:
    done = invoke("promote", "sentiment", *REASON, "--registry", f"sqlite:///{tmp_path}/other.db")

    assert (done.exit_code, "other.db" in done.stderr, "--registry" in done.stderr) == (1, True, False)


def test_a_gateway_that_does_not_answer_ends_a_promotion_with_3_and_a_rollback_is_done(
    invoke: Invoke, registry: FakeRegistry
) -> None:
    refused = invoke("promote", "sentiment", *REASON)
    assert refused.exit_code == 3
    assert "not every gateway answers: no gateway answers at http://127.0.0.1:9" in refused.stderr
    assert registry.aliases == {"production": 1, "canary": 2}

    with gateway(FakeGateways(registry)) as url:
        done = invoke("rollback", "sentiment", *REASON, "--to", "3", "--url", url, "--url", NOBODY)

    assert (done.exit_code, registry.aliases["production"]) == (0, 3)
    assert f"warning: no gateway answers at {NOBODY}" in done.stdout
    assert done.stdout.endswith("done\n")


def test_a_token_that_this_machine_does_not_have_is_in_no_rollbacks_way(
    invoke: Invoke, registry: FakeRegistry, config: Path
) -> None:
    """The configuration is the gateway's, and so is the file that it names."""
    config.write_text(config.read_text().replace("admin:", "admin_token_file: /nowhere/token, admin:"))
    registry.aliases = {"production": 2, "canary": 2, "previous": 1}
    with gateway(FakeGateways(registry)) as url:
        done = invoke("rollback", "sentiment", *REASON, "--url", url)

    assert (done.exit_code, registry.aliases["production"]) == (0, 1), done.output
    assert done.stdout.count("server.admin_token_file: can not be read") == 2  # neither capped nor polled


def test_peers_whose_name_only_their_own_network_knows_are_in_no_rollbacks_way(
    invoke: Invoke, registry: FakeRegistry, config: Path
) -> None:
    reachable = config.read_text().replace("127.0.0.1:9", "0.0.0.0:9")
    config.write_text("fleet: {peers: ['dns:no-such-name.invalid:8081']}\n" + reachable)

    done = invoke("rollback", "sentiment", *REASON, "--to", "3")
    refused = invoke("promote", "sentiment", *REASON)

    assert (done.exit_code, registry.aliases["production"]) == (3, 3)
    assert (
        "no gateway answers at http://no-such-name.invalid:8081: [Errno -2] Name or service not known"
        in done.output
    )
    assert (refused.exit_code, registry.aliases["production"]) == (3, 3)


def test_a_password_in_an_address_is_not_shown(invoke: Invoke, registry: FakeRegistry) -> None:
    done = invoke("rollback", "sentiment", *REASON, "--to", "3", "--url", "http://ann:hidden@127.0.0.1:9")

    assert done.exit_code == 3
    assert "hidden" not in done.output


def test_it_is_promoted_by_the_users_name_unless_another_is_given(
    invoke: Invoke, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "carol")
    with gateway(FakeGateways(registry)) as url:
        done = invoke("promote", "sentiment", *REASON, "--url", url)

    assert done.exit_code == 0, done.output
    record = json.loads(registry.all_tags[2]["canary_router.promotion"])
    assert (record["by"], record["reason"], record["verdict"]) == ("carol", "all checks pass", "pass")


def test_without_a_terminal_not_enough_data_needs_yes(invoke: Invoke, registry: FakeRegistry) -> None:
    with gateway(FakeGateways(registry, verdict="not_enough_data")) as url:
        refused = invoke("promote", "sentiment", *REASON, "--url", url)
        forced = invoke("promote", "sentiment", *REASON, "--url", url, "--force")
        assert registry.aliases == {"production": 1, "canary": 2}
        done = invoke("promote", "sentiment", *REASON, "--url", url, "--yes")

    assert (refused.exit_code, forced.exit_code, done.exit_code) == (1, 1, 0)
    assert "3 faulty keys are needed at 5 %." in refused.stdout
    assert "--yes promotes it all the same" in refused.stderr


def test_fail_needs_force(invoke: Invoke, registry: FakeRegistry) -> None:
    with gateway(FakeGateways(registry, verdict="fail")) as url:
        refused = invoke("promote", "sentiment", *REASON, "--url", url, "--yes")
        done = invoke("promote", "sentiment", *REASON, "--url", url, "--force")

    assert (refused.exit_code, done.exit_code) == (1, 0)
    assert "--force promotes it all the same" in refused.stderr


def test_who_does_not_wait_reads_so(invoke: Invoke, registry: FakeRegistry) -> None:
    with gateway(FakeGateways(registry)) as url:
        done = invoke("promote", "sentiment", *REASON, "--url", url, "--no-wait")

    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "written, and not waited for")


@pytest.mark.parametrize("names", [ALIASES, STAGES], ids=["aliases", "stages"])
def test_without_a_configuration_the_gateways_say_what_the_registry_calls_the_roles(
    invoke: Invoke, registry: FakeRegistry, tmp_path: Path, names: Any
) -> None:
    """A file that somebody broke is in no rollback's way."""
    registry.stages |= {1: "Production"}
    broken = tmp_path / "broken.yaml"
    broken.write_text("models: [")
    with gateway(FakeGateways(registry, names)) as url:
        unnamed = invoke("rollback", "sentiment", *REASON, "--to", "3", "--url", url, config=broken)
        done = invoke(
            "rollback", "sentiment", *REASON, "--to", "3", "--url", url, "--registry", "x", config=broken
        )

    assert (unnamed.exit_code, "name the registry: --registry" in unnamed.stderr) == (2, True)
    assert done.exit_code == 0, done.output
    assert registry.read("sentiment", names.production) == {names.production: 3}


def test_what_a_gateway_says_can_not_write_to_the_terminal(invoke: Invoke, registry: FakeRegistry) -> None:
    def spoil(state: dict[str, Any]) -> None:
        for model in state["models"].values():
            if "verdicts" in model:
                model["verdicts"]["canary"] = {"verdict": "fail", "why": "\x1b]0;title\x07\x1b[2J"}

    changes = {GATEWAY: spoil}
    with gateway(FakeGateways(registry, changes=changes)) as url:
        refused = invoke("promote", "sentiment", *REASON, "--url", url)

    assert refused.exit_code == 1
    assert "\x1b" not in refused.output
