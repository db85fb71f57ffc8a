"""The exact releases that a version runs with: resolved once, and kept beside its copy.

An index changes every day. The same version gets the same releases after every restart, because they are
written down where its files lie; and on every replica, because nothing is considered that was uploaded after
the version was logged, where the index says when that was. An index that does not is asked all the same.
"""

import fcntl
import json
import os
import platform
import re
import sysconfig
import tempfile
import tomllib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from router.agent.cache import sync_one
from router.agent.manifest import plain_file, wrong_with
from router.core.requirement_lines import package_of
from router.environments.disk_errors import disk_failure
from router.environments.interpreters import Interpreter
from router.environments.rules import Rules
from router.environments.uv import Answer, Uv
from router.environments.wanted import Wanted
from router.errors import EnvironmentFailed, EnvironmentRefused

UNUSED_SECONDS = 90 * 24 * 3600.0
"""Pins whose copy is gone are kept for so long after their last use."""
_FORMAT = 1
_MOST_BYTES = 16 << 20
_PART = ".part-pins-"
_PART_SECONDS = 3600.0
_ROUNDS = 4
"""How often packages whose upload times the index does not say are excepted, before no time is asked for."""
_PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[^\s;\\]+(?: \\)?")
_HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")
_NO_UPLOAD_TIME = re.compile(r"([^`\s]+)`? is missing an upload date")


@dataclass(frozen=True, slots=True)
class Pins:
    """The releases of one environment."""

    text: str
    """Lines for `uv pip sync --require-hashes`: each package with its release, and its files' hashes."""
    resolved_at: str
    """When, in UTC, such as 2026-03-01T12:00:00+00:00."""
    note: str = ""
    """A sentence where the result is less certain than it could be; else empty."""

    @property
    def digest(self) -> str:
        """64 hexadecimal digits, equal where the text is."""
        return sha256(self.text.encode()).hexdigest()

    @property
    def releases(self) -> dict[str, str]:
        """Release by normalised name of the package."""
        return _releases(self.text)


def pins_of(
    wanted: Wanted, interpreter: Interpreter, rules: Rules, uv: Uv, where: Path, *, resolve: bool
) -> Pins | None:
    """The pins of the version whose copy is, or was, at `where` in the cache: kept, else resolved and kept.

    None where there are none and `resolve` is False. Whoever resolves at the same time gets the same: the
    first one's stay. Kept pins that are torn, that others could have written, or that are for something else
    are as none. The file's time of modification is that of its last use.

    Raises EnvironmentRefused, IndexUnreachable, DiskFull and EnvironmentFailed.
    """
    inputs = inputs_of(wanted, interpreter, rules)
    place = pins_place(where, inputs)
    if (kept := read_pins(place, inputs)) is not None:
        with suppress(OSError):  # nothing can be written
            os.utime(place, follow_symlinks=False)
        return kept
    if not resolve:
        return None
    try:
        return _keep(place, inputs, resolved(wanted, interpreter, rules, uv))
    except OSError as error:
        raise disk_failure(error, "its pins can not be written") from error


def inputs_of(wanted: Wanted, interpreter: Interpreter, rules: Rules) -> str:
    """64 hexadecimal digits: a digest of all that pins depend on, but for the index."""
    of = {
        "lines": wanted.lines,
        "constraints": wanted.constraints,
        "own": wanted.own_lines,
        "python": interpreter.minor,
        "platform": f"{sysconfig.get_platform()} {platform.libc_ver()[0]}",
        "only_binary": rules.only_binary,
        "exclude_newer": rules.exclude_newer,
        "created": str(wanted.created),
    }
    return sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()


def pins_place(where: Path, inputs: str) -> Path:
    """Where pins are kept: beside the version's copy at `where`, which may come and go."""
    return where.parent / f"pins-{where.name}-{inputs[:12]}.json"


def read_pins(place: Path, inputs: str) -> Pins | None:
    """Those that are kept at `place` for `inputs`; None where there are none that can be believed."""
    status = plain_file(place)
    if status is None or status.st_size > _MOST_BYTES or wrong_with(status):
        return None
    try:
        kept = json.loads(place.read_bytes())
        pins = Pins(str(kept["text"]), str(kept["resolved_at"]), str(kept["note"]))
        whole = kept["format"] == _FORMAT and kept["inputs"] == inputs and kept["digest"] == pins.digest
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return pins if whole and _only_pins(pins.text) else None


def remove_unused_pins(directory: Path, now: float) -> None:
    """Remove pins from a model's `directory` in the cache whose copy is gone, 90 days after their last use,
    and what was half written an hour ago or earlier, by a process that is gone.

    `now`: seconds since the epoch.
    """
    for part in directory.glob(f"{_PART}*"):
        with suppress(OSError):
            if now - part.lstat().st_mtime > _PART_SECONDS:
                part.unlink()
    for place in directory.glob("pins-*.json"):
        copy = place.name.removeprefix("pins-").rpartition("-")[0]
        with suppress(OSError):  # another gateway was faster
            if not (directory / copy).exists() and now - place.lstat().st_mtime > UNUSED_SECONDS:
                place.unlink()


def _releases(text: str) -> dict[str, str]:
    pairs = (line.removesuffix(" \\").split("==", 1) for line in text.splitlines() if line[:1] != " ")
    return {canonicalize_name(name): release for name, release in pairs}


def _only_pins(text: str) -> bool:
    # uv obeys options in such a text.
    return all(_PIN.fullmatch(line) or _HASH.fullmatch(line) for line in text.splitlines())


def _keep(place: Path, inputs: str, pins: Pins) -> Pins:
    content = {
        "format": _FORMAT,
        "inputs": inputs,
        "text": pins.text,
        "digest": pins.digest,
        "resolved_at": pins.resolved_at,
        "note": pins.note,
    }
    with _alone(place.parent):
        # Another gateway may have been faster. What nobody can believe is replaced.
        if (kept := read_pins(place, inputs)) is not None:
            return kept
        descriptor, part = tempfile.mkstemp(dir=place.parent, prefix=_PART)
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(content, file)
                file.flush()
                os.fsync(descriptor)
            os.chmod(part, 0o600)
            os.replace(part, place)
        except BaseException:
            with suppress(OSError):
                os.unlink(part)
            raise
        sync_one(place.parent)
    return pins


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """No other gateway is in such a block for the same directory."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def resolved(wanted: Wanted, interpreter: Interpreter, rules: Rules, uv: Uv) -> Pins:
    """What the index has for `wanted` now, or had when the version was logged. Keeps nothing.

    Raises EnvironmentRefused with what the resolver says, IndexUnreachable and EnvironmentFailed.
    """
    resolution = _Resolution(wanted, interpreter, rules, uv)
    answer, note = resolution.run()
    if answer.status:
        raise uv.failure(answer)
    if not _only_pins(answer.output):
        raise EnvironmentFailed("uv resolved the requirements to something else than pins")
    return Pins(answer.output, datetime.now(UTC).isoformat(timespec="seconds"), note)


@dataclass
class _Resolution:
    wanted: Wanted
    interpreter: Interpreter
    rules: Rules
    uv: Uv
    limits: dict[str, datetime | None] = field(default_factory=dict)
    """Of packages with one of their own: releases up to then; None: all, whenever they were uploaded."""
    untimed: set[str] = field(default_factory=set)
    """Packages of which the index does not say when they were uploaded."""

    def run(self) -> tuple[Answer, str]:
        """What uv resolved, or why it did not, and a sentence about what it did."""
        created, ours = self.wanted.created, self.wanted.own_lines
        every = (*self.wanted.lines, *ours)
        if self.rules.exclude_newer == "off":
            return self._compile(every), ""
        if created is None:
            note = "it does not say when it was logged, so the newest releases that fit were taken"
            return self._compile(every), note
        self.limits = {package_of(line): None for line in ours}
        answer = self._until(every, created)
        if self._is_unsolvable(answer) and ours:
            later = self._own_upload_time()
            if later is None:
                note = "the index does not say when releases were uploaded, so the newest that fit were taken"
                return self._compile(every), note
            if later > created:
                # The gateway's MLflow is younger than the version, and needs what is younger, too.
                for package in self._needed_by_ours(later):
                    self.limits.setdefault(package, later)
                answer = self._until(every, created)
        if self._is_unsolvable(answer) and not self._compile(every).status:
            raise EnvironmentRefused(
                f"{self.uv.failure(answer)}. It can be with releases that were uploaded after the version was"
                f" logged, {created:%Y-%m-%d}, which are left out unless environments.exclude_newer is off"
            )
        return answer, _untimed(self.untimed)

    def _until(self, lines: Sequence[str], until: datetime) -> Answer:
        """With releases up to then; where the index does not say when, with all of that package."""
        for _ in range(_ROUNDS):
            answer = self._compile(lines, until)
            packages = {_package_of_file(name) for name in _NO_UPLOAD_TIME.findall(answer.errors)}
            missing = {one for one in packages if self.limits.get(one, until) is not None}
            if not answer.status or not missing:
                return answer
            self.untimed |= missing
            self.limits |= dict.fromkeys(missing)
        return self._compile(lines)

    def _compile(self, lines: Sequence[str], until: datetime | None = None) -> Answer:
        arguments = ["--generate-hashes", "--no-header", "--no-annotate"]
        if self.rules.only_binary:
            arguments += ["--only-binary", ":all:"]
        if until is not None:
            arguments += ["--exclude-newer", _moment(until)]
            for package, limit in sorted(self.limits.items()):
                said = "false" if limit is None else _moment(limit)
                arguments += ["--exclude-newer-package", f"{package}={said}"]
        with self._constraints() as path:
            return self._ask(lines, "--constraints", path, *arguments)

    def _ask(self, lines: Sequence[str], *arguments: str) -> Answer:
        text = "".join(f"{line}\n" for line in lines)
        return self.uv.ask("pip", "compile", "-", "--python", self.interpreter.path, *arguments, input=text)

    @contextmanager
    def _constraints(self) -> Iterator[str]:
        with tempfile.NamedTemporaryFile("w", dir=self.uv.work, prefix="constraints-", suffix=".txt") as file:
            file.writelines(f"{line}\n" for line in self.wanted.constraints)
            file.flush()
            yield file.name

    def _own_upload_time(self) -> datetime | None:
        """When the gateway's own lines were on the index, all of them; None where it does not say.

        Raises EnvironmentRefused where they are not.
        """
        answer = self._ask(self.wanted.own_lines, "--no-deps", "--format", "pylock.toml")
        if answer.status:
            raise self.uv.failure(answer)
        try:
            packages = tomllib.loads(answer.output)["packages"]
            return max((_first_upload(package) for package in packages), default=None)
        except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError):
            return None

    def _needed_by_ours(self, until: datetime) -> Collection[str]:
        """Packages that the gateway's own lines bring with them."""
        answer = self._until(self.wanted.own_lines, until)
        return () if self._is_unsolvable(answer) else _releases(answer.output)

    def _is_unsolvable(self, answer: Answer) -> bool:
        """Whether that is for the resolver to say. Raises what else is wrong, which another try may mend."""
        if not answer.status:
            return False
        failure = self.uv.failure(answer)
        if isinstance(failure, EnvironmentRefused):
            return True
        raise failure


def _moment(until: datetime) -> str:
    return until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _first_upload(package: dict[str, Any]) -> datetime:
    """Of the first file of a release. Raises KeyError and ValueError where none has a time."""
    files = (*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else ()))
    moments: list[datetime] = [file["upload-time"] for file in files]
    return min(moment.replace(tzinfo=moment.tzinfo or UTC) for moment in moments)


def _package_of_file(name: str) -> str:
    """Of a wheel, or a source distribution."""
    return canonicalize_name(name.split("-")[0] if name.endswith(".whl") else name.rsplit("-", 1)[0])


def _untimed(packages: set[str]) -> str:
    if not packages:
        return ""
    some = sorted(packages)
    named = ", ".join(some[:5]) + (f" and {len(some) - 5} more" if len(some) > 5 else "")
    return f"the index does not say when {named} were uploaded, so the newest release that fits was taken"
