"""Config watch: a changed file becomes the configuration in force, whole, or it is refused and reported once.

The content's digest is compared, because a ConfigMap changes by a swapped symbolic link, which watching the
file misses. A change is read twice, so that a file just being written is not judged halfway.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from router.core.events import ConfigApplied, ConfigRejected, Recorder
from router.errors import ConfigRefused
from router.processes.disk import in_disk_thread
from router.settings import Change, Reload, Settings, SettingsInForce, changes

SETTLE_SECONDS = 0.25
"""Between the two readings of a change."""


class ParsedConfig(Protocol):
    """A configuration that is valid as a whole."""

    @property
    def settings(self) -> Settings:
        """What it says."""


class ConfigSource(Protocol):
    """Where the configuration comes from. Both may block for a moment and raise ConfigRefused."""

    def read(self) -> bytes:
        """Its bytes as they are now."""

    def parse(self, raw: bytes) -> ParsedConfig:
        """What `raw` says, if all of it is valid."""


class Followers(Protocol):
    """What changes with the settings."""

    def apply(self, settings: Settings) -> None:
        """Follow `settings`, which are valid as a whole."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """A reload that went through."""

    digest: str
    """SHA-256 of the configuration now in force, in hexadecimal."""
    changes: tuple[str, ...]
    """Dotted paths of what changed; empty when the file says what was in force already."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one reading found: bytes, or why there are none. Equal when there is nothing new."""

    raw: bytes = b""
    problems: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        return sha256(self.raw).hexdigest()


class ConfigWatch:
    """Owns which configuration is in force. One reload at a time; its followers get every new one, once."""

    def __init__(
        self,
        source: ConfigSource,
        recorder: Recorder,
        followers: Followers,
        *,
        in_force: SettingsInForce,
        digest: str,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        """`in_force` holds what was loaded at start, whose SHA-256 is `digest`."""
        self._in_force = in_force
        self.digest = digest
        self.error: str | None = None
        """Why the file's present content is not in force; None when it is."""
        self._source = source
        self._recorder = recorder
        self._followers = followers
        self._sleep = sleep
        self._settle_seconds = settle_seconds
        self._reported: _Seen | None = None
        """The refused reading that was reported last; None while the file's content is in force."""
        self._one_at_a_time = asyncio.Lock()

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self._in_force.current

    def start(self) -> None:
        """Put what was loaded in force."""
        self._followers.apply(self.settings)
        self._recorder.record(ConfigApplied(self.digest, ()))

    async def tick(self) -> None:
        """Look at the file once, and put a settled change in force, or report once why it is not."""
        async with self._one_at_a_time:
            seen = await self._look()
            if not self._is_news(seen):
                return
            await self._sleep(self._settle_seconds)
            if await self._look() == seen:
                try:
                    await self._take(seen, operator=False)
                except ConfigRefused as refused:
                    self._refuse(seen, refused)

    async def reload(self, *, operator: bool) -> Reloaded:
        """Put the file's content in force now, or raise ConfigRefused and leave in force what is.

        An `operator` who asks for it also gets what moves callers between aliases; a change that was only
        noticed waits.
        """
        async with self._one_at_a_time:
            seen = await self._look()
            try:
                return await self._take(seen, operator=operator)
            except ConfigRefused as refused:
                self._refuse(seen, refused)
                raise

    async def _look(self) -> _Seen:
        try:
            return _Seen(raw=await in_disk_thread(self._source.read))
        except ConfigRefused as refused:
            return _Seen(problems=tuple(refused.problems))

    def _is_news(self, seen: _Seen) -> bool:
        if self._reported is not None:
            return seen != self._reported
        return bool(seen.problems) or seen.digest != self.digest

    async def _take(self, seen: _Seen, *, operator: bool) -> Reloaded:
        if seen.problems:
            raise ConfigRefused(list(seen.problems))
        new = (await in_disk_thread(self._source.parse, seen.raw)).settings
        differences = changes(self.settings, new)
        if obstacles := _obstacles(differences, operator=operator):
            raise ConfigRefused(obstacles)
        news = self._reported is not None or seen.digest != self.digest
        paths = tuple(change.path for change in differences)
        if differences:
            self._followers.apply(new)
        # Only now: should publishing fail, the next look finds the same news again.
        self._in_force.current, self.digest, self.error, self._reported = new, seen.digest, None, None
        if news:
            self._recorder.record(ConfigApplied(self.digest, paths))
        return Reloaded(self.digest, paths)

    def _refuse(self, seen: _Seen, refused: ConfigRefused) -> None:
        self.error = str(refused)
        if self._is_news(seen):
            self._recorder.record(ConfigRejected(self.digest, tuple(refused.problems)))
        self._reported = seen


def _obstacles(differences: list[Change], *, operator: bool) -> list[str]:
    """Why `differences` may not come into force now; empty when they may."""
    cold = [
        f"{change}, which takes a restart; the whole change is refused"
        for change in differences
        if change.reload is Reload.COLD
    ]
    moving = [
        f"{change}, which moves callers between aliases; it waits for SIGHUP or POST /-/reload"
        for change in differences
        if change.reload is Reload.REBUCKETING
    ]
    return cold if operator else cold + moving
