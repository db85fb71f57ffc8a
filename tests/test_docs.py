"""The documents are true: every block runs, every name exists, nothing that is there is left out.

README and pages show a reader what to type and what comes back. Each document is played from its top, in one
directory with a registry; the pages under `docs/` beside the gateway that the README starts.
"""

import ast
import re
import shutil
import subprocess
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from router.adapters.config.file import load_settings
from router.adapters.prometheus import catalog
from router.adapters.prometheus.catalog import PREFIX, Catalog
from router.cli import root as commands
from router.core.policy import State
from router.core.routing import Reason
from router.core.split import bucket_of
from router.demo.operator import commands_to_try
from router.demo.workspace import Workspace
from tests.e2e.conftest import Registry, built_registry, registry  # noqa: F401 - fixtures, found by name
from tests.support.demo_run import PlayedDemo, played_demo, played_demo_of_environments
from tests.support.document_blocks import (
    DOCUMENTS,
    ROOT,
    Block,
    Step,
    blocks,
    first_cells,
    links,
    prose,
    shows,
    steps,
)
from tests.support.document_session import Session, file_name
from tests.support.foreign_versions import missing
from tests.support.postgres import Postgres, programs_of_postgres, running_postgres

README = ROOT / "README.md"
OPERATING = ROOT / "docs" / "operating.md"
MIGRATING = ROOT / "docs" / "migrating.md"
GATE = ROOT / "docs" / "gate.md"
PLAYED = (README, OPERATING, MIGRATING, GATE)
START_THEIR_OWN = (README, GATE)
"""Documents that begin with a configuration and the gateway that serves it."""
PLAYED_ELSEWHERE = (ROOT / "docs" / "environments.md",)
"""In tests/e2e/test_own_environment.py, which has what it speaks of."""
TYPED_TO_CLUSTER = ROOT / "docs" / "kubernetes.md"
RUNBOOKS = tuple(sorted((ROOT / "docs" / "runbooks").glob("*.md")))

RUN_BY_A_TEST = ("console", "yaml", "python", "sql", "promql")
READ_BY_A_TEST = {"sh": "typed to a cluster, which is not here: tests/deploy/test_kubernetes_document.py"}
VALUES_OF_THE_CHART = "values.yaml"
"""Name of a YAML block that is no configuration; the same test renders the chart with it."""
ONLY_TO_LOOK_AT = {"text": "pictures, which hold nothing to run"}
MAKE = re.compile(r"(?:\w+=\S+ )*make ([\w-]+)")
OF_ENVIRONMENTS = "demo-environments"
"""The make target whose demo builds Python environments first."""
LINES_ABOUT_THE_LOG = {
    "log lines dropped": "format.py",
    "a log line can not be formatted: …": "writer.py",
}
"""No event has these: they are about the log itself."""

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def is_of_make(block: Block) -> bool:
    return block.language == "console" and MAKE.match(steps(block)[0].command) is not None


def of_language(language: str) -> list[Block]:
    return [block for document in DOCUMENTS for block in blocks(document, language)]


# What is typed


@every_document
def test_every_block_is_run_or_on_a_list_with_its_reason(document: Path) -> None:
    for block in blocks(document):
        known = (*RUN_BY_A_TEST, *READ_BY_A_TEST, *ONLY_TO_LOOK_AT)
        assert block.language in known, f"{block}: {block.language!r} is not run"
        if block.language in ONLY_TO_LOOK_AT:
            assert not re.search(r"(?m)^\$ ", block.text), f"{block} holds a command that nobody runs"
        elif block.language in ("console", "python") and not is_of_make(block):
            assert document in (*PLAYED, *PLAYED_ELSEWHERE, *RUNBOOKS), f"{block}: nobody plays this document"


@pytest.mark.parametrize("document", PLAYED, ids=lambda path: path.name)
def test_what_is_typed_does_what_is_shown(
    document: Path,
    registry: Registry,  # noqa: F811 - the fixture, by its name
    slack: float,
) -> None:
    """Ports stand for free ones, and looking again is allowed: a change takes seconds to be live."""
    if shutil.which("curl") is None:
        pytest.skip("curl is missing; install the Debian package `curl`")
    with Session(registry.directory, slack) as session:
        if document not in START_THEIR_OWN:
            for block in the_gateway_of_the_readme():
                session.play(block)
        for block in blocks(document):
            if not is_of_make(block):
                session.play(block)


@pytest.mark.slow  # some twenty commands, of which one loads both versions
def test_what_runbooks_ask_to_type_can_be_typed(
    registry: Registry,  # noqa: F811 - the fixture, by its name
    slack: float,
) -> None:
    """Each command once, in the order of the pages, beside one gateway; none of them fails."""
    if shutil.which("curl") is None:
        pytest.skip("curl is missing; install the Debian package `curl`")
    typed = {
        (block.language, command): Block(block.document, block.line, block.language, command)
        for document in RUNBOOKS
        for block in blocks(document)
        for command in commands_of(block)
    }
    assert len(typed) > 10
    with Session(registry.directory, slack) as session:
        for block in (*the_gateway_of_the_readme(), *typed.values()):
            registry.move("previous", 1)  # somebody promoted v2, so that there is something to roll back
            registry.move("production", 2)
            session.play(block)


def commands_of(block: Block) -> list[str]:
    """A Python block whole; a console block by its commands."""
    if block.language == "console":
        return [f"$ {step.command}\n" for step in steps(block)]
    return [block.text] if block.language == "python" else []


def the_gateway_of_the_readme() -> Iterator[Block]:
    """Its configuration, and the block that starts it."""
    yield next(block for block in blocks(README, "yaml") if file_name(block) == "router.yaml")
    serves = (b for b in blocks(README, "console") if b.text.startswith("$ canary-router serve"))
    yield next(serves)


def configurations() -> list[Block]:
    return [block for block in of_language("yaml") if file_name(block) != VALUES_OF_THE_CHART]


@pytest.mark.parametrize("block", configurations(), ids=str)
def test_a_configuration_that_is_shown_is_accepted(block: Block, tmp_path: Path) -> None:
    path = tmp_path / (file_name(block) or "router.yaml")
    path.write_text(block.text, encoding="utf-8")

    assert load_settings(path, {}, {}).settings.models


def test_make_shows_what_is_shown(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The demo was played in a new directory; figures may differ, words may not."""
    shown = steps_of_make()
    makefile = (ROOT / "Makefile").read_text()
    for block, _, target in shown:
        assert re.search(rf"(?m)^{target}:", makefile), f"{block}: make has no target {target}"
    demands_what_is_shown(played_demo(tmp_path_factory), {target for *_, target in shown} - {OF_ENVIRONMENTS})


@pytest.mark.slow
def test_make_shows_what_is_shown_of_versions_in_their_own_environments(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    if why := missing():
        pytest.skip(why)
    demands_what_is_shown(played_demo_of_environments(tmp_path_factory), {OF_ENVIRONMENTS})


def steps_of_make() -> list[tuple[Block, Step, str]]:
    """With the target of each."""
    found = []
    for block in of_language("console"):
        for step in steps(block) if is_of_make(block) else ():
            match = MAKE.fullmatch(step.command)
            assert match, f"{block}: {step.command} and make targets do not share a block"
            found.append((block, step, match[1]))
    return found


def demands_what_is_shown(demo: PlayedDemo, targets: Collection[str]) -> None:
    """Of the steps of these make targets."""
    assert demo.exit_code == 0, demo.printed
    makefile = (ROOT / "Makefile").read_text()
    printed = [
        *re.findall(r'@echo "([^"]*)"', makefile.replace("$(VENV)", ".venv")),
        *demo.printed.splitlines(),
        *the_commands_it_prints(),
    ]
    for block, step, target in steps_of_make():
        for line in step.shown if target in targets else ():
            pattern = loosened(line)
            assert any(pattern.fullmatch(one) for one in printed), f"{block}: nobody prints {line!r}"


def the_commands_it_prints() -> Iterator[str]:
    """As in a clone with a virtual environment of its own."""
    for reported, command in commands_to_try(Workspace(Path.cwd() / ".demo"), "http://127.0.0.1:8080"):
        yield f"# {reported}"
        yield re.sub(r"(?<!\S)\S*bin/(?=canary-router|python|mlflow)", ".venv/bin/", command)


def loosened(line: str) -> re.Pattern[str]:
    """Figures match figures, also longer ones in a column, and `…` matches anything."""
    bare = line.lstrip(" ")
    indent = r"\ *" if bare[:1].isdigit() and bare != line else re.escape(line.removesuffix(bare))
    text = indent + re.sub(r"\d+(?:\\\.\d+)?", lambda _: r"\d+(?:\.\d+)?", re.escape(bare))
    return re.compile(text.replace(re.escape("…"), ".*"))


def test_every_command_is_reported() -> None:
    text = "".join(document.read_text() for document in (*PLAYED, *PLAYED_ELSEWHERE, TYPED_TO_CLUSTER))

    assert [
        name for name in commands.commands if f"canary-router {name}" not in text and name != "demo"
    ] == []


# How what is shown is compared with what is printed


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        (["a", "b"], "a\nb\n", True),
        (["a", "b"], "a\r\nb  ", True),
        (["a"], "a\nb\n", False),
        (["a", "b"], "b\na\n", False),
        (["a.c"], "abc\n", False),
        (["took … s"], "took 0.31 s\n", True),
        (["took … s"], "took 0.31\n", False),
        (["a", "…", "d"], "a\nb\nc\nd\n", True),
        (["a", "…", "d"], "a\nd\n", True),
        (["…", "d"], "a\nd\ne\n", False),
        ([], "whatever\n", True),
    ],
)
def test_every_shown_line_is_printed_and_only_dots_stand_for_more(
    shown: list[str], printed: str, *, same: bool
) -> None:
    assert shows(shown, printed) is same


def test_a_demos_figures_may_differ_and_its_words_may_not() -> None:
    assert loosened("  v2: first answer 1.0 s after").fullmatch("  v2: first answer 12.25 s after")
    assert not loosened("  v2: first answer 1.0 s after").fullmatch("  v2: no answer 1.0 s after")


# The formula, in two languages


def some_keys() -> list[str]:
    return [
        "user-1",
        "user-2",
        "Ünïcödé",
        "42",
        "a'b",
        "a:b",
        *(str(uuid.UUID(int=n**5)) for n in range(500)),
    ]


def test_the_formula_in_python_gives_the_gateways_buckets() -> None:
    [block] = [block for block in of_language("python") if "def bucket" in block.text]
    names: dict[str, object] = {}
    exec(block.text, names)
    bucket = names["bucket"]
    assert callable(bucket)

    assert [bucket("s", key) for key in some_keys()] == [bucket_of("s", key) for key in some_keys()]


@pytest.fixture
def postgres(slack: float) -> Iterator[Postgres]:
    programs = programs_of_postgres()
    if programs is None:
        pytest.skip("PostgreSQL is missing; install the Debian package `postgresql`")
    with running_postgres(programs, slack) as running:
        yield running


def test_the_formula_in_sql_gives_the_gateways_buckets(postgres: Postgres) -> None:
    [block] = of_language("sql")
    shown = postgres.run(block.text)
    assert len(shown) >= 4
    for key, bucket, canary in shown:
        assert (int(bucket), canary) == (bucket_of("sentiment", key), "ft"[int(bucket) < 5000])

    literals = ", ".join("('{}')".format(key.replace("'", "''")) for key in some_keys())
    reported = postgres.run(f"SELECT key, bucket('s', key) FROM (VALUES {literals}) AS requests(key);")
    assert [int(bucket) for _, bucket in reported] == [bucket_of("s", key) for key in some_keys()]


# Names


@every_document
def test_every_link_leads_somewhere(document: Path) -> None:
    """Those to other sites are left alone."""
    for text, target in links(document):
        if target.startswith("https://"):
            continue
        path, _, heading = target.partition("#")
        place = (document.parent / path).resolve() if path else document
        assert place.exists(), f"{document.name}: [{text}]({target})"
        if heading:
            assert heading in anchors(place), f"{document.name}: [{text}]({target})"


def anchors(document: Path) -> set[str]:
    """As hosts of Markdown make them from headings."""
    headings = re.findall(r"(?m)^#+ (.+)$", prose(document))
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@every_document
def test_every_test_that_is_named_exists_where_the_link_says(document: Path) -> None:
    linked = [(text, target) for text, target in links(document) if text.startswith("`test_")]
    for text, target in linked:
        tree = ast.parse((document.parent / target).read_text(encoding="utf-8"))
        functions = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert text.strip("`") in functions, f"{document.name}: there is no {text} in {target}"

    mentioned = re.findall(r"`test_\w+`", prose(document))
    assert len(mentioned) == len(linked), "a test that is named without a link is not looked up"


@every_document
def test_every_metric_that_is_named_exists(document: Path) -> None:
    known = {family.name for family in Catalog().families}
    known |= {f"{name}_{part}" for name in known for part in ("bucket", "count", "sum")}

    assert set(re.findall(rf"{PREFIX}\w*[a-z0-9]", document.read_text(encoding="utf-8"))) <= known


@every_document
def test_every_key_that_is_named_exists(document: Path) -> None:
    schema = (ROOT / "config" / "router.schema.json").read_text()
    metrics = {family.name.removeprefix(PREFIX) for family in Catalog().families}
    named = set(re.findall(r"`((?!test_)[a-z_]+_(?:seconds|mib|status|access))\b", prose(document)))
    named -= {*metrics, "retry_seconds", "last_seen_seconds", "build_seconds"}  # in /v1/state
    named -= {"processor_seconds"}  # there, too
    named -= {"judged_up_to_seconds", "silent_seconds"}  # in /v1/compare

    assert [key for key in named if f'"{key}"' not in schema] == []


@pytest.mark.parametrize("block", of_language("promql"), ids=str)
def test_queries_are_valid(block: Block, tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing; the Debian package `prometheus` has it")
    queries = block.text.strip().split("\n\n")
    rules = [f"  - record: q{n}\n    expr: |\n{indented(query)}\n" for n, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text("groups:\n- name: shown\n  rules:\n" + "".join(rules))

    checked = subprocess.run(
        ["promtool", "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def indented(query: str) -> str:
    return "\n".join(f"      {line}" for line in query.splitlines())


# The page for whoever is on call leaves nothing out


def test_every_state_is_explained() -> None:
    assert sorted(first_cells(OPERATING, "States")) == sorted(State)


def test_every_reason_is_explained() -> None:
    assert sorted(first_cells(OPERATING, "Reasons")) == sorted(Reason)


def test_every_outcome_is_explained() -> None:
    assert sorted(first_cells(OPERATING, "Outcomes")) == sorted(catalog.CODES)


def test_every_metric_is_explained() -> None:
    names = [family.name.removeprefix(PREFIX) for family in Catalog().families]

    assert sorted(first_cells(OPERATING, "Metrics")) == sorted(names)


def test_every_log_line_is_explained() -> None:
    tree = ast.parse((ROOT / "router" / "adapters" / "log" / "lines.py").read_text())
    lines = [
        call.args[1].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "Line"
        and isinstance(call.args[1], ast.Constant)
    ]

    assert len(lines) >= 20
    assert sorted(first_cells(OPERATING, "Log lines")) == sorted([*lines, *LINES_ABOUT_THE_LOG])
    for line, module in LINES_ABOUT_THE_LOG.items():
        source = (ROOT / "router" / "adapters" / "log" / module).read_text(encoding="utf-8")
        assert f'"{line.replace("…", "%s")}"' in source


def test_whoever_is_on_call_is_given_lines_that_are_logged() -> None:
    seen = first_cells(OPERATING, "Versions in their own Python environment")
    lines = [text for text in seen if re.fullmatch(r"[a-z]+ [a-z ,]+", text)]

    assert len(lines) >= 2
    assert set(lines) <= set(first_cells(OPERATING, "Log lines"))
