"""`abort` and `resume` over several gateways, and what `status` says of caps."""

import getpass
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from router.cli import root
from tests.cli.conftest import Serve
from tests.cli.servers import answering
from tests.page import documents

CAP = {
    "alias": "canary",
    "version": 8,
    "to_percent": 0.0,
    "by": "ann",
    "reason": "p95 is 2 s",
    "timestamp": 1_763_650_000.0,
}
LINE = "canary v8 is capped at 0 % by ann: p95 is 2 s"
HOLDS: dict[str, Any] = {"break_glass": None, "durable": True, "not_durable_because": ""}
ABORTED = {"model": "sentiment", "capped": [CAP], "next_versions": [], "caps": [CAP], **HOLDS}
RESUMED = {"model": "sentiment", "lifted": [{"alias": "canary", "version": 8}], "caps": [], **HOLDS}


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(root, [*arguments, "-c", str(config)])


def urls(*gateways: Any) -> list[str]:
    return [part for gateway in gateways for part in ("--url", getattr(gateway, "url", gateway))]


def test_an_abort_reaches_every_gateway_and_says_what_is_capped_there(serve: Serve, config: Path) -> None:
    next_one = {"next_versions": [{"alias": "canary", "version": 9}]}
    one = serve(ABORTED)
    two = serve(ABORTED | next_one | {"durable": False, "not_durable_because": "no space left"})
    done = run(config, "abort", "sentiment", "--reason", "p95 is 2 s", "--by", "ann", *urls(one, two))

    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        f"{one.url}: {LINE}",
        f"{two.url}: {LINE}",
        f"{two.url}: canary v9 is to serve next, and starts without this cap",
        f"{two.url}: not durable: no space left",
    ]
    for gateway in (one, two):
        [(method, path, authorization, body)] = gateway.seen
        assert (method, path, (authorization or "")[:6]) == ("POST", "/-/abort", "Bearer")
        assert json.loads(body) == {
            "model": "sentiment",
            "to": 0.0,
            "all_versions": False,
            "reason": "p95 is 2 s",
            "by": "ann",
        }


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (["--to", "0.125"], {"to": 0.125}),
        (["--all-versions"], {"all_versions": True}),
        (["--alias", "shadow", "--version", "8"], {"alias": "shadow", "version": 8}),
    ],
    ids=str,
)
def test_what_is_asked_for_is_what_is_sent(
    serve: Serve, config: Path, arguments: list[str], sent: dict[str, Any]
) -> None:
    gateway = serve(ABORTED)
    assert run(config, "abort", "m", "--reason", "x", *arguments, *urls(gateway)).exit_code == 0
    body = json.loads(gateway.seen[0][3])
    assert body == body | sent
    assert body["by"] == getpass.getuser()


@pytest.mark.parametrize(
    "arguments",
    [
        ["abort", "m"],
        ["abort", "m", "--reason", ""],
        ["abort", "m", "--reason", "x" * 501],
        ["abort", "m", "--reason", "two\nlines"],
        ["abort", "m", "--reason", "x", "--by", "\x07"],
        ["abort", "m", "--reason", "x", "--to", "101"],
        ["abort", "m", "--reason", "x", "--to", "half"],
        ["abort", "m", "--reason", "x", "--version", "0"],
        ["abort", "m", "--reason", "x", "--version", "8", "--all-versions"],
        ["resume", "m"],
        ["resume", "--reason", "x"],
        ["resume", "m", "--all", "--reason", "x"],
    ],
    ids=" ".join,
)
def test_what_can_not_be_meant_is_a_usage_error_and_nothing_is_sent(
    serve: Serve, config: Path, arguments: list[str]
) -> None:
    gateway = serve(ABORTED)
    assert run(config, *arguments, *urls(gateway)).exit_code == 2
    assert gateway.seen == []


@pytest.mark.parametrize("verb", ["abort", "resume"])
def test_a_gateway_that_refuses_or_does_not_answer_is_named_and_the_others_do_it(
    serve: Serve, config: Path, nobody: str, verb: str
) -> None:
    good = serve(ABORTED if verb == "abort" else RESUMED)
    bad = serve({"errors": ["model: no such registered model here"]}, 404)

    done = run(config, verb, "sentiment", "--reason", "x", *urls(nobody, good))
    assert (done.exit_code, len(good.seen)) == (3, 1)
    assert f"no gateway answers at {nobody}" in done.stderr
    assert (f"go on capping: {nobody}" in done.stderr) is (verb == "resume")

    done = run(config, verb, "sentiment", "--reason", "x", *urls(nobody, bad, good))
    assert (done.exit_code, len(good.seen)) == (1, 2)
    assert f"{bad.url}: refused: model: no such registered model here" in done.stderr


def test_a_resume_says_what_has_its_share_back_and_what_is_capped_still(serve: Serve, config: Path) -> None:
    of_all = CAP | {"version": None, "to_percent": 2.5}
    left = serve(RESUMED | {"caps": [of_all], "break_glass": {"since": 1.0, "why": "SIGUSR2 came"}})
    none = serve(RESUMED | {"lifted": []})
    done = run(config, "resume", "sentiment", "--reason", "mended", *urls(left, none))

    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{left.url}: canary v8 has its share back, as far as the configuration gives it one",
        f"{left.url}: still every canary is capped at 2.5 % by ann: p95 is 2 s",
        f"{left.url}: every canary is off: SIGUSR2 came",
        f"{none.url}: there was no such cap",
    ]


def test_break_glass_is_ended_by_all(serve: Serve, config: Path) -> None:
    gateway = serve({"lifted": [], **HOLDS})
    done = run(config, "resume", "--all", "--reason", "over", "--by", "ann", *urls(gateway))

    assert done.stdout == f"{gateway.url}: canaries have their shares back, but for those that are capped\n"
    assert json.loads(gateway.seen[0][3]) == {"all": True, "reason": "over", "by": "ann"}


def test_json_has_every_gateways_reply(serve: Serve, config: Path, nobody: str) -> None:
    good, bad = serve(ABORTED), serve({"errors": ["to: must be between 0 and 100 percent"]}, 422)
    done = run(config, "abort", "m", "--reason", "x", "-o", "json", *urls(good, bad, nobody))

    first, second, third = json.loads(done.stdout)
    assert first == {"gateway": good.url, "answer": ABORTED}
    assert second == {
        "gateway": bad.url,
        "status": 422,
        "refused": "to: must be between 0 and 100 percent",
    }
    assert (third["gateway"], done.exit_code) == (nobody, 1)


def test_status_says_who_capped_what_why_and_since_when() -> None:
    model = {"aliases": {}, "versions": {}, "split": {}, "verdicts": {}, "warnings": []}
    state: dict[str, Any] = {
        **documents.STATE_OF_A_GATEWAY,
        "models": {"m": {**model, "caps": [CAP, CAP | {"version": None}]}},
        "break_glass": {"since": 1_763_650_000.0, "why": "SIGUSR2 came"},
    }
    with answering({"/v1/state": state}) as url:
        shown = CliRunner(env={"TZ": "UTC"}).invoke(root, ["status", "--url", url])

    assert shown.exit_code == 0, "it is what somebody wanted"
    assert "every canary is off since 2025-11-20 " in shown.output
    assert f"m {LINE} (since 2025-11-20 " in shown.output
    assert "m every canary is capped at 0 % by ann" in shown.output


def test_what_moves_a_cursor_is_not_printed_of_what_a_gateway_answers(serve: Serve, config: Path) -> None:
    one = serve(ABORTED | {"capped": [CAP | {"by": "\x1b[2Jmallory"}]})
    done = run(config, "abort", "sentiment", "--reason", "p95 is 2 s", "--by", "ann", *urls(one))

    assert (done.exit_code, "\x1b" in done.stdout, "?[2Jmallory" in done.stdout) == (0, False, True)
