"""What `history`, `route --at` and `journal verify` print of a journal, and their exit codes."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from router.cli import root
from router.cli.journal_lines import lines_of
from router.core.ids import CANARY, PRODUCTION, VersionId
from router.core.journal import BEGINNING, Entry, digest_of, encode
from router.core.pins import PinLists
from router.core.routing import ModelRoutes
from router.core.split import Split
from tests.core.journal_lines import chained, content

NOW = 1_763_649_120.0  # 2025-11-20T14:32:00Z
GATEWAY = "gw-1:4711"
KEY = "user-2"
"""In bucket 418: the canary's at 5 %."""


def served(share: int = 5_000, canary: int | None = 8, cap: int | None = None) -> dict[str, ModelRoutes]:
    bound = {PRODUCTION: VersionId("sentiment", 7)}
    if canary is not None:
        bound[CANARY] = VersionId("sentiment", canary)
    capped = {} if cap is None else {CANARY: cap}
    return {
        "sentiment": ModelRoutes(
            "sentiment", "sentiment", Split(share), bound, frozenset(bound), capped=capped
        )
    }


STORY = (
    Entry(
        NOW - 7200, GATEWAY, "start", {"version": "0.1.0", "configuration": "ab" * 32}, served(canary=None)
    ),
    Entry(
        NOW - 7100,
        GATEWAY,
        "bound",
        {"model": "sentiment", "alias": "canary", "from": None, "to": 8, "run_id": "1f"},
        served(),
    ),
    Entry(
        NOW - 3600,
        GATEWAY,
        "configuration",
        {"digest": "cd" * 32, "changes": ["models.sentiment.split"]},
        served(25_000),
    ),
    Entry(NOW - 3500, GATEWAY, "configuration", {"digest": "ef" * 32, "changes": ["models.fraud.salt"]}),
    Entry(
        NOW - 1900,
        GATEWAY,
        "verdict",
        {
            "model": "sentiment",
            "alias": "canary",
            "version": 8,
            "production": 7,
            "before": "not_enough_data",
            "verdict": "fail",
            "why": "3 % of the canary's requests failed, 0.1 % of production's",
        },
    ),
    Entry(
        NOW - 1800,
        GATEWAY,
        "capped",
        {
            "model": "sentiment",
            "alias": "canary",
            "version": 8,
            "share": 0.0,
            "by": "alice",
            "why": "errors in [checkout]",
        },
        served(25_000, cap=0),
    ),
    Entry(NOW - 900, GATEWAY, "alias_moved", {"model": "sentiment", "alias": "canary", "from": 8, "to": 9}),
    Entry(NOW - 895, GATEWAY, "explained", {"model": "sentiment", "by": "bob", "why": "v8 is slow"}),
    Entry(
        NOW - 890,
        GATEWAY,
        "bound",
        {"model": "sentiment", "alias": "canary", "from": 8, "to": 9, "run_id": "2f"},
        served(25_000, canary=9),
    ),
    Entry(
        NOW - 300,
        GATEWAY,
        "folded",
        {
            "of": "breaker_opened",
            "model": "sentiment",
            "count": 75,
            "since": NOW - 360,
            "open": False,
            "last": {"model": "sentiment", "alias": "canary", "version": 9, "why": "9 of 50 requests failed"},
            "tables": {},
        },
        served(25_000, canary=9),
    ),
    Entry(NOW - 250, GATEWAY, "break_glass_on", {"why": "SIGUSR2"}, served(25_000, canary=9, cap=0)),
    Entry(NOW - 200, GATEWAY, "stop"),
    Entry(NOW - 100, "gw-1:4800", "start", {}, served(25_000, canary=9)),
)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "00000001.jsonl"
    path.write_bytes(content(chained(STORY)))
    return path


def run(*arguments: object, columns: int = 300) -> Result:
    """By default with more columns than a sentence has, so that none is broken into lines."""
    return CliRunner(env={"COLUMNS": str(columns)}).invoke(root, [str(argument) for argument in arguments])


def history(journal: Path, *arguments: object, columns: int = 300) -> Result:
    since = ("--since", "2025-11-20T12:00Z")
    return run("history", "sentiment", *since, "--file", journal, *arguments, columns=columns)


def route(journal: Path, at: str, *arguments: object) -> Result:
    return run("route", "sentiment", KEY, "--at", at, "--file", journal, *arguments)


def words(text: str) -> str:
    """Without the lines of the table, and on one line."""
    return " ".join(text.translate({ord(sign): " " for sign in "│┃━─┏┓┡┩└┘╇┳┴┻"}).split())


# history


def test_history_says_what_served_whom_who_changed_it_why_and_on_what_evidence(journal: Path) -> None:
    result = history(journal)
    shown = words(result.output)

    assert result.exit_code == 0
    assert "2025-11-20 12:32:00" in shown
    assert "gw-1:4711 started" in shown
    assert "canary serves v8" in shown
    assert "canary 5 % → 25 %" in shown
    assert "the registry moved canary v8 → v9" in shown
    assert "moved in the registry by bob: v8 is slow" in shown
    assert "not enough data → FAIL" in shown
    assert "canary v8 0 % of 25 % (capped)" in shown
    assert "9 of 50 requests failed" in shown
    assert "break-glass, every canary is off: SIGUSR2" in shown
    assert "gw-1:4711 stopped" in shown


def test_a_table_of_the_history_has_room_in_100_columns_and_shows_reasons_as_they_are(journal: Path) -> None:
    result = history(journal, columns=100)

    assert max(map(len, result.output.splitlines())) <= 100
    assert "[checkout]" in result.output


def test_what_the_configuration_changed_of_other_models_is_left_out(journal: Path) -> None:
    assert "configuration cdcdcdcdcdcd" in words(history(journal).output)
    assert "efefefefefef" not in history(journal).output


def test_history_begins_with_what_was_in_force_already(journal: Path) -> None:
    shown = words(run("history", "sentiment", "--since", "2025-11-20T14:00Z", "--file", journal).output)

    assert "2025-11-20 14:00:00 in force already production v7 75 %" in shown
    assert "started" not in shown.partition("in force already")[0]


def test_the_history_as_json_has_times_shares_in_percent_and_details(journal: Path) -> None:
    document = json.loads(history(journal, "-o", "json").output)
    capped = next(one for one in document["changes"] if one["cause"] == "capped")

    assert capped["time"] == "2025-11-20T14:02:00.000Z"
    assert capped["details"]["by"] == "alice"
    assert capped["in_force"]["canary"] == {
        "version": 8,
        "share": 0.0,
        "configured": 25.0,
        "capped": True,
        "breaker_open": False,
        "gated": False,
    }
    assert document["changes"] == sorted(document["changes"], key=lambda one: one["timestamp"])


def test_the_history_of_a_model_that_no_line_names_lists_those_that_are_there(journal: Path) -> None:
    result = run("history", "fraud", "--file", journal)

    assert result.exit_code == 2
    assert "no model 'fraud' in this journal; there are: sentiment" in result.output


@pytest.mark.parametrize("since", ["2", "yesterday", "2h30m", "2025-11-20T14:00", "2025-13-20T14:00Z"])
def test_a_time_that_can_not_be_read_is_a_mistake_of_the_caller(journal: Path, since: str) -> None:
    result = run("history", "sentiment", "--since", since, "--file", journal)

    assert result.exit_code == 2
    assert "2025-11-20" not in result.output.replace(since, "")


@pytest.mark.parametrize("since", ["90s", "30m", "2h", "7d", "2025-11-20T14:32:00.5+01:00"])
def test_times_are_written_as_the_help_says(journal: Path, since: str) -> None:
    assert run("history", "sentiment", "--since", since, "--file", journal).exit_code == 0


def test_the_history_says_that_a_gateway_ended_without_a_line(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    story = (STORY[0], Entry(NOW, GATEWAY, "start", {}, served()))
    path.write_bytes(content(chained(story)))

    last = json.loads(history(path, "-o", "json").output)["changes"][-1]

    assert "gw-1:4711 ended without a line after 2025-11-20 12:32:00" in last["what"]


def test_what_moves_a_cursor_is_not_printed(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    capped = {"model": "sentiment", "alias": "canary", "share": 0.0, "by": "\x1b[2Jmallory", "why": "none"}
    story = (STORY[0], Entry(NOW, GATEWAY, "capped", capped, served(cap=0)))
    path.write_bytes(content(chained(story)))

    for result in (history(path), route(path, "2025-11-20T14:40Z")):
        assert "?[2Jmallory" in words(result.output)


def test_what_moves_a_cursor_is_not_printed_of_names_of_models_either(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    named = {"a\x9b2Jname": served()["sentiment"]}
    path.write_bytes(content(chained([Entry(NOW, GATEWAY, "start", {}, named)])))

    for result in (history(path), route(path, "2025-11-20T14:40Z")):
        assert "there are: a?2Jname" in words(result.output)


# route --at


@pytest.mark.parametrize(
    ("at", "first_line"),
    [
        ("2025-11-20T13:00Z", "sentiment at 2025-11-20T13:00:00.000Z: this key went to canary v8"),
        ("2025-11-20T14:10:00Z", "sentiment at 2025-11-20T14:10:00.000Z: this key went to production v7"),
        ("2025-11-20T15:20:00+01:00", "sentiment at 2025-11-20T14:20:00.000Z: this key went to canary v9"),
        (
            "2025-11-20T14:02:00.400Z",
            "sentiment at 2025-11-20T14:02:00.400Z: either canary v8 or production v7, changed at"  # noqa: ISC004
            " 2025-11-20T14:02:00.000Z",
        ),
    ],
)
def test_route_says_who_got_the_key_then(journal: Path, at: str, first_line: str) -> None:
    result = route(journal, at)

    assert result.output.splitlines()[0] == first_line
    assert result.exit_code == 0


def test_route_says_why_since_when_and_until_when(journal: Path) -> None:
    shown = route(journal, "2025-11-20T14:10Z").output

    assert "production v7 (reason capped) at gw-1:4711 from 2025-11-20T14:02:00.000Z" in shown
    assert "until 2025-11-20T14:17:10.000Z: canary v8 capped at 0 % by alice: errors in [checkout]" in shown


def test_before_the_journal_begins_route_says_so_and_ends_with_1(journal: Path) -> None:
    result = route(journal, "2025-11-20T12:00Z")

    assert result.exit_code == 1
    assert "the journal begins at 2025-11-20T12:32:00.000Z" in result.output


def test_where_no_gateway_was_running_route_says_so_and_ends_with_1(journal: Path) -> None:
    result = route(journal, "2025-11-20T14:29:30Z")

    assert result.exit_code == 1
    assert "the gateway was not running" in result.output
    assert "gw-1:4711 stopped at 2025-11-20T14:28:40.000Z" in result.output


def test_a_gateway_that_ended_without_a_stop_may_have_been_running(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    story = (STORY[0], Entry(NOW, "gw-1:4800", "start", {}, served()))
    path.write_bytes(content(chained(story)))
    result = route(path, "2025-11-20T14:00Z")

    assert result.exit_code == 0
    assert "gw-1:4711 ended without a line, between" in result.output
    assert json.loads(route(path, "2025-11-20T14:00Z", "-o", "json").output)["running"] is False


def test_the_key_is_in_no_output(journal: Path) -> None:
    for at in ("2025-11-20T13:00Z", "2025-11-20T14:02Z", "2025-11-20T12:00Z"):
        for output in ("table", "json"):
            assert KEY not in route(journal, at, "-o", output).output


def test_route_as_json_has_every_answer_that_is_possible(journal: Path) -> None:
    document = json.loads(route(journal, "2025-11-20T14:02Z", "-o", "json").output)

    assert not document["certain"]
    assert [(one["alias"], one["version"], one["reason"]) for one in document["answers"]] == [
        ("canary", 8, "hash"),
        ("production", 7, "capped"),
    ]


def test_a_time_to_come_and_a_file_without_a_time_are_mistakes_of_the_caller(journal: Path) -> None:
    assert route(journal, "2999-01-01T00:00Z").exit_code == 2
    assert run("route", "sentiment", KEY, "--file", journal).exit_code == 2


def test_without_a_time_route_answers_from_the_configuration_as_before(tmp_path: Path) -> None:
    config = tmp_path / "router.yaml"
    config.write_text("models: {sentiment: {split: {production: 95, canary: 5}}}\n")

    assert (
        "sentiment: this key goes to canary (reason hash)"
        in run("route", "sentiment", KEY, "-c", config).output
    )


# journal verify


def test_a_whole_journal_is_whole(journal: Path) -> None:
    result = run("journal", "verify", journal)
    head = digest_of(chained(STORY)[-1])

    assert result.exit_code == 0
    assert result.output == (
        f"whole: 13 lines in 1 file from 2025-11-20T12:32:00Z to 2025-11-20T14:30:20Z; head {head}\n"
    )


def test_a_changed_line_is_named_with_its_file_and_the_exit_code_is_1(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes().replace(b"alice", b"mallo"))
    result = run("journal", "verify", journal)

    assert result.exit_code == 1
    assert "damaged: 00000001.jsonl:6: 00000001.jsonl:7 does not follow it" in result.output
    assert "NOT WHOLE" in result.output


def test_history_and_route_warn_of_damage_and_answer_all_the_same(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes().replace(b"alice", b"mallo"))

    for result in (history(journal), route(journal, "2025-11-20T13:00Z")):
        assert result.exit_code == 0
        assert "the journal is damaged, so this may be wrong: 00000001.jsonl:7" in result.stderr


def test_heads_that_are_given_have_to_occur(journal: Path) -> None:
    there, strange = digest_of(chained(STORY)[3]), "0" * 63 + "1"
    result = run("journal", "verify", journal, "--head", there, "--head", strange)

    assert result.exit_code == 1
    assert f"head {there} is 00000001.jsonl:4" in result.output
    assert f"head {strange} does not occur" in result.output
    assert run("journal", "verify", journal, "--head", there[:12]).exit_code == 0


@pytest.mark.parametrize("head", ["abc", "0123456789AB", "g" * 64, "0" * 65])
def test_what_is_no_digest_is_a_mistake_of_the_caller(journal: Path, head: str) -> None:
    assert run("journal", "verify", journal, "--head", head).exit_code == 2


@pytest.mark.parametrize("content", [None, b"", b"listening on :8080\n"])
@pytest.mark.parametrize(
    "command",
    [
        ("journal", "verify"),
        ("history", "sentiment", "--file"),
        ("route", "sentiment", KEY, "--at", "2025-11-20T13:00Z", "--file"),
    ],
    ids=" ".join,
)
def test_without_a_journal_the_exit_code_is_3(
    tmp_path: Path, content: bytes | None, command: tuple[str, ...]
) -> None:
    path = tmp_path / "missing"
    if content is not None:
        path.write_bytes(content)
    result = run(*command, path)

    assert result.exit_code == 3
    assert str(path) in result.stderr


# Logs


def log_line(line: bytes) -> bytes:
    """As a gateway logs it, between its time and level and its fields."""
    fields = {"digest": digest_of(line), **json.loads(line)}
    return json.dumps(
        {"timestamp": "2025-11-20T14:00:00Z", "level": "info", "event": "journal", **fields},
        ensure_ascii=False,
    ).encode()


def as_it_is(line: bytes) -> bytes:
    return line


def as_docker_keeps_it(line: bytes) -> bytes:
    return json.dumps(
        {"log": f"{line.decode()}\n", "stream": "stderr", "time": "2025-11-20T14:00:00Z"}
    ).encode()


def as_kubectl_shows_it(line: bytes) -> bytes:
    return b"[pod/gw-1/gateway] 2025-11-20T14:00:00.123456789Z stderr F " + line


def with_sorted_names(line: bytes) -> bytes:
    document = json.loads(line)
    return json.dumps({name: document[name] for name in sorted(document)}).encode()


@pytest.mark.parametrize(
    "kept",
    [as_it_is, as_docker_keeps_it, as_kubectl_shows_it, with_sorted_names],
    ids=lambda one: one.__name__,
)
def test_a_log_answers_as_the_journal_does(journal: Path, tmp_path: Path, kept: object) -> None:
    assert callable(kept)
    log = tmp_path / "gateway.log"
    lines = [log_line(line) for line in chained(STORY)]
    others = [
        b'{"event": "version ready"}',
        b"\xff not JSON, about a journal",
        b'{"event": "journal", "cause": 1}x',
    ]
    log.write_bytes(b"".join(kept(line) + b"\n" + others[n % 3] + b"\n" for n, line in enumerate(lines)))

    assert history(log, "-o", "json").output == history(journal, "-o", "json").output
    assert route(log, "2025-11-20T14:10Z").output == route(journal, "2025-11-20T14:10Z").output
    assert run("journal", "verify", log).output == run("journal", "verify", journal).output


def test_logs_of_several_gateways_say_between_which_changes_they_differed(tmp_path: Path) -> None:
    paths = []
    for name, late in (("gw-1", 0.0), ("gw-2", 40.0)):
        story = (
            Entry(NOW - 100, f"{name}:1", "start", {}, served()),
            Entry(NOW + late, f"{name}:1", "configuration", {"digest": "ab" * 32}, served(0)),
        )
        paths.append(tmp_path / f"{name}.log")
        paths[-1].write_bytes(content(map(log_line, chained(story))))
    result = route(paths[0], "2025-11-20T14:32:20Z", "--file", paths[1])

    assert "either canary v8 or production v7, the gateways differed" in result.output
    assert "canary v8 (reason hash) at gw-2:1" in result.output
    assert "production v7 (reason hash) at gw-1:1" in result.output

    both = words(history(paths[0], "--file", paths[1]).output)
    assert "gw-1:1: configuration abababababab: canary 5 % → 0 %" in both
    assert "gw-2:1: configuration abababababab: canary 5 % → 0 %" in both


def test_files_of_a_journal_may_be_given_in_any_order(tmp_path: Path) -> None:
    lines = chained(STORY)
    paths = []
    for number, part in enumerate((lines[:4], lines[4:])):
        paths.append(tmp_path / f"{number}.jsonl")
        paths[-1].write_bytes(content(part))
    in_order = history(paths[0], "--file", paths[1], "-o", "json")

    assert history(paths[1], "--file", paths[0], "-o", "json").output == in_order.output
    assert "damaged" not in in_order.stderr


def test_a_line_without_end_and_one_of_20_mib_are_no_reason_to_stop(journal: Path) -> None:
    whole = route(journal, "2025-11-20T14:10Z").output
    with journal.open("ab") as file:
        file.write(b"x" * (20 << 20) + b'\n{"format":1,"prev":"')

    result = route(journal, "2025-11-20T14:10Z")
    assert result.stdout == whole
    assert "00000001.jsonl:14" in result.stderr
    assert run("journal", "verify", journal).exit_code == 1


def test_a_journal_of_many_lines_is_never_held_whole(tmp_path: Path) -> None:
    path = tmp_path / "00000001.jsonl"
    with path.open("wb") as file:
        prev = BEGINNING
        for number in range(6000):
            line = encode(
                Entry(NOW + number, GATEWAY, "configuration", {"digest": "ab" * 32}, served(number)), prev
            )
            prev = digest_of(line)
            file.write(line + b"\n")
    tracemalloc.start()
    try:
        for _ in lines_of([path]):
            pass
        assert route(path, "2025-11-20T14:50Z").exit_code == 0
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size / 2
    finally:
        tracemalloc.stop()


def test_pinned_keys_of_then_are_those_of_the_file_or_may_differ(tmp_path: Path) -> None:
    lists = PinLists({PRODUCTION: (KEY,), CANARY: ("qa-1", "qa-2")})
    pinned = {name: replace(one, pins=lists.compiled("sentiment")) for name, one in served().items()}
    details = {"model": "sentiment", "count": 3, "digest": pinned["sentiment"].pins.digest}
    journal, config = tmp_path / "j.jsonl", tmp_path / "router.yaml"
    story = (STORY[0], Entry(NOW - 7000, GATEWAY, "pins", details, pinned))
    journal.write_bytes(content(chained(story)))
    config.write_text(f"models: {{sentiment: {{pins: {{production: [{KEY}], canary: [qa-2, qa-1]}}}}}}")

    known = route(journal, "2025-11-20T14:00Z", "-c", config).output
    unknown = route(journal, "2025-11-20T14:00Z", "-c", tmp_path / "none.yaml").output
    assert "went to production v7" in known
    assert "(reason pinned)" in known
    assert "may differ" not in known
    assert "went to canary v8" in unknown
    assert "3 pinned keys may differ" in unknown
    assert "pins changed: 3 keys" in history(journal).output
    assert not any("qa-" in shown for shown in (known, unknown, history(journal, "-o", "json").output))


@pytest.mark.parametrize("command", [("history", "sentiment"), ("journal", "verify")])
def test_who_types_it_on_another_machine_is_shown_where_the_journal_is(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    config = tmp_path / "router.yaml"
    config.write_text(f"server: {{state_dir: {tmp_path}/absent}}\nmodels: {{sentiment: }}\n")
    done = run(*command, "-c", config)

    assert done.exit_code == 3
    assert "it is on the gateway's machine, and in its log, which may be named as a file" in done.stderr
