"""`canary-router gate` with real versions of a real registry, asked in workers of their own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest

from router.core.gate import GateEvidence, GateRules, judge
from router.core.gate_record import GATE_TAG, read_gate_record
from tests.conftest import Figure
from tests.support.document_blocks import ROOT
from tests.support.registry import Registry, built_registry_of, copied
from tests.support.slowness import slack

KEY = b"by-which-the-gate-signs-0123456789"
SCHEMA = json.loads((ROOT / "config" / "gate-report.schema.json").read_text(encoding="utf-8"))
BUILD_CHURN = ROOT / "tests" / "support" / "build_churn.py"
SENDS = ("--sends", "logins_30d,late_payments_12m")
"""What the demo's callers send though only version 2 looks at it."""
LARGE_ROWS = 2_000_000
MOST_KIB = 1 << 20
Gate = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """Runs the command on a registry; returns the exit code, the report and what it said beside."""

    def run(
        registry: Registry, model: str, *arguments: str, seconds: float = 180.0, **environment: str
    ) -> tuple[int, dict[str, Any], str]:
        config = tmp_path / "router.yaml"
        cache = tmp_path / "cache"
        config.write_text(
            f"registry: {{uri: '{registry.uri}', cache_dir: '{cache}'}}\n"
            f"models: {{{model}: {{scores: {{output: 1}}}}}}\n"
        )
        command = [
            sys.executable,
            "-m",
            "router",
            "gate",
            model,
            "-c",
            str(config),
            "-o",
            "json",
            "--by",
            "ci",
        ]
        done = subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, **environment},
            timeout=seconds * slack(),
        )
        assert done.stdout, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        jsonschema.Draft202012Validator(SCHEMA).validate(report)
        return done.returncode, report, done.stderr

    return run


def some_rows(count: int) -> pd.DataFrame:
    """For `risk`, whose first version weighs the links as they deserve, and its second one too little."""
    draw = np.random.default_rng(7)
    table = pd.DataFrame({"links": draw.poisson(1.5, count), "words": draw.poisson(5.0, count)}).astype(float)
    leaning = table["links"] - 1.5 - 0.3 * (table["words"] - 5.0)
    return table.assign(risky=(draw.random(count) < 1 / (1 + np.exp(-leaning))).astype(int))


@pytest.mark.slow  # ten seconds of a processor; docs/gate.md is played with a gate of its own in each run
def test_what_passes_is_signed_in_the_registry_and_logged_in_one_run(
    registry: Registry, gate: Gate, tmp_path: Path
) -> None:
    some_rows(1500).to_csv(tmp_path / "holdout.csv", index=False)
    key = tmp_path / "key"
    key.write_bytes(KEY)
    key.chmod(0o400)
    code, report, said = gate(
        registry,
        "risk",
        *("--version", "1", "--against", "2", "--data", "holdout.csv", "--target", "risky"),
        *("--write-tags", "--sign-key-file", str(key), "--mlflow-run", "--min-gain", "0.001"),
        MLFLOW_TRACKING_URI=registry.uri,
        MLFLOW_EXPERIMENT_NAME="e2e",
    )

    assert (code, report["verdict"]) == (0, "pass"), said
    assert report["holdout"]["rows"] == 1500
    assert [one["verdict"] for one in report["holdout"]["criteria"]] == ["pass", "pass"]
    version = registry.client.get_model_version("risk", "1")
    tag = version.tags[GATE_TAG]
    record = read_gate_record(tag)
    assert (record.of.run_id, record.data) == (version.run_id, report["holdout"]["sha256"])
    assert judge(GateEvidence(record.of, tag, None), GateRules(3600.0, KEY), time.time()).passes
    run = registry.client.get_run(report["mlflow_run"])
    assert run.data.metrics["candidate_roc_auc"] == report["holdout"]["candidate"]
    assert run.data.metrics["production_roc_auc"] == report["holdout"]["production"]
    assert run.data.tags["canary_router.mlflow_validation"] == "passed"
    assert not (tmp_path / "mlruns").exists(), "nothing but the registry and that run is written"


@pytest.fixture
def churn(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> tuple[Registry, Path]:
    """A copy of the registry with three versions of the demo's churn model, and where its hold-outs are."""
    built = built_registry_of(BUILD_CHURN, tmp_path_factory)
    return copied(built, tmp_path), built


@pytest.mark.slow  # forests are trained, and loaded six times
def test_the_demos_second_version_passes_shuffled_labels_fail_and_40_rows_are_too_few(
    churn: tuple[Registry, Path], gate: Gate
) -> None:
    registry, data = churn
    asked = ("--against", "1", "--target", "churned", *SENDS, "--require", "params.training_data_hash")
    holdout, few = ("--data", str(data / "holdout.parquet")), ("--data", str(data / "few.csv"))

    passed, report, said = gate(registry, "churn_predictor", "--version", "2", *asked, *holdout)
    assert (passed, report["verdict"]) == (0, "pass"), said
    assert report["holdout"]["difference"]["low"] > 0.03

    failed, report, _ = gate(registry, "churn_predictor", "--version", "3", *asked, *holdout)
    assert (failed, report["verdict"]) == (1, "fail")
    assert report["holdout"]["difference"]["high"] < -0.1

    undecided, report, _ = gate(registry, "churn_predictor", "--version", "2", *asked, *few)
    assert (undecided, report["verdict"]) == (4, "not_enough_data")
    assert report["holdout"]["rows_to_decide"] > 40


@pytest.mark.slow  # some minutes of two processors
@pytest.mark.timeout(3600)
def test_two_million_rows_take_less_than_a_gibibyte_beside_the_versions(
    registry: Registry, gate: Gate, tmp_path: Path, figure: Figure
) -> None:
    some_rows(LARGE_ROWS).to_parquet(tmp_path / "large.parquet")
    began = time.monotonic()
    peak = tmp_path / "peak"
    watch = tmp_path / "sitecustomize.py"
    watch.write_text(
        "import atexit, os, resource, sys\n"
        "if 'gate' in sys.argv[1:2]:\n"
        f"    atexit.register(lambda: open({str(peak)!r}, 'w').write(str(\n"
        "        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)))\n"
    )
    code, report, said = gate(
        registry,
        "risk",
        *("--data", "large.parquet", "--target", "risky"),
        seconds=1800.0,
        PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}",
    )

    assert (code, report["holdout"]["rows"]) == (1, LARGE_ROWS), said
    used = int(peak.read_text())
    figure(
        f"{used >> 10} MiB at most, {time.monotonic() - began:.0f} s for {LARGE_ROWS:,} rows to each version"
    )
    assert used < MOST_KIB
