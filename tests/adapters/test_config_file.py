"""The configuration file: accepted whole, or refused with every problem, its line and a sentence."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from unicodedata import category

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.adapters.config.file import ConfigFile, load_settings
from router.core.split import Split
from router.errors import ConfigRefused

GOOD = "models:\n  sentiment:\n    split: {production: 90, canary: 10}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "router.yaml"


def problems(path: Path, content: str | bytes | None = None) -> list[str]:
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigRefused) as refused:
        load_settings(path, {}, {})
    return refused.value.problems


def split_in(content: str | bytes) -> Split:
    raw = content if isinstance(content, bytes) else content.encode()
    return ConfigFile("router.yaml", {}, {}).parse(raw).settings.models["sentiment"].split


def reported_about(raw: bytes) -> list[str] | None:
    """The problems of `raw`, or None when it is accepted."""
    try:
        ConfigFile("router.yaml", {}, {}).parse(raw)
    except ConfigRefused as refused:
        return refused.problems
    return None


EVERYTHING_WRONG = """\
server:
  lisen: 0.0.0.0:8080
  body_limit_mib: 64.5
  drain_seconds: "15"
  admin: 8081
log: {level: INFO}
models:
  sentiment:
    split: {production: 95, canray: 5}
    key: {header: A, cookie: b}
    timeout_seconds: .nan
    workers: 0
    direct_access: yes
  churn:
    split:
      production: 100
      canary: "10%"
    scores: {range: [0, 1, 2]}
    aliases: {canary: v12}
  total: {split: {production: 100, canary: 10}}
  total: {}
"""


def test_all_problems_are_reported_at_once_with_file_line_and_path(path: Path) -> None:
    assert problems(path, EVERYTHING_WRONG) == [
        "router.yaml:2 server.lisen: unknown key, did you mean `listen`?",
        "router.yaml:3 server.body_limit_mib: must be a whole number, not 64.5",
        'router.yaml:4 server.drain_seconds: must be a number, not the text "15"',
        "router.yaml:5 server.admin: must be host:port, such as 127.0.0.1:8081 or [::1]:8081",
        (
            "router.yaml:6 log.level: must be one of debug, info, warning, error, "
            'not the text "INFO", did you mean `info`?'
        ),
        "router.yaml:9 models.sentiment.split.canray: unknown key, did you mean `canary`?",
        "router.yaml:10 models.sentiment.key: must name exactly one of header, cookie, query and json",
        "router.yaml:11 models.sentiment.timeout_seconds: must be a finite number, not .nan",
        "router.yaml:12 models.sentiment.workers: must be at least 1, not 0",
        'router.yaml:13 models.sentiment.direct_access: must be true or false, not the text "yes"',
        (
            "router.yaml:17 models.churn.split.canary: must be a number of percent, such as 5 or 0.125, "
            "without quotes or a percent sign"
        ),
        "router.yaml:18 models.churn.scores.range: must have 2 items, not 3",
        (
            "router.yaml:19 models.churn.aliases.canary: `v12` is reserved by MLflow: "
            "no alias is called latest, or v and a number"
        ),
        "router.yaml:21 models.total: is written twice; the first one is on line 20",
    ]


SCORES_WRONG = """\
models:
  sentiment:
    scores:
      - output: 1
        bins: [0.1, 0.05]
      - output: label
        clases: [ham, spam]
      - {output: price, range: [0, 9], bins: [1, 5]}
      - {output: 3, on_shift: fial}
  churn: {scores: [{output: 1}, {output: "1"}]}
  mail: {scores: {classes: [1, true]}}
  risk: {scores: {bins: [-1, 0]}}
"""


def test_problems_of_what_is_counted_are_reported_with_the_line_of_the_output(path: Path) -> None:
    assert problems(path, SCORES_WRONG) == [
        (
            "router.yaml:5 models.sentiment.scores.0.bins: "
            "must be 1 to 200 upper edges, each above the one before it"
        ),
        "router.yaml:7 models.sentiment.scores.1.clases: unknown key, did you mean `classes`?",
        "router.yaml:8 models.sentiment.scores.2: the range must end at the last of the bins, 5, not at 9",
        (
            "router.yaml:9 models.sentiment.scores.3.on_shift: "
            'must be one of report, fail, not the text "fial", did you mean `fail`?'
        ),
        "router.yaml:10 models.churn.scores: an output is named twice",
        (
            "router.yaml:11 models.mail.scores.classes: "
            "a label is listed twice; true and 1 are one label, and so are false and 0"
        ),
        "router.yaml:12 models.risk.scores: must say where the first bin begins, such as range: [-2, 0]",
    ]


SPLITS_REFUSED = {
    "a total of 110": "{production: 100, canary: 10}",
    "a total of 99.999": "{production: 94.999, canary: 5}",
    "less than nothing": "{production: 101, canary: -1}",
    "NaN": "{production: 95, canary: .nan}",
    "infinity": "{production: .inf, canary: 5}",
    "text": '{production: 95, canary: "10%"}',
    "text without quotes": "{production: 95, canary: 5%}",
    "a truth": "{production: 99, canary: true}",
    "nothing": "{production: 95, canary: }",
    "a list": "[95, 5]",
    "half a bucket": "{production: 94.9995, canary: 5.0005}",
    "more digits than fit": "{production: 95.0000000000000000000000000000000001, canary: 5}",
    "a huge exponent": "{production: 1e9999, canary: 5}",
    "hexadecimal": "{production: 0x5F, canary: 5}",
    "a role twice": "{production: 95, canary: 5, canary: 5}",
    "four roles": "{production: 70, canary: 10, a: 10, b: 10}",
    "no production": "{champion: 95, challenger: 5}",
}


SAME_KEY = sha256(b"m:secret-1").hexdigest()
NO_TEXT = "m.pins: holds what is no plain text on this line; put each key in quotes"


@pytest.mark.parametrize(
    ("pins", "reported"),
    [
        ("[secret-1]", "m.pins: must be a mapping of roles to lists of keys, such as {canary: [qa-1]}"),
        ("secret-1", "m.pins: must be a mapping of roles to lists of keys, such as {canary: [qa-1]}"),
        ("{secret-1: canary}", "m.pins: must name roles of the split only: production, canary"),
        ("{canry: [secret-1]}", "m.pins: must name roles of the split only; did you mean `canary`?"),
        ("{canary: secret-1}", "m.pins.canary: must be a list of keys, such as [qa-1, qa-2]"),
        ("{canary: [71, secret-1]}", "m.pins.canary.0: must be a key as text; quotes make it text"),
        ("{canary: [{secret-1: 1}]}", "m.pins.canary.0: must be a key as text; quotes make it text"),
        ("{canary: ['']}", "m.pins.canary.0: must not be empty: an empty key counts as missing"),
        ("{canary: ['sha256:secret-1']}", "m.pins.canary.0: must have 64 hexadecimal digits after sha256:"),
        ("{canary: [*secret-1]}", NO_TEXT),
        ("{canary: [&secret-1 a]}", NO_TEXT),
        ('{canary: ["secret-1\\0"]}', NO_TEXT),
        ("{71: [secret-1]}", NO_TEXT),
        ("{secret-1: [a], secret-1: [b]}", "m.pins: is written twice; the first one is on line 3"),
        (
            "\n      canary:\n        - a\n        - secret-1\n      production:\n        - secret-1",
            "m.pins.production.0: is the same key as on line 6, where it is pinned to canary",
        ),
        (
            f"\n      production: [a, 'sha256:{SAME_KEY}']\n      canary: [b, secret-1]",
            "m.pins.canary.1: is the same key as on line 4, where it is pinned to production",
        ),
    ],
)
def test_a_problem_of_a_pin_says_where_and_shows_no_key(path: Path, pins: str, reported: str) -> None:
    [problem] = problems(path, f"models:\n  m:\n    pins: {pins}\n")

    place, _, rest = problem.partition(" ")
    assert place.startswith("router.yaml:")
    assert rest == f"models.{reported}"
    assert not any(secret in problem for secret in ("secret", "71", SAME_KEY))


def test_too_many_pins_are_counted_and_not_shown(path: Path) -> None:
    keys = ", ".join(f"secret-{number}" for number in range(6_000))
    reported = problems(path, f"models: {{m: {{pins: {{canary: [{keys}], production: [{keys}]}}}}}}")

    assert reported == ["router.yaml:1 models.m.pins: must pin 10000 keys in all at most, not 12000"]


@pytest.mark.parametrize("pins", ["", "{}", "{canary: }", "{canary: []}", "\n      canary:\n      # - qa-1"])
def test_pins_may_be_left_empty(path: Path, pins: str) -> None:
    path.write_text(f"models:\n  m:\n    pins: {pins}\n")

    assert len(load_settings(path, {}, {}).settings.models["m"].pins) == 0


@pytest.mark.parametrize("split", SPLITS_REFUSED.values(), ids=SPLITS_REFUSED)
def test_a_split_that_is_not_100_percent_in_plain_numbers_is_refused(path: Path, split: str) -> None:
    reported = problems(path, f"models:\n  sentiment:\n    split: {split}\n")

    assert all(problem.startswith("router.yaml:3 models.sentiment.split") for problem in reported)


def test_percentages_are_exactly_what_is_written() -> None:
    """As binary fractions, 33.3 and 66.7 are not 100, nor is 0.1 a tenth."""
    assert split_in("models: {sentiment: {split: {production: 66.7, canary: 33.3}}}") == Split(33_300)
    assert split_in("models: {sentiment: {split: {production: 99.9, canary: 0.1}}}") == Split(100)
    assert split_in("models: {sentiment: {split: {production: 9.99e1, canary: 1.0e-1}}}") == Split(100)


YAML_REFUSED = {
    "an alias": ("models: {a: &x {workers: 2}, b: *x}", "anchors and aliases are not accepted"),
    "an anchor": ("models: &x {a: {}}", "anchors and aliases are not accepted"),
    "an anchor on a key": ("models: {&x a: {}}", "anchors and aliases are not accepted"),
    "a merge": ("models: {a: {<<: {workers: 2}}}", "merging is not accepted"),
    "a python tag": ('models: {a: !!python/object/apply:os.system ["exit 3"]}', "tags such as"),
    "a plain tag": ("models: {a: {workers: !!int 2}}", "tags such as"),
    "a tag on a key": ("models: {!!str a: {}}", "tags such as"),
    "a tag directive": ("%TAG ! tag:a,2000:\n---\nmodels: {a: {}}", "directives are not accepted"),
    "a version directive": ("%YAML 1.1\n---\nmodels: {a: {}}", "directives are not accepted"),
    "two documents": ("models: {a: {}}\n---\nmodels: {b: {}}", "a configuration is one"),
    "a key twice": ("models: {a: {}}\nmodels: {b: {}}", "router.yaml:2 models: is written twice"),
    "a number as a key": ("models: {2024: {}}", "quotes make it text"),
    "a mapping as a key": ("models: {? {a: b} : {}}", "a key that is not text"),
    "a cut mapping": ("models: {a: {", "is not valid YAML"),
    "a cut text": ('models: {a: {salt: "x', "is not valid YAML"),
    "a tab": ("models:\n\ta: {}", "router.yaml:2: is not valid YAML"),
    "a wrong indent": ("models:\n  a:\n    workers: 1\n   salt: x", "router.yaml:4: is not valid YAML"),
    "half a character": ('models: {a: {salt: "\\ud800"}}', "holds a control character or half of one"),
    "a line end in a value": ('models: {a: {salt: "a\\nb"}}', "holds a control character or half of one"),
    "a control character": ("models: {a: {salt: \a}}", "is not valid YAML"),
    "nothing": ("", "is empty"),
    "comments only": ("# models:\n", "is empty"),
    "a list": ("- models\n", "must be a mapping of keys, not a list"),
    "a word": ("models", "must be a mapping of keys, not the text"),
    "no models": ("log: {level: info}", "must name at least one registered model"),
    "empty models": ("models:\n", "must name at least one registered model"),
    "models of none": ("models: {}", "must name at least one registered model"),
    "NUL bytes": (b"models: {a: {}}\0", "holds NUL bytes"),
    "UTF-16": ("models: {a: {}}".encode("utf-16"), "holds NUL bytes"),
    "Latin-1": ("# fine\nmodels: {caf\xe9: {}}".encode("latin-1"), "router.yaml:2: is not UTF-8 text"),
    "deep lists": ("models: " + "[" * 500_000, "nested more than"),
    "deep mappings": ("{a: " * 100_000, "nested more than"),
    "deep keys": ("? " * 100_000, "nested more than"),
    "a long number": ("models: {a: {workers: " + "9" * 100_000 + "}}", "must be a whole number"),
}


@pytest.mark.parametrize(("content", "reported"), YAML_REFUSED.values(), ids=YAML_REFUSED)
def test_what_is_not_plain_data_is_refused(path: Path, content: str | bytes, reported: str) -> None:
    assert any(reported in problem for problem in problems(path, content))


def test_an_alias_bomb_is_refused_without_being_unfolded(path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]

    reported = problems(path, "\n".join(lines))

    assert "router.yaml:10 a9.8: is the alias *a8; anchors and aliases are not accepted" in reported
    assert len(reported) < 100


def test_a_problem_of_the_yaml_does_not_hide_those_of_other_keys(path: Path) -> None:
    reported = problems(path, "models:\n  a: {workers: *x}\n  b: {wokers: 1}\n  2: {}\n  c: {salt: ''}\n")

    assert reported == [
        "router.yaml:2 models.a.workers: is the alias *x; anchors and aliases are not accepted",
        "router.yaml:3 models.b.wokers: unknown key, did you mean `workers`?",
        "router.yaml:4 models: has a key that is not text, '2'; quotes make it text",
        "router.yaml:5 models.c.salt: must not be empty",
    ]


def test_ten_thousand_problems_are_reported_as_a_hundred_and_a_count(path: Path) -> None:
    reported = problems(path, "models:\n" + "".join(f"  m{n}: {{bad: 1}}\n" for n in range(10_000)))

    assert len(reported) == 101
    assert reported[-1] == "router.yaml: has 9900 more problems"


def test_a_mapping_may_be_left_empty(path: Path) -> None:
    path.write_text("server:\n  # listen: 0.0.0.0:8080\nregistry:\nlog:\nmodels:\n  sentiment:\n")

    assert load_settings(path, {}, {}).settings.models["sentiment"].salt == "sentiment"


@pytest.mark.parametrize(
    "content",
    [
        GOOD.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + GOOD.encode(),
        b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode(),
        GOOD.rstrip().encode(),
        b"---\n" + GOOD.encode() + b"...\n",
    ],
    ids=["CRLF", "BOM", "BOM and CRLF", "no last line end", "document marks"],
)
def test_what_editors_add_is_accepted(content: bytes) -> None:
    assert split_in(content) == Split(10_000)


def test_lines_are_counted_the_same_with_crlf(path: Path) -> None:
    reported = problems(path, EVERYTHING_WRONG.replace("\n", "\r\n"))

    assert reported == problems(path, EVERYTHING_WRONG)


def test_the_digest_is_that_of_the_file_s_bytes(path: Path) -> None:
    path.write_text(GOOD)

    assert load_settings(path, {}, {}).digest == sha256(GOOD.encode()).hexdigest()


def test_a_directory_a_pipe_and_nothing_are_no_configuration(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")

    assert problems(tmp_path) == [f"{tmp_path.name}: can not be read: Is a directory"]
    assert problems(tmp_path / "none") == ["none: can not be read: No such file or directory"]
    assert problems(tmp_path / "loop") == ["loop: can not be read: Too many levels of symbolic links"]
    # A pipe without a writer: whoever opens it the plain way waits for ever.
    assert problems(tmp_path / "pipe") == ["pipe: is not a regular file"]


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root reads what nobody may read, so root is nobody for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_without_permission_says_so(path: Path) -> None:
    path.write_text(GOOD)
    path.chmod(0)

    with as_nobody():
        assert problems(path) == ["router.yaml: can not be read: Permission denied"]


def test_a_hundred_megabytes_are_refused_unread(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(100_000_000)

    assert problems(path) == ["router.yaml: is larger than 1 MiB; a configuration is not"]


def test_a_mebibyte_is_read_and_one_byte_more_is_not(path: Path) -> None:
    path.write_text(GOOD + "#" * ((1 << 20) - len(GOOD)))
    assert load_settings(path, {}, {})

    path.write_text(GOOD + "#" * ((1 << 20) - len(GOOD) + 1))
    assert problems(path) == ["router.yaml: is larger than 1 MiB; a configuration is not"]


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
@example("models: {sentiment: {split: {production: 1E+999999, canary: 1}}}")
@example('"\\UFFFFFFFF": 1')
@example("? ? ?\n: :")
@example("\x85models: {}")
@example("%YAML 9.9\n---\n")
@example("!<a b>")
@example("- - - -\n -")
def test_any_text_is_accepted_or_refused_in_words(content: str) -> None:
    """No exception but ours leaves the reader, whatever the file holds."""
    reported = reported_about(content.encode("utf-8", "surrogatepass"))

    assert reported != []
    assert not {category(character) for character in "".join(reported or [])} & {"Cc", "Cs"}


MUTATIONS = st.tuples(
    st.integers(0, len(EVERYTHING_WRONG)),
    st.integers(0, 12),
    st.text(" {}[]:,#&*!\n\"'-?|>%@`~a1.", max_size=4),
)


@given(st.lists(MUTATIONS, min_size=1, max_size=4))
def test_a_damaged_file_is_accepted_or_refused_in_words(mutations: list[tuple[int, int, str]]) -> None:
    content = EVERYTHING_WRONG
    for start, length, new in mutations:
        content = content[:start] + new + content[start + length :]
    assert reported_about(content.encode()) != []


TWO = "models:\n  a: {split: {production: 100}}\n  b: {split: {production: 100}}\n"


def test_the_model_config_of_mlflows_variable_is_that_of_the_first_model(path: Path) -> None:
    path.write_text(TWO)
    environ = {"SERVING_MODEL_CONFIG": '{"k": 2, "deep": {"x": [0.5, null]}}'}
    loaded = load_settings(path, environ, {})

    assert loaded.settings.models["a"].configuration == {"k": 2, "deep": {"x": [0.5, None]}}
    assert loaded.settings.models["b"].configuration is None
    assert loaded.notices == ("SERVING_MODEL_CONFIG is the model_config of a, and of no other model",)
    assert load_settings(path, {"SERVING_MODEL_CONFIG": ""}, {}).settings.models["a"].configuration is None


def test_a_model_config_in_the_file_stands_over_mlflows_variable_and_says_so(path: Path) -> None:
    path.write_text(TWO.replace("a: {", "a: {model_config: {k: 1.5}, "))
    loaded = load_settings(path, {"SERVING_MODEL_CONFIG": '{"k": 2}'}, {})

    assert loaded.settings.models["a"].configuration == {"k": 1.5}
    assert type((loaded.settings.models["a"].configuration or {})["k"]) is float
    assert loaded.notices == (f"{path.name}:2 models.a.model_config: stands over SERVING_MODEL_CONFIG",)


@pytest.mark.parametrize("text", ["{", "[1]", "2", "null"])
def test_a_variable_of_mlflows_that_is_no_json_object_is_refused_by_name(path: Path, text: str) -> None:
    path.write_text(TWO)
    with pytest.raises(ConfigRefused, match="SERVING_MODEL_CONFIG: must be a JSON object"):
        load_settings(path, {"SERVING_MODEL_CONFIG": text}, {})


@pytest.mark.parametrize("config", ["3", "[1]", "{1: 2}", "{k: .inf}", "{k: 99999999999999999999}"])
def test_a_model_config_that_no_json_holds_is_refused(path: Path, config: str) -> None:
    path.write_text(f"models:\n  a: {{model_config: {config}}}\n")
    with pytest.raises(ConfigRefused, match=r"models\.a\.model_config: (must|has) "):
        load_settings(path, {}, {})


def test_a_listed_variable_that_opens_the_store_or_is_not_set_is_reported(path: Path) -> None:
    path.write_text(
        TWO.replace("a: {", "a: {environment_variables: [AWS_PROFILE, PGVECTOR, GOOGLE_API_KEY], ")
    )
    loaded = load_settings(path, {"AWS_PROFILE": "models", "PGVECTOR": "hunter2"}, {})

    place = f"{path.name}:2 models.a.environment_variables"
    assert loaded.notices == (
        f"{place}.0: AWS_PROFILE may open the artifact store, which every version of a can then use",
        f"{place}.2: GOOGLE_API_KEY is not set, so no version gets it",
    )


@pytest.mark.parametrize(
    ("environ", "name", "why"),
    [
        ({"MLFLOW_TRACKING_URI": "databricks"}, "DATABRICKS_TOKEN", "opens this gateway's registry"),
        ({"MLFLOW_REGISTRY_URI": "postgresql://db"}, "PGPASSWORD", "opens this gateway's registry"),
        ({"SERVICE_KEY": os.fsdecode(b"caf\xe9")}, "SERVICE_KEY", "is not UTF-8 text in this environment"),
    ],
)
def test_a_listed_variable_that_this_environment_makes_unfit_is_refused_where_it_stands(
    path: Path, environ: dict[str, str], name: str, why: str
) -> None:
    path.write_text(TWO.replace("a: {", f"a: {{environment_variables: [{name}], "))
    with pytest.raises(ConfigRefused) as refused:
        load_settings(path, environ, {})

    assert refused.value.problems == [f"{path.name}:2 models.a.environment_variables.0: {name} {why}"]
    assert load_settings(path, {}, {}).settings.models["a"].environment_variables == [name]
