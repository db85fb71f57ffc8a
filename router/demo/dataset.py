"""The committed sentences: short, labelled, split once and for all into train and holdout."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).parent / "data" / "sentences.jsonl"


@dataclass(frozen=True, slots=True)
class Sentence:
    """One line of the file."""

    text: str
    label: int
    """1 positive, 0 negative."""
    domain: str
    part: str
    """train or holdout; a sentence is in one of them only."""


@cache
def sentences(part: str) -> tuple[Sentence, ...]:
    """The sentences of `part`, in the file's order, which mixes domains and labels."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    return tuple(one for line in lines if (one := Sentence(**json.loads(line))).part == part)
