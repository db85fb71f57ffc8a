"""What is counted of a version's answers: up to four outputs, each as scores in bins or as classes."""

from collections.abc import Sequence
from typing import Any

from router.core.bins import ScoreCounts, ScoreSpec
from router.core.labels import OTHER, ClassCounts, ClassSpec

MOST_OUTPUTS = 4
NAME_CHARACTERS = 128
"""Characters of an output's name that are shown."""
OutputSpec = ScoreSpec | ClassSpec
OutputCounts = ScoreCounts | ClassCounts


def shown_name(spec: OutputSpec) -> str:
    """The output as metrics and documents name it."""
    return str(spec.output)[:NAME_CHARACTERS]


def check_outputs(specs: Sequence[OutputSpec]) -> None:
    """ValueError unless the outputs can be told apart: by name, and at most one of them has classes."""
    if len(specs) > MOST_OUTPUTS:
        raise ValueError(f"at most {MOST_OUTPUTS} outputs are counted")
    if len({shown_name(spec) for spec in specs}) < len(specs):
        raise ValueError("an output is named twice")
    if sum(isinstance(spec, ClassSpec) for spec in specs) > 1:
        raise ValueError("only one output can have classes")


def described(spec: OutputSpec) -> str:
    """What is counted of one output, in words for an operator."""
    name = shown_name(spec) if isinstance(spec.output, int) else f"`{shown_name(spec)}`"
    if isinstance(spec, ClassSpec):
        return f"output {name} by the classes {', '.join(spec.classes)}"
    bins = f"{spec.bins} bins" if spec.bins > 1 else "one bin"
    return f"output {name} in {bins} on [{spec.low:g}, {spec.high:g}]"


def told(spec: OutputSpec) -> dict[str, Any]:
    """The same as values, JSON-ready."""
    if isinstance(spec, ClassSpec):
        return {"output": shown_name(spec), "kind": "class", "classes": [*spec.classes, OTHER]}
    edges = list(spec.edges())
    return {"output": shown_name(spec), "kind": "score", "low": float(spec.low), "edges": edges}


def all_nan(counts: Sequence[OutputCounts]) -> bool:
    """True when something was counted and all of it, in every output, is NaN."""
    return bool(counts) and all(one.all_nan for one in counts)
