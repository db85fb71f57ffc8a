"""What an operator may say: defaults, bounds, exactness, and when a change takes effect."""

import copy
import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from router.core.ids import CANARY, PRODUCTION, ROLLBACK
from router.core.keys import KeyKind, KeySource
from router.core.routing import MissingKey
from router.core.scores import ClassSpec, ScoreSpec
from router.core.split import Split
from router.protocol.messages import Tracking
from router.settings import ModelSettings, Reload, Settings, changes, schema_json
from router.settings.checks import CheckSettings, FaultLimits, LatencyLimits
from router.settings.fields import reload_of
from router.settings.gate import GateSettings
from router.settings.mappings import WrittenKey
from router.settings.scores import ScoreSettings, WrittenScores

CONFIG = Path(__file__).parents[1] / "config"


def settings(model: Mapping[str, Any] | None = None, **sections: Any) -> Settings:
    return Settings.model_validate({"models": {"sentiment": model}, **sections})


def model_of(**keys: Any) -> ModelSettings:
    return settings(keys).models["sentiment"]


def problems(model: Mapping[str, Any] | None = None, **sections: Any) -> dict[str, str]:
    with pytest.raises(ValidationError) as refused:
        settings(model, **sections)
    return {".".join(map(str, error["loc"])): error["msg"] for error in refused.value.errors()}


def test_the_defaults_are_those_of_the_documentation() -> None:
    everything = settings()
    server, registry, log = everything.server, everything.registry, everything.log
    model = everything.models["sentiment"]

    assert (server.listen, server.admin) == (("0.0.0.0", 8080), ("127.0.0.1", 8081))
    assert (server.observe, server.body_limit_mib) == ("traffic", 64)
    assert (server.body_timeout_seconds, server.drain_seconds) == (30, 15)
    assert server.min_drain_seconds == 8  # HAProxy has noticed after 6 s, and `docker stop` kills after 10 s
    assert (registry.uri, registry.tracking_uri, registry.cache_dir) == (None, None, None)
    assert (registry.poll_seconds, registry.download_timeout_seconds) == (5, 600)
    assert registry.parallel_loads is None
    assert (registry.cache_max_gib, registry.artifact_schemes, registry.artifact_roots) == (20, None, [])
    assert (log.level, log.format) == ("info", "auto")
    assert model.split == Split(canary=5_000)
    assert model.key == KeySource(KeyKind.HEADER, "X-Request-Key", MissingKey.BODY)
    assert model.salt == "sentiment"
    assert model.aliases == {"production": "production", "canary": "canary"}
    assert (model.scores, model.fallback, model.workers) == (ScoreSettings(), True, 1)
    assert model.checks == CheckSettings(
        alpha=0.01,
        faults=FaultLimits(max_increase=0.005),
        latency=LatencyLimits(max_increase=0.05, min_ratio=1.2, min_seconds=0.002),
    )
    assert model.gate == GateSettings(
        canary="off", production="off", max_age_hours=168, require=[], key_file=None
    )
    assert (model.timeout_seconds, model.predict_timeout_seconds) == (60, 60)
    assert model.canary_timeout_seconds is None
    assert (model.model_error_status, model.direct_access) == (500, False)


WRONG_SECTIONS: list[tuple[str, Any]] = [
    ("server.listen", 8080),
    ("server.listen", "8080"),
    ("server.listen", ":8080"),
    ("server.listen", "0.0.0.0:"),
    ("server.listen", "0.0.0.0:65536"),
    ("server.listen", "0.0.0.0:-1"),
    ("server.listen", "0.0.0.0:٨٠٨٠"),
    ("server.listen", "::1:8080"),
    ("server.listen", "http://0.0.0.0:8080"),
    ("server.listen", None),
    ("server.admin", "8081"),
    ("server.admin_token_file", ""),
    ("server.tls", "/run/tls/tls.crt"),
    ("server.observe", "both"),
    ("server.observe", True),
    ("server.body_limit_mib", 0),
    ("server.body_limit_mib", 1.5),
    ("server.body_limit_mib", True),
    ("server.body_limit_mib", "64"),
    ("server.body_timeout_seconds", 0),
    ("server.body_timeout_seconds", -1),
    ("server.body_timeout_seconds", float("nan")),
    ("server.body_timeout_seconds", Decimal("Infinity")),
    ("server.drain_seconds", "15"),
    ("server.drain_seconds", False),
    ("server.drain_seconds", 86_401),
    ("registry.uri", ""),
    ("registry.uri", 5),
    ("registry.token_file", ""),
    ("registry.poll_seconds", 10**400),
    ("registry.poll_second", 5),
    ("registry.parallel_loads", 0),
    ("registry.parallel_loads", None),
    ("registry.parallel_loads", "two"),
    ("registry.cache_max_gib", 0),
    ("registry.cache_max_gib", "20 GiB"),
    ("log.level", "INFO"),
    ("log.format", None),
]


@pytest.mark.parametrize(("path", "value"), WRONG_SECTIONS, ids=lambda case: str(case)[:40])
def test_a_wrong_value_of_a_section_is_refused_where_it_stands(path: str, value: Any) -> None:
    section, key = path.split(".")

    assert list(problems(**{section: {key: value}})) == [path]


@pytest.mark.parametrize("section", ["tls", "admin_tls"])
def test_a_certificate_needs_its_key(section: str) -> None:
    given = {"certificate_file": "/run/tls.crt", "key_file": "/run/tls.key"}
    assert getattr(settings(server={section: given}).server, section).key_file == "/run/tls.key"
    assert list(problems(server={section: given | {"key_file": 7}})) == [f"server.{section}.key_file"]
    given.pop("key_file")
    assert list(problems(server={section: given})) == [f"server.{section}.key_file"]


WRONG_MODEL_KEYS: list[tuple[str, Any]] = [
    ("timeout_seconds", 0),
    ("timeout_seconds", "60"),
    ("timeout_seconds", True),
    ("canary_timeout_seconds", None),
    ("canary_timeout_seconds", "fast"),
    ("canary_timeout_seconds", -1),
    ("canary_timeout_seconds", 61),
    ("predict_timeout_seconds", float("inf")),
    ("cpu_threads", 0),
    ("cpu_threads", 257),
    ("cpu_threads", 2.0),
    ("cpu_threads", True),
    ("cpu_threads", None),
    ("cpu_threads", "all"),
    ("workers", 0),
    ("workers", 65),
    ("workers", 1.0),
    ("model_error_status", 502),
    ("model_error_status", "500"),
    ("nan", None),  # null without its quotes
    ("nan", "NaN"),
    ("direct_access", "yes"),
    ("direct_access", 1),
    ("why", True),
    ("why", None),
    ("why", {"traits": "on"}),
    ("fallback", None),
    ("fallback", True),
    ("fallback", "canary"),
    ("salt", ""),
    ("salt", "a:b"),
    ("salt", 7),
    ("salt", None),
    ("key", None),
    ("key", "X-Request-Key"),
    ("key", {}),
    ("key", {"missing": "body"}),
    ("key", {"header": "X", "cookie": "x"}),
    ("scores", {"range": [1, 0]}),
    ("scores", {"range": [0, 0]}),
    ("scores", {"range": [-1e308, 1e308]}),
    ("scores", {"bins": [0, 1]}),
    ("scores", {"bins": [0.5, 1], "range": [0, 2]}),
    ("scores", {"bins": [0.5, 1], "range": [0.5, 1]}),
    ("scores", {"classes": ["a"], "bins": 2}),
    ("scores", {"classes": ["a"], "range": [0, 1]}),
    ("scores", [{"output": 1}, {"output": "1"}]),
    ("scores", [{"classes": ["a"]}, {"output": 1, "classes": ["a"]}]),
    ("scores", [{"output": 0}, {"output": 1, "on_shift": "fail"}]),
    ("scores", []),
    ("scores", [{"output": i} for i in range(5)]),
    ("scores", 0),
    ("aliases", {"shadow": "shadow"}),
    ("aliases", None),
    ("aliases", {"previous": "stage:Archived"}),
    ("aliases", {"previous": "canary"}),
    ("aliases", {"canary": "beta", "previous": "beta"}),
    ("keep_previous_seconds", -1),
    ("keep_previous_seconds", 86_401),
    ("keep_previous_seconds", None),
    ("keep_previous_seconds", "1h"),
    ("gate", "required"),
    ("checks", 0.01),
    ("checks", []),
    ("split", None),
    ("split", {}),
    ("split", 5),
    ("split", {"canary": 100}),
    ("split", {"production": 100, "canary": 10}),
    ("split", {"production": 80, "canary": 10, "a": 5, "b": 5}),
    ("environment_variables", "GOOGLE_API_KEY"),
    ("environment_variables", None),
    ("environment_variables", ["A", "B", "A"]),
    ("environment_variables", [f"A_{i}" for i in range(101)]),
    ("tracking", {"uri": "http://mlflow:5000", "username": "ada"}),
    ("tracking", {"uri": "http://mlflow:5000", "password_file": "/p"}),
    ("tracking", {"uri": "http://mlflow:5000", "username": "ada", "password_file": "/p", "token_file": "/t"}),
]


@pytest.mark.parametrize(("key", "value"), WRONG_MODEL_KEYS, ids=lambda case: str(case)[:40])
def test_a_wrong_value_of_a_model_is_refused_where_it_stands(key: str, value: Any) -> None:
    assert list(problems({key: value})) == [f"models.sentiment.{key}"]


WRONG_INSIDE: list[tuple[str, Any, str]] = [
    ("split", {"production": 95, "canray": 5}, "canray"),
    ("split", {"producton": 95, "production": 5}, "producton"),
    ("split", {"production": 95, "canary": "5"}, "canary"),
    ("split", {"production": 95, "canary": "10%"}, "canary"),
    ("split", {"production": 99, "canary": True}, "canary"),
    ("split", {"production": 101, "canary": -1}, "canary"),
    ("split", {"production": 100, "canary": float("nan")}, "canary"),
    ("split", {"production": 99.9995, "canary": 0}, "production"),
    ("split", {"production": Decimal("95.0000000000000000000000000000000000001"), "canary": 5}, "production"),
    ("split", {"production": Decimal("1E+999999"), "canary": 5}, "production"),
    ("split", {"production": 100, "a role": 0}, "a role"),
    ("key", {"header": "X Y"}, "header"),
    ("key", {"header": ""}, "header"),
    ("key", {"header": 5}, "header"),
    ("key", {"cookie": "a=b"}, "cookie"),
    ("key", {"json": "user..id"}, "json"),
    ("key", {"json": "rows[0].id"}, "json"),
    ("key", {"header": "X", "missing": "ignore"}, "missing"),
    ("key", {"headr": "X", "header": "Y"}, "headr"),
    ("aliases", {"canary": ""}, "canary"),
    ("aliases", {"canary": "a b"}, "canary"),
    ("aliases", {"canary": "a@b"}, "canary"),
    ("aliases", {"canary": "latest"}, "canary"),
    ("aliases", {"canary": "Latest"}, "canary"),
    ("aliases", {"canary": "v12"}, "canary"),
    ("aliases", {"canary": "x" * 256}, "canary"),
    ("aliases", {"canary": 12}, "canary"),
    ("aliases", {"canary": "stage:Prod"}, "canary"),
    ("aliases", {"canray": "challenger"}, "canray"),
    ("aliases", {"previous": "v7"}, "previous"),
    ("scores", {"output": -1}, "output"),
    ("scores", {"output": True}, "output"),
    ("scores", {"output": ""}, "output"),
    ("scores", {"range": [0, 1, 2]}, "range"),
    ("scores", {"bins": 0}, "bins"),
    ("scores", {"bins": 201}, "bins"),
    ("scores", {"bin": 20}, "bin"),
    ("scores", {"bins": []}, "bins"),
    ("scores", {"bins": [1, 1]}, "bins"),
    ("scores", {"bins": [i + 1 for i in range(201)]}, "bins"),
    ("scores", {"bins": [0.5, float("inf")]}, "bins.1"),
    ("scores", {"bins": [0.5, "1"]}, "bins.1"),
    ("scores", {"bins": 2.5}, "bins"),
    ("scores", {"bins": True}, "bins"),
    ("scores", {"classes": []}, "classes"),
    ("scores", {"classes": "spam"}, "classes"),
    ("scores", {"classes": ["a", "a"]}, "classes"),
    ("scores", {"classes": [1, True]}, "classes"),
    ("scores", {"classes": [None]}, "classes"),
    ("scores", {"classes": [Decimal("0.5")]}, "classes"),
    ("scores", {"classes": ["__other__"]}, "classes"),
    ("scores", {"classes": ["x" * 129]}, "classes"),
    ("scores", {"classes": ["a\nb"]}, "classes"),
    ("scores", {"classes": [str(i) for i in range(21)]}, "classes"),
    ("scores", {"on_shift": "shout"}, "on_shift"),
    ("gate", {"canary": True}, "canary"),
    ("gate", {"canary": "report"}, "canary"),
    ("gate", {"production": "required"}, "production"),
    ("gate", {"max_age_hours": 0}, "max_age_hours"),
    ("gate", {"max_age_hours": float("inf")}, "max_age_hours"),
    ("gate", {"require": "description"}, "require"),
    ("gate", {"require": ["param.lr"]}, "require.0"),
    ("gate", {"require": ["description", "description"]}, "require"),
    ("gate", {"require": ["hold-out"]}, "require.0"),
    ("gate", {"key_file": ""}, "key_file"),
    ("gate", {"cannary": "required"}, "cannary"),
    ("checks", {"alpha": 0.06}, "alpha"),
    ("checks", {"alpha": 0}, "alpha"),
    ("checks", {"alpha": 0.00009}, "alpha"),
    ("checks", {"alpha": "1 %"}, "alpha"),
    ("checks", {"alpha": True}, "alpha"),
    ("checks", {"alpha": None}, "alpha"),
    ("checks", {"aplha": 0.01}, "aplha"),
    ("checks", {"alpha": float("nan")}, "alpha"),
    ("checks", {"faults": 0.005}, "faults"),
    ("checks", {"faults": {"max_increase": 0.3}}, "faults.max_increase"),
    ("checks", {"faults": {"max_increase": 0.0004}}, "faults.max_increase"),
    ("checks", {"faults": {"min_ratio": 2}}, "faults.min_ratio"),
    ("checks", {"latency": {"max_increase": 5}}, "latency.max_increase"),
    ("checks", {"latency": {"min_ratio": 0.9}}, "latency.min_ratio"),
    ("checks", {"latency": {"min_ratio": 11}}, "latency.min_ratio"),
    ("checks", {"latency": {"min_seconds": -0.001}}, "latency.min_seconds"),
    ("checks", {"latency": {"min_seconds": 61}}, "latency.min_seconds"),
    ("environment_variables", ["GOOGLE_API_KEY", "MLFLOW_TRACKING_TOKEN"], "1"),
    ("environment_variables", ["PIP_INDEX_URL"], "0"),
    ("environment_variables", ["CANARY_ROUTER_SERVER__ADMIN_TOKEN"], "0"),
    ("environment_variables", ["GOOGLE_API_KEY=hunter2"], "0"),
    ("environment_variables", [{"GOOGLE_API_KEY": "hunter2"}], "0"),
    ("environment_variables", [""], "0"),
    ("tracking", {}, "uri"),
    ("tracking", {"uri": "sqlite:///mlflow.db"}, "uri"),
    ("tracking", {"uri": "http://"}, "uri"),
    ("tracking", {"uri": "https://ada:hunter2@mlflow"}, "uri"),
    ("tracking", {"uri": "http://mlflow:5000", "token": "hunter2"}, "token"),
    ("scores", [{"output": 1}, {"bin": 20}], "1.bin"),
    ("scores", [{"output": 1}, 7], "1"),
    ("scores", [{"output": 1}, {"bins": [0.5, 1], "range": [0, 2]}], "1"),
]


@pytest.mark.parametrize(("key", "value", "inside"), WRONG_INSIDE, ids=lambda case: str(case)[:50])
def test_a_wrong_value_within_a_mapping_is_refused_where_it_stands(key: str, value: Any, inside: str) -> None:
    reported = {path.removesuffix(".[key]") for path in problems({key: value})}

    assert f"models.sentiment.{key}.{inside}" in reported


RIGHT_MODEL_KEYS: list[tuple[str, Any, Any]] = [
    ("split", {"production": 94.9, "canary": 5, "shadow": Decimal("0.1")}, Split(5_000, ("shadow", 100))),
    ("split", {"production": 100}, Split()),
    ("split", {"production": 50, "canary-b": 50}, Split(0, ("canary-b", 50_000))),
    ("split", {"production": Decimal("99.999"), "canary": Decimal("0.001")}, Split(1)),
    ("key", {"json": "user.ids.0"}, KeySource(KeyKind.JSON, "user.ids.0")),
    ("key", {"query": "user id"}, KeySource(KeyKind.QUERY, "user id")),
    ("key", {"cookie": "u", "missing": "reject"}, KeySource(KeyKind.COOKIE, "u", MissingKey.REJECT)),
    ("salt", "two words", "two words"),
    ("aliases", {"canary": "challenger"}, {"production": "production", "canary": "challenger"}),
    ("aliases", {"production": "stage:production"}, {"production": "stage:production", "canary": "canary"}),
    ("scores", {}, ScoreSettings()),
    ("scores", None, ScoreSettings()),
    ("scores", {"on_shift": "fail"}, ScoreSettings(None, "fail")),
    ("scores", {"output": 0}, ScoreSettings((ScoreSpec(),))),
    (
        "scores",
        {"output": "price", "range": [-5, Decimal("5.5")], "bins": 200},
        ScoreSettings((ScoreSpec("price", -5, 5.5, 200),)),
    ),
    ("scores", {"bins": [Decimal("0.1"), 1]}, ScoreSettings((ScoreSpec(0, 0, 1, 2, (0.1, 1.0)),))),
    (
        "scores",
        {"bins": [-1, 5], "range": [-5, 5]},
        ScoreSettings((ScoreSpec(0, -5, 5, 2, (-1.0, 5.0)),)),
    ),
    (
        "scores",
        {"output": "label", "classes": ["spam", 3, True]},
        ScoreSettings((ClassSpec("label", ("spam", "3", "true")),)),
    ),
    (
        "scores",
        [{"output": "label", "classes": ["a"], "on_shift": "fail"}, {"output": 1}],
        ScoreSettings((ClassSpec("label", ("a",)), ScoreSpec(1)), "fail"),
    ),
    ("checks", {}, CheckSettings()),
    ("checks", None, CheckSettings()),
    ("checks", {"faults": None, "latency": {}}, CheckSettings()),
    ("checks", {"alpha": Decimal("0.05")}, CheckSettings(alpha=0.05)),
    (
        "checks",
        {"latency": {"min_ratio": 1, "min_seconds": 0}},
        CheckSettings(latency=LatencyLimits(min_ratio=1.0, min_seconds=0.0)),
    ),
    ("environment_variables", [], []),
    ("environment_variables", ["GOOGLE_API_KEY", "AWS_PROFILE"], ["GOOGLE_API_KEY", "AWS_PROFILE"]),
    ("why", "on", True),
    ("why", "off", False),
    ("fallback", "none", False),
    ("cpu_threads", "auto", None),
    ("cpu_threads", 4, 4),
    ("canary_timeout_seconds", "auto", None),
    ("canary_timeout_seconds", Decimal("0.25"), 0.25),
    ("model_error_status", 400, 400),
    ("nan", "literal", False),
    ("nan", "null", True),
]


@pytest.mark.parametrize(("key", "written", "made"), RIGHT_MODEL_KEYS, ids=lambda case: str(case)[:40])
def test_a_right_value_becomes_what_the_gateway_works_with(key: str, written: Any, made: Any) -> None:
    assert getattr(model_of(**{key: written}), key) == made


@pytest.mark.parametrize(("written", "made"), [("auto", None), (1, 1), (64, 64)])
def test_parallel_loads_is_auto_or_a_number(written: Any, made: int | None) -> None:
    assert settings(registry={"parallel_loads": written}).registry.parallel_loads == made


@pytest.mark.parametrize(
    ("text", "address", "local"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0), True),
        ("[::1]:8081", ("::1", 8081), True),
        ("localhost:9", ("localhost", 9), True),
        ("127.8.9.1:65535", ("127.8.9.1", 65_535), True),
        ("0.0.0.0:8081", ("0.0.0.0", 8081), False),
        ("[::]:8081", ("::", 8081), False),
        ("10.0.0.1:8081", ("10.0.0.1", 8081), False),
        ("admin.example.com:8081", ("admin.example.com", 8081), False),
    ],
)
def test_an_admin_address_is_host_and_port_and_local_or_not(
    text: str, address: tuple[str, int], local: bool
) -> None:
    server = settings(server={"admin": text}).server
    assert (server.admin, server.admin_is_local) == (address, local)


def test_both_listeners_on_one_port_are_refused() -> None:
    assert list(problems(server={"admin": "127.0.0.1:8080"})) == ["server"]
    assert settings(server={"listen": "127.0.0.1:0", "admin": "127.0.0.1:0"})


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a/b", "a:b", "a\nb", 7])
def test_a_model_name_that_mlflow_would_refuse_is_refused(name: Any) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"models": {name: None}})


def test_at_least_one_model_is_named() -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"models": {}})


@given(st.integers(0, 100_000), st.integers(0, 100_000))
def test_a_split_is_exact_to_the_last_bucket(canary: int, further: int) -> None:
    """A thousandth of a percent is one bucket; three numbers of 100 in all never lose or gain one."""
    production = 100_000 - canary - further
    percentages = {
        "production": Decimal(production) / 1000,
        "canary": Decimal(canary) / 1000,
        "shadow": Decimal(further) / 1000,
    }
    if production < 0:
        assert problems({"split": percentages})
    else:
        shares = model_of(split=percentages).split.shares()
        assert shares == {PRODUCTION: production, CANARY: canary, "shadow": further}


@given(st.integers(0, 100_000), st.integers(-100_000, 100_000).filter(bool))
def test_a_split_of_another_total_is_refused(canary: int, off: int) -> None:
    percentages = {"production": Decimal(100_000 - canary + off) / 1000, "canary": Decimal(canary) / 1000}

    assert problems({"split": percentages})


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (("username_file",), "go together"),
        (("password_file",), "go together"),
        (("token_file", "username_file", "password_file"), "name either"),
    ],
)
def test_credentials_of_the_registry_are_a_token_or_a_user_with_a_password(
    named: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        settings(registry={key: f"/run/{key}" for key in named})


def test_files_of_credentials_are_handed_on_by_absolute_path() -> None:
    assert settings().registry.credentials() == {}
    assert settings(registry={"token_file": "token"}).registry.credentials() == {
        "token_file": str(Path("token").absolute())
    }


def test_mlflow_s_own_variables_fill_in_the_registry() -> None:
    registry = settings().registry
    assert registry.places({}).uri == registry.places({}).tracking_uri == "sqlite:///mlflow.db"

    places = registry.places({"MLFLOW_TRACKING_URI": "http://t", "MLFLOW_REGISTRY_URI": "http://r"})
    assert (places.uri, places.tracking_uri) == ("http://r", "http://t")

    written = settings(registry={"uri": "sqlite:///a.db", "cache_dir": "/var/cache/x"}).registry
    places = written.places({"MLFLOW_REGISTRY_URI": "http://r"})
    assert (places.uri, places.tracking_uri, places.cache_dir) == (
        "sqlite:///a.db",
        "sqlite:///a.db",
        Path("/var/cache/x"),
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("artifact_schemes", ["S3"]),
        ("artifact_schemes", ["s3:"]),
        ("artifact_schemes", ["file"]),
        ("artifact_schemes", [""]),
        ("artifact_roots", ["models"]),
        ("artifact_roots", ["/srv/../etc"]),
        ("artifact_roots", ["s3"]),
        ("artifact_roots", [5]),
    ],
)
def test_a_scheme_or_root_that_names_nothing_is_refused(key: str, value: Any) -> None:
    assert [path.partition("[")[0] for path in problems(registry={key: value})] == [f"registry.{key}.0"]


def test_schemes_and_roots_may_be_a_list_or_a_text_with_commas() -> None:
    """Variables of the environment are texts."""
    for roots in (["/srv/models", "s3://bucket/m"], "/srv/models, s3://bucket/m"):
        assert settings(registry={"artifact_roots": roots}).registry.artifact_roots == [
            "/srv/models",
            "s3://bucket/m",
        ]
    assert settings(registry={"artifact_schemes": "s3,gs"}).registry.places({}).schemes == ("s3", "gs")


@pytest.mark.parametrize(
    ("uri", "tracking_uri", "local"),
    [
        ("sqlite:///mlflow.db", None, True),
        ("sqlite+pysqlite:///mlflow.db", None, True),
        ("/srv/mlruns", None, True),
        ("file:///srv/mlruns", None, True),
        ("http://mlflow", None, False),
        ("postgresql://db/mlflow", None, False),
        ("databricks", None, False),
        ("sqlite:///mlflow.db", "http://mlflow", False),
    ],
)
def test_local_files_are_only_for_a_registry_of_this_machine(
    uri: str, tracking_uri: str | None, local: bool
) -> None:
    registry = settings(registry={"uri": uri, "tracking_uri": tracking_uri}).registry

    assert registry.places({}).are_local is local


def test_two_registries_never_share_a_default_cache() -> None:
    caches = {
        settings(registry={"uri": uri}).registry.places({"XDG_CACHE_HOME": "/c"}).cache_dir
        for uri in ("sqlite:///a.db", "sqlite:///b.db")
    }
    assert len(caches) == 2
    assert all(cache.parent == Path("/c/canary-router") for cache in caches)


def keys_of(*models: type[BaseModel]) -> list[tuple[str, Any]]:
    return [
        (f"{model.__name__}.{name}", field) for model in models for name, field in model.model_fields.items()
    ]


def test_every_key_says_what_it_means_and_when_a_change_takes_effect() -> None:
    everything = Settings.model_fields
    sections = [
        everything[name].annotation for name in ("server", "registry", "log", "fleet", "environments")
    ]
    for name, field in keys_of(*sections, ModelSettings):
        assert field.description, name
        assert reload_of(field.metadata) in Reload, name
    for name, field in keys_of(WrittenKey, WrittenScores, CheckSettings, FaultLimits, LatencyLimits):
        assert field.description, name


BEFORE: dict[str, Any] = {
    "server": {"listen": "0.0.0.0:8080", "drain_seconds": 15},
    "models": {
        "sentiment": {"split": {"production": 95, "canary": 5}, "aliases": {"canary": "challenger"}},
        "churn": {"split": {"production": 100, "canary": 0}},
    },
}


@pytest.mark.parametrize(
    ("path", "value", "reported"),
    [
        ("server.drain_seconds", 20, [("server.drain_seconds", Reload.HOT)]),
        ("server.listen", "0.0.0.0:9090", [("server.listen", Reload.COLD)]),
        ("log", {"level": "debug"}, [("log.level", Reload.HOT)]),
        ("registry", {"uri": "http://r"}, [("registry.uri", Reload.COLD)]),
        ("models.churn.split", {"production": 99, "canary": 1}, [("models.churn.split", Reload.HOT)]),
        ("models.churn.split", {"production": 100}, []),
        ("models.churn.salt", "churn", []),
        ("models.churn.salt", "other", [("models.churn.salt", Reload.REBUCKETING)]),
        ("models.churn.key", {"cookie": "u"}, [("models.churn.key", Reload.REBUCKETING)]),
        ("models.churn.aliases", {"canary": "canary"}, []),
        ("models.sentiment.aliases", {}, [("models.sentiment.aliases", Reload.COLD)]),
        ("models.churn.checks", {"alpha": 0.05}, [("models.churn.checks", Reload.HOT)]),
        ("models.churn.checks", {"alpha": 0.01}, []),
        ("models.churn.aliases", {"previous": "last"}, [("models.churn.aliases", Reload.COLD)]),
        ("models.churn.aliases", {"previous": "previous"}, []),
        ("models.churn.keep_previous_seconds", 3600, [("models.churn.keep_previous_seconds", Reload.HOT)]),
        (
            "models.churn.split",
            {"production": 100, "shadow": 0},
            [("models.churn.split", Reload.HOT), ("models.churn.aliases", Reload.COLD)],
        ),
        ("models.new", {"split": {"production": 100}}, [("models.new", Reload.HOT)]),
    ],
)
def test_a_change_is_reported_by_path_and_by_when_it_takes_effect(
    path: str, value: Any, reported: list[Any]
) -> None:
    after = copy.deepcopy(BEFORE)
    *parents, last = path.split(".")
    place = after
    for step in parents:
        place = place[step]
    place[last] = value

    found = changes(Settings.model_validate(BEFORE), Settings.model_validate(after))

    assert [(change.path, change.reload) for change in found] == reported


def test_removing_or_reordering_models_moves_callers() -> None:
    """The first model answers at /invocations, so a new first one sends its callers elsewhere."""
    both = Settings.model_validate(BEFORE)
    names = BEFORE["models"]
    one = Settings.model_validate({**BEFORE, "models": {"sentiment": names["sentiment"]}})
    turned = Settings.model_validate({**BEFORE, "models": dict(reversed(names.items()))})

    assert [(c.path, c.reload) for c in changes(both, one)] == [("models.churn", Reload.REBUCKETING)]
    assert [(c.path, c.reload) for c in changes(both, turned)] == [("models", Reload.REBUCKETING)]
    assert changes(both, both) == []


def test_a_split_that_is_no_longer_written_waits_for_an_operator() -> None:
    """A file cut in the middle is still valid, with the default split that nobody wrote."""
    written = Settings.model_validate(
        {"models": {"m": {"workers": 1, "split": {"production": 50, "canary": 50}}}}
    )
    cut = Settings.model_validate({"models": {"m": {"workers": 1}}})
    with_another = Settings.model_validate({"models": {"m": {"workers": 1}, "n": {"workers": 2}}})

    assert [(c.path, c.reload) for c in changes(written, cut)] == [("models.m.split", Reload.REBUCKETING)]
    assert [(c.path, c.reload) for c in changes(cut, with_another)] == [("models.n", Reload.REBUCKETING)]
    assert changes(cut, cut) == []


SHADOW = {"production": 90, "previous": 10}


@pytest.mark.parametrize(
    ("keys", "served", "previous"),
    [
        ({}, {"production": "production", "canary": "canary"}, "previous"),
        ({"aliases": {"previous": "former"}}, {"production": "production", "canary": "canary"}, "former"),
        (
            {"aliases": {"canary": "previous"}},
            {"production": "production", "canary": "previous"},
            "previous-production",
        ),
        (
            {"split": SHADOW},
            {"production": "production", "canary": "canary", "previous": "previous"},
            "previous-production",
        ),
        (
            {"split": SHADOW, "aliases": {"previous": "holdback"}},
            {"production": "production", "canary": "canary", "previous": "holdback"},
            "previous",
        ),
    ],
)
def test_the_alias_of_a_rollback_is_read_and_is_never_one_that_serves(
    keys: dict[str, Any], served: dict[str, str], previous: str
) -> None:
    """A split that has served an alias called previous goes on serving it: a promotion must not move it."""
    model = model_of(**keys)

    assert model.aliases == served
    assert model.previous_name == previous
    assert model.polled_aliases == {**served, ROLLBACK: previous}
    assert ROLLBACK not in model.split.shares()


def test_the_committed_schema_is_current() -> None:
    """Write it again with `python -c "from router.settings import schema_json as s; print(s(), end='')"`."""
    # Compared as JSON: pydantic's releases differ in how they write 0.
    assert json.loads((CONFIG / "router.schema.json").read_text()) == json.loads(schema_json())


def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(schema_json())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_schema_describes_every_key() -> None:
    schema = json.loads(schema_json())
    for name, definition in schema["$defs"].items():
        for key, described in definition["properties"].items():
            assert described.get("description"), f"{name}.{key}"
    split = schema["$defs"]["ModelSettings"]["properties"]["split"]
    assert split["properties"]["canary"]["description"]
    assert split["x-reload"] == "hot"


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"models": {}},
        {"models": {"a/b": {}}},
        {"models": {"m": {"splitt": {}}}},
        {"models": {"m": {"split": {"production": "95"}}}},
        {"models": {"m": {"split": {"canary": 5}}}},
        {"models": {"m": {"key": {"header": "a", "cookie": "b"}}}},
        {"models": {"m": {"timeout_seconds": 0}}},
        {"models": {"m": {"scores": {"bins": 201}}}},
        {"models": {"m": {}}, "server": {"listen": 8080}},
        {"models": {"m": {}}, "log": {"level": "loud"}},
    ],
)
def test_the_schema_refuses_what_an_editor_can_see(wrong: dict[str, Any]) -> None:
    assert not validator().is_valid(wrong)
    with pytest.raises(ValidationError):
        Settings.model_validate(wrong)


def test_what_workers_get_of_tracking_names_files_and_holds_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers stand in another directory, so that a relative path would lead elsewhere."""
    monkeypatch.chdir(tmp_path)
    tracking = model_of(tracking={"uri": "http://mlflow:5000", "token_file": "token"}).tracking

    assert tracking is not None
    assert tracking.destination() == Tracking("http://mlflow:5000", token_file=str(tmp_path / "token"))
