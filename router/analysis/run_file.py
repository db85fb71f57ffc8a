"""What one file of evidence holds: a header, a state, and what came after it, each whole or not there.

The file of a run is written by one process, whose successor begins with a new one. A process that ends notes
it; where that note is missing it was killed, or its machine went down.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from router.analysis.evidence_format import (
    FRAME_BYTES,
    Cell,
    Count,
    EvidenceRefused,
    Host,
    Process,
    RunKey,
    RunNumber,
    decode_cell,
    decode_state,
    decoded,
    encode_cell,
    encode_state,
    frame,
    frames,
)
from router.analysis.evidence_sink import UncleanEnd
from router.analysis.fleet_messages import MOST_NAME
from router.analysis.run_key import MOST_BYTES as MOST_SUBJECT_BYTES
from router.analysis.run_key import STATISTICS_VERSION, RunSubject, unpack_subject
from router.analysis.run_state import DAY_CELLS, RunStateData
from router.analysis.statistics.records import RunCell, RunId, add_record
from router.core.scores import OutputSpec

MOST_FILE_BYTES = 64 << 20
MOST_UNCLEAN_ENDS = 32
"""That are kept, of one day."""
_NAME = b"canary-router evidence "
_FORMAT = 1
_MAGIC = _NAME + b"%d\n" % _FORMAT
_HEADER, _STATE, _OWN, _SEALED, _END = range(1, 6)


class RunHeader(Struct, array_like=True, forbid_unknown_fields=True):
    """Whose file it is."""

    statistics: int
    """Version of the statistics that counted."""
    key: RunKey
    number: RunNumber
    subject: Annotated[bytes, Meta(max_length=MOST_SUBJECT_BYTES)]
    """Packed."""
    process: Process
    """That writes it."""
    host: Host
    """Its machine, for people."""
    canary_requests: Count
    """That the process had observed in this run, in cells that the state holds."""
    verdict_cell: Cell
    """In which the verdict of the state was first said."""
    unclean_ends: Annotated[list[UncleanEnd], Meta(max_length=MOST_UNCLEAN_ENDS)]
    """Of processes before it."""


_headers = msgspec.msgpack.Decoder(RunHeader, strict=True)
_owns = msgspec.msgpack.Decoder(tuple[Cell, bytes], strict=True)
_seals = msgspec.msgpack.Decoder(tuple[Cell, dict[Process, bytes]], strict=True)
_encoder = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True)
class FoundFile:
    """What was read of one."""

    header: RunHeader
    subject: RunSubject
    state: RunStateData
    sealed: Sequence[tuple[int, Sequence[RunCell]]]
    """Cells after the state's that were sealed, with what each process observed in them."""
    unsealed: Sequence[tuple[int, RunCell]]
    """What the process that wrote it observed in cells after these."""
    clean: bool
    """Whether that process noted its end."""
    last_cell: int
    """The last of which something was written."""
    canary_requests: int
    """That the process had observed in this run."""
    size: int
    """Bytes that are whole; what follows them counts as not written."""

    @property
    def run(self) -> RunId:
        """Which one it is."""
        return RunId(self.header.key, self.header.number)

    @property
    def unclean_ends(self) -> list[UncleanEnd]:
        """Of the last day, also that of the process that wrote it."""
        header = self.header
        ends = list(header.unclean_ends)
        if not self.clean:
            ends.append(UncleanEnd(header.process, header.host, self.last_cell, self.canary_requests))
        return [end for end in ends if end.cell > self.last_cell - DAY_CELLS][-MOST_UNCLEAN_ENDS:]


def header_of(
    run: RunId,
    subject: RunSubject,
    process: str,
    host: str,
    canary_requests: int,
    verdict_cell: int,
    unclean_ends: Sequence[UncleanEnd],
) -> RunHeader:
    """That of a file which `process` writes."""
    return RunHeader(
        STATISTICS_VERSION,
        run.key,
        run.number,
        subject.pack(),
        process,
        host[:MOST_NAME],
        canary_requests,
        verdict_cell,
        list(unclean_ends[-MOST_UNCLEAN_ENDS:]),
    )


def encode_file(
    header: RunHeader, state: RunStateData, unsealed: Sequence[tuple[int, RunCell]]
) -> tuple[bytes, int]:
    """A new file's content, and how many bytes of it are the state and what stands before it."""
    begin = _MAGIC + frame(_HEADER, _encoder.encode(header)) + frame(_STATE, encode_state(state))
    return begin + b"".join(encode_own(cell, delta) for cell, delta in unsealed), len(begin)


def encode_own(cell: int, delta: RunCell) -> bytes:
    """To append: the process that writes the file observed it."""
    return frame(_OWN, _encoder.encode((cell, encode_cell(delta))))


def encode_sealed(cell: int, others: Mapping[str, RunCell]) -> bytes:
    """To append: the cell was sealed, with what others observed."""
    return frame(_SEALED, _encoder.encode((cell, {name: encode_cell(one) for name, one in others.items()})))


def encode_end() -> bytes:
    """To append: the process ends, and nothing is lost."""
    return frame(_END, b"")


def decode_file(content: bytes) -> FoundFile:
    """What is in a file, up to where it is torn. Raises EvidenceRefused where its state can not be read."""
    if not content.startswith(_MAGIC):
        if content.startswith(_NAME):
            raise EvidenceRefused(f"its format is not {_FORMAT}, which this version reads")
        raise EvidenceRefused("it is no evidence")
    size, rest = len(_MAGIC), frames(content, len(_MAGIC))
    kind, body = next(rest, (0, b""))
    if kind != _HEADER:
        raise EvidenceRefused("its header is torn")
    header = decoded(_headers, body)
    if header.statistics != STATISTICS_VERSION:
        raise EvidenceRefused("it was counted by another version of the statistics")
    try:
        subject = unpack_subject(header.subject)
    except ValueError:
        raise EvidenceRefused("it does not say what it is about") from None
    if subject.key != header.key:
        raise EvidenceRefused("its key is not that of what it is about")
    size += FRAME_BYTES + len(body)
    kind, body = next(rest, (0, b""))
    if kind != _STATE:
        raise EvidenceRefused("its state is torn")
    state = decode_state(body)
    size += FRAME_BYTES + len(body)
    appended = _Appended(state.horizon, header, subject.output)
    for kind, body in rest:
        try:
            appended.take(kind, body)
        except EvidenceRefused:
            break  # what follows may count only together with it
        size += FRAME_BYTES + len(body)
    return FoundFile(
        header,
        subject,
        state,
        list(appended.sealed()),
        list(appended.unsealed()),
        appended.ended,
        appended.last_cell,
        appended.canary_requests,
        size,
    )


class _Appended:
    """What came after the state, frame by frame."""

    def __init__(self, horizon: int, header: RunHeader, output: OutputSpec | None) -> None:
        self._process = header.process
        self._indexes = 1 if output is None else output.index_count
        self.last_cell = horizon
        self.canary_requests = header.canary_requests
        self.ended = False
        self._sealed_until = horizon
        self._own: dict[int, RunCell] = {}
        self._others: dict[int, list[RunCell]] = {}

    def take(self, kind: int, body: bytes) -> None:
        """The next one. Raises EvidenceRefused."""
        if kind == _OWN:
            cell, packed = decoded(_owns, body)
            self._take_own(cell, decode_cell(packed))
        elif kind == _SEALED:
            cell, parts = decoded(_seals, body)
            others = [decode_cell(part) for name, part in parts.items() if name != self._process]
            if cell > self._sealed_until:
                self._others[cell] = others
                self._sealed_until = cell
        elif kind == _END:
            self.ended = True
            return
        else:
            raise EvidenceRefused("a part of it is of an unknown kind")
        self.last_cell = max(self.last_cell, cell)

    def _take_own(self, cell: int, delta: RunCell) -> None:
        self.canary_requests += sum(record.canary.requests for record in delta.records)
        if cell <= self._sealed_until:
            return  # it is in the state already, or came too late for it
        known = self._own.get(cell)
        self._own[cell] = delta if known is None else merged(known, delta, self._indexes)

    def sealed(self) -> Iterator[tuple[int, Sequence[RunCell]]]:
        """Cells that were sealed, in order."""
        cells = {*self._others, *(cell for cell in self._own if cell <= self._sealed_until)}
        for cell in sorted(cells):
            own = self._own.get(cell)
            yield cell, [*([] if own is None else [own]), *self._others.get(cell, ())]

    def unsealed(self) -> Iterator[tuple[int, RunCell]]:
        """Those of this process that were not."""
        return ((cell, own) for cell, own in sorted(self._own.items()) if cell > self._sealed_until)


def merged(one: RunCell, later: RunCell, indexes: int) -> RunCell:
    """Two parts of one cell, of one process, as one. `one` is changed."""
    for record in later.records:
        add_record(one, record, indexes)
    if one.history is None:
        one.history = later.history
    if one.subject is None:
        one.subject = later.subject
    one.outage = one.outage or later.outage
    return one
