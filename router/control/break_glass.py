"""Break-glass: every canary is off, whatever the configuration and the registry say, and without a token.

SIGUSR2 asks for it, or a file in the state directory. It takes effect before anything is written. It holds
until the file is gone and an operator resumed, in that order: neither a removed file nor a restart after that
raises a share.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from router.processes.disk import in_disk_thread

_CAME = "SIGUSR2 came"
TICK_SECONDS = 0.5
"""Between two looks for the file."""
START_SECONDS = 2.0
LOOK_SECONDS = 5.0
"""The longest that a start, or somebody who resumes, waits for the disk."""


class CanarySwitch(Protocol):
    """Takes every canary out of the split, and gives it back."""

    @property
    def glass_broken(self) -> bool:
        """Whether all of them are off now."""

    def break_glass(self, *, on: bool, why: str) -> None:
        """Have them off, or no more, from this turn of the event loop on; also again, for another reason."""


@dataclass(frozen=True, slots=True)
class OffRequest:
    """The file is there."""

    path: Path
    why: str
    """A line that whoever made it wrote, perhaps empty."""


class OffFile(Protocol):
    """A file that asks for it, and a note that it holds. All methods block and raise OSError."""

    @property
    def path(self) -> Path:
        """Where it is looked for, to show."""

    def read(self) -> OffRequest | None:
        """None when the file is not there."""

    def make(self, line: str) -> None:
        """Make it so that it outlives a crash; one that is there stays."""

    def is_held(self) -> bool:
        """Whether it held when the last process ended."""

    def hold(self) -> None:
        """Note that it holds; may be repeated."""

    def release(self) -> None:
        """Note that it holds no more."""


class BreakGlassWatch:
    """Watches the file, and follows the signal.

    `signalled` may be called at any time, `tick` and `resume` from tasks: the one waits for the other. A disk
    that hangs holds up neither the signal nor the event loop.
    """

    def __init__(self, switch: CanarySwitch, file: OffFile) -> None:
        """`switch` is off; the first `tick` turns it on where that held before a restart."""
        self._switch = switch
        self._file = file
        self._why = ""
        """The last reason that was given to the switch, while it is on."""
        self._signals = 0
        self._unwritten = False
        """A signal came, and the file that makes it outlive this process is not there yet."""
        self._noted: bool | None = None
        """Whether there is a note that this holds; None before the first look."""
        self._one_at_a_time = asyncio.Lock()

    def signalled(self) -> None:
        """Every canary is off from now on. The next `tick` makes the file."""
        self._signals += 1
        self._unwritten = True
        self._turn_off(_CAME)

    async def start(self) -> None:
        """The first look; before anybody is answered, unless the disk takes too long."""
        with suppress(OSError, TimeoutError):  # the ticks that follow report it
            async with asyncio.timeout(START_SECONDS):
                await self.tick()

    async def tick(self) -> None:
        """Look for the file once, and make it where a signal asks for it.

        What can not be made is tried again at each tick. Raises OSError where nobody knows whether the file
        is there; then what holds goes on.
        """
        async with self._one_at_a_time:
            try:
                await self._look()
            except OSError as error:
                if not self._unwritten:
                    raise
                kept = f"{self._file.path} can not be made ({error.strerror})"
                self._turn_off(f"{_CAME}; {kept}, so this holds until the process ends or somebody resumes")

    async def resume(self, why: str) -> str:
        """Give every canary its share back, as far as no cap is there; returns why not, empty where done."""
        try:
            async with asyncio.timeout(LOOK_SECONDS), self._one_at_a_time:
                signals = self._signals
                if asked := await in_disk_thread(self._file.read):
                    return f"{asked.path} is still there: remove it, then resume again"
                await in_disk_thread(self._file.release)
                self._noted = False
                if signals != self._signals:
                    return f"{_CAME} again meanwhile"
                self._unwritten, self._why = False, ""
                if self._switch.glass_broken:
                    self._switch.break_glass(on=False, why=why)
                return ""
        except TimeoutError:
            return f"{self._file.path.parent}: the disk does not answer"
        except OSError as error:
            return f"{error.filename or self._file.path}: {error.strerror}"

    async def _look(self) -> None:
        if self._noted is None:
            self._noted = await in_disk_thread(self._file.is_held)
        asked = await in_disk_thread(self._file.read)
        if asked is None and self._unwritten:
            await in_disk_thread(self._file.make, _CAME)
            asked = await in_disk_thread(self._file.read)
        if asked is not None:
            self._unwritten = False
            self._turn_off(f"{asked.path} is there" + (f": {asked.why}" if asked.why else ""))
        elif self._noted:
            self._turn_off(f"{self._file.path} is gone, and nobody has resumed yet")
        if self._switch.glass_broken and not self._noted:
            await self._note()

    async def _note(self) -> None:
        with suppress(OSError):  # the next tick tries again; what matters is the file, and that was reported
            await in_disk_thread(self._file.hold)
            self._noted = True

    def _turn_off(self, why: str) -> None:
        if why != self._why or not self._switch.glass_broken:
            self._why = why
            self._switch.break_glass(on=True, why=why)
