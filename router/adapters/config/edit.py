"""The one edit this package makes in an operator's file: the shares of a model's split, and not a byte more.

The text is changed where the numbers stand. A dump of the parsed file would keep comments too, but it would
move spaces, quotes and line ends in lines nobody asked about.
"""

import difflib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from router.adapters.config.file import ConfigFile
from router.adapters.config.yaml import Document, Node, read_yaml
from router.core.ids import CANARY, PRODUCTION
from router.errors import ConfigRefused
from router.settings.fields import did_you_mean
from router.settings.mappings import check_percent

Shares = Mapping[str, Decimal]
Splice = tuple[int, int, str]
"""Characters [start, end) become the text."""
_REASONS = {
    errno.EROFS: "is on a read-only file system; change it where it comes from",
    errno.EBUSY: "is mounted by itself and can not be replaced; change it where it comes from",
    errno.EACCES: "may not be replaced by this user",
    errno.EPERM: "may not be replaced by this user",
    errno.ENOSPC: "can not be written: the disk is full",
}


@dataclass(frozen=True, slots=True)
class SplitEdit:
    """A file with another share in it, not written yet."""

    file: ConfigFile
    old: bytes
    new: bytes
    """As `old` where nothing has to change."""
    lowers: bool
    """Whether the canary has less than the file gave it."""
    diff: str
    """Unified; empty where nothing has to change. Instead of pinned keys it shows how many there are."""

    def write(self) -> None:
        """Put it in place of the file, in one step, with the same mode.

        A symbolic link stays, and what it points to is replaced. Raises ConfigRefused, and leaves the file as
        it was, when that fails or somebody else changed it.
        """
        if self.diff:
            _replace_file(self.file, self.old, self.new)


def edit_split(path: str | os.PathLike[str], model: str, canary_percent: Decimal) -> SplitEdit:
    """Give the canary of `model` that many percent in what the file at `path` holds.

    Production gets the rest, a further alias keeps its share. Raises ConfigRefused when the share is not
    possible, and when the result would not load.
    """
    file = ConfigFile(path, {}, {})
    raw = file.read()
    text = file.text(raw)
    document = read_yaml(text)
    if document.problems or document.root is None:
        file.parse(raw)  # raises, with every problem
    try:
        edit = _Edit(text, document, model)
        edited, edited_document = edit.with_shares(edit.shares(check_percent(canary_percent)))
    except ValueError as error:
        raise ConfigRefused([f"{file.path.name} models.{model}.split: {error}"]) from error
    mark = raw[: len(raw) - len(text.encode())]
    try:
        file.parse(mark + edited.encode())
    except ConfigRefused:
        file.parse(raw)  # the same problems, where they stand in the file as it is
        raise
    return SplitEdit(
        file,
        raw,
        mark + edited.encode(),
        edit.canary > canary_percent,
        _diff(str(file.path), _without_pins(text, document), _without_pins(edited, edited_document)),
    )


def _diff(name: str, old: str, new: str) -> str:
    lines = difflib.unified_diff(old.splitlines(keepends=True), new.splitlines(keepends=True), name, name)
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


def _without_pins(text: str, document: Document) -> str:
    """`text` with the number of pinned keys instead of the keys, and as many lines as before."""
    models = document.node(("models",))
    for model in reversed(list(models.value) if models and isinstance(models.value, dict) else []):
        pins = document.node(("models", model, "pins"))
        if pins is None or not isinstance(pins.value, dict):
            continue
        keys = sum(len(node.value) for node in pins.value.values() if isinstance(node.value, list))
        # A block ends where the next key begins, so that comments go, too: they may be keys, commented out.
        written = text[pins.start : pins.end].rstrip()
        shown = f"({keys} {'key' if keys == 1 else 'keys'})" + "\n" * written.count("\n")
        text = text[: pins.start] + shown + text[pins.start + len(written) :]
    return text


class _Edit:
    """One model's split in a text. Raises ValueError with a sentence for what can not be edited."""

    def __init__(self, text: str, document: Document, model: str) -> None:
        self._text = text
        self._document = document
        self._name = model
        models = document.node(("models",))
        names = models.value if models and isinstance(models.value, dict) else {}
        if models is None or model not in names:
            raise ValueError(f"no such model in the file{did_you_mean(model, names)}")
        self._models, self._model = models, names[model]
        self._split = document.node(("models", model, "split"))

    @property
    def canary(self) -> Decimal:
        """Its percent as written, 0 where none is."""
        written = self._split.plain() if self._split else {}
        return check_percent(written.get(CANARY, 0)) if isinstance(written, dict) else Decimal(0)

    def shares(self, canary: Decimal) -> Shares:
        """Every role's percent once the canary has `canary`."""
        written = self._split.plain() if self._split else {}
        if not isinstance(written, dict):
            raise ValueError("is no mapping of roles; write it by hand once")
        others = {
            role: check_percent(percent)
            for role, percent in written.items()
            if role not in (PRODUCTION, CANARY)
        }
        rest = 100 - canary - sum(others.values())
        if rest < 0:
            kept = " and ".join(f"{role} has {_number(percent)}" for role, percent in others.items())
            raise ValueError(f"{_number(canary)} percent is too much: {kept}")
        return {PRODUCTION: rest, CANARY: canary, **others}

    def with_shares(self, shares: Shares) -> tuple[str, Document]:
        """The text with `shares` as the model's split, and no other difference; and what it holds."""
        text = self._text
        # From the end on, so that the positions before stay true.
        for start, end, new in sorted(self._splices(shares), reverse=True):
            text = text[:start] + new + text[end:]
        edited = read_yaml(text)
        if edited.problems or edited.root is None or edited.root.plain() != self._expected(shares):
            raise ValueError("is written in a way that can not be edited safely; edit it by hand")
        return text, edited

    def _expected(self, shares: Shares) -> Any:
        tree = self._document.root.plain() if self._document.root else {}
        tree["models"][self._name] = {**(self._model.plain() or {}), "split": dict(shares)}
        return tree

    def _splices(self, shares: Shares) -> Iterator[Splice]:
        if self._split is None:
            yield self._whole_split(f"split: {{{_entries(shares)}}}")
            return
        written = self._split.value if isinstance(self._split.value, dict) else {}
        for role, node in written.items():
            if node.value != shares[role]:
                yield node.start, node.end, _number(shares[role])
        new = {role: percent for role, percent in shares.items() if role not in written}
        last = max((node.end for node in written.values()), default=self._split.start + 1)
        if new and self._split.flow:
            yield last, last, f"{', ' if written else ''}{_entries(new)}"
        elif new:
            indent = self._indent(self._split)
            yield self._new_lines(last, [f"{indent}{_entries({role: new[role]})}" for role in new])

    def _whole_split(self, entry: str) -> Splice:
        model = self._model
        if isinstance(model.value, dict) and model.flow:
            last = max((node.end for node in model.value.values()), default=model.start + 1)
            return last, last, f", {entry}" if model.value else entry
        if isinstance(model.value, dict):
            return self._new_lines(model.key_end, [self._indent(model) + entry])
        if model.start == model.end and not self._models.flow:
            return self._new_lines(model.key_end, [f"{self._indent(self._models)}  {entry}"])
        return model.start, model.end, f" {{{entry}}}"

    def _indent(self, mapping: Node) -> str:
        return self._text[self._text.rfind("\n", 0, mapping.start) + 1 : mapping.start]

    def _new_lines(self, position: int, lines: list[str]) -> Splice:
        """`lines` after the one that holds `position`."""
        eol = "\r\n" if "\r\n" in self._text else "\n"
        newline = self._text.find("\n", position)
        if newline < 0:
            return len(self._text), len(self._text), "".join(eol + line for line in lines)
        return newline + 1, newline + 1, "".join(line + eol for line in lines)


def _entries(shares: Shares) -> str:
    return ", ".join(f"{role}: {_number(percent)}" for role, percent in shares.items())


def _number(percent: Decimal) -> str:
    return f"{percent.normalize():f}"


def _replace_file(file: ConfigFile, old: bytes, new: bytes) -> None:
    """Put `new` in place of `old`. Raises ConfigRefused, and leaves the file as it was, when that fails.

    Whoever reads the file meanwhile reads all of the one or all of the other.
    """
    target = Path(os.path.realpath(file.path))
    # Kubernetes keeps a mounted ConfigMap under names such as ..2026_11_20_09_00_00.12 and replaces it whole.
    if any(part.startswith("..") for part in target.parts):
        raise _refused(file, "is mounted from a ConfigMap; change the ConfigMap")
    try:
        status = target.stat()
        # The rename would not mind, but whoever took the right to write away meant it, from root too.
        if not status.st_mode & 0o222:
            raise _refused(file, "is read-only; give it the right to be written first")
        if file.read() != old:
            raise _refused(file, "was changed by somebody else meanwhile; try again")
        _write_beside(target, status, new)
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, f"can not be replaced: {error.strerror}")
        raise _refused(file, reason) from error


def _write_beside(target: Path, status: os.stat_result, new: bytes) -> None:
    descriptor, beside = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(new)
            file.flush()
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, status.st_uid, status.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
            os.fsync(descriptor)
        os.replace(beside, target)
    except BaseException:
        os.unlink(beside)
        raise
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)  # else a power cut may bring the old name back
    finally:
        os.close(directory)


def _refused(file: ConfigFile, sentence: str) -> ConfigRefused:
    return ConfigRefused([f"{file.path.name}: {sentence}"])
