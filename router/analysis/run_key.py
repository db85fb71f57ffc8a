"""What a run is about, and the key that all gateways know it by."""

import json
from collections.abc import Sequence
from hashlib import sha256

import msgspec
from msgspec import Struct

from router.analysis.criteria import Criteria
from router.core.ids import Alias, VersionId
from router.core.scores import ClassSpec, OutputSpec, ScoreSpec, to_json

STATISTICS_VERSION = 1
"""Raised with each change by which the same cells would say something else: that is another run."""
MOST_BYTES = 65_536
"""Of a packed subject; texts and edges of a configuration take less."""
_DIGITS = 32


class RunSubject(Struct, frozen=True, array_like=True):
    """What is compared, and how: another subject is another run, with evidence and an alpha of its own."""

    model: str
    alias: str
    """Compared with production."""
    production: int
    """Number of its version."""
    version: int
    salt: str
    criteria: Criteria
    score: ScoreSpec | None
    """What is counted of both versions, where that is a score…"""
    classes: ClassSpec | None
    """…or a label. Neither where they are counted differently."""
    outputs: str
    """Digest of everything that both versions count alike."""

    @property
    def output(self) -> OutputSpec | None:
        """The score or label that is judged."""
        return self.score or self.classes

    @property
    def key(self) -> str:
        """32 hexadecimal digits."""
        return sha256(b"%d:" % STATISTICS_VERSION + self.pack()).hexdigest()[:_DIGITS]

    def pack(self) -> bytes:
        """As it travels."""
        return _ENCODER.encode(self)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(RunSubject, strict=True)


def subject_of(
    alias: Alias,
    production: VersionId,
    version: VersionId,
    salt: str,
    outputs: Sequence[OutputSpec],
    criteria: Criteria,
) -> RunSubject:
    """What is compared where `version` serves `alias`, and `outputs` are counted of both versions."""
    first = outputs[0] if outputs else None
    counted = json.dumps([to_json(output) for output in outputs], sort_keys=True)
    return RunSubject(
        production.model,
        alias,
        production.number,
        version.number,
        salt,
        criteria,
        first if isinstance(first, ScoreSpec) else None,
        first if isinstance(first, ClassSpec) else None,
        sha256(counted.encode()).hexdigest()[:_DIGITS],
    )


def unpack_subject(packed: bytes) -> RunSubject:
    """What `pack` gave. Raises ValueError for what it can not have given."""
    if len(packed) > MOST_BYTES:
        raise ValueError(f"a subject takes {MOST_BYTES} bytes at most")
    return _DECODER.decode(packed)  # msgspec's errors, and those of the specifications, are ValueErrors
