"""When a worker that grows is replaced, what a load needs, and whether there is room for a spare. Pure."""

from dataclasses import dataclass

MIB = 1 << 20
EARLY_ANSWERS = 5
"""What a worker has grown by then is what the version needs, such as what it loads at its first predict."""
LEAST_WORKER = 32 * MIB
"""What any worker takes beside its version's files, in bytes."""
PAUSE_SECONDS = (0.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
"""Wait after the n-th replacement in a row that was of no use; the last one repeats."""
RUNAWAY_TIMES = 2
RUNAWAY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Resident:
    """Memory of one process in bytes; 0 where nothing is known."""

    total: int = 0
    """All its pages, those it shares with others included."""
    shared: int = 0
    """Pages of files among them, which cost nothing when another process maps them, too."""

    @property
    def own(self) -> int:
        """What another process of its kind would take, at most."""
        return self.total - self.shared


@dataclass(frozen=True, slots=True)
class Room:
    """Memory that is left below the tightest limit."""

    available: int
    """Bytes."""
    limit: str
    """That limit, for the operator: `memory.max of 1500 MiB`."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one more worker of a version is expected to take."""

    size: int
    """Bytes."""
    source: str
    """Where the figure comes from, for the operator: `as its last load took`."""


def need_by_files(size: int) -> Need:
    """Of a version that was never loaded here and whose files have `size` bytes."""
    return Need(size + LEAST_WORKER, f"its files have {size // MIB}")


def need_by_load(own: int) -> Need:
    """Of a version whose last worker held `own` bytes of its own when it was READY."""
    return Need(own, "as its last load took")


def need_by_kill(available: int) -> Need:
    """Of a version that the kernel ended while it loaded, with `available` bytes at its start.

    A tenth more, lest it is tried again for each page that comes free.
    """
    return Need(
        available + available // 10, f"the kernel ended its last load, with {available // MIB} available"
    )


def no_room(need: Need, room: Room) -> str:
    """Why a load was not tried, and what helps."""
    return (
        f"no memory to load it: it needs about {need.size // MIB} MiB ({need.source}), and"
        f" {room.available // MIB} MiB are left below {room.limit}; give the gateway more memory, or fewer"
        " models or workers"
    )


def is_runaway(growth: int, limit: int, running_seconds: float) -> bool:
    """Whether one predict is to be ended, after another worker has joined. All sizes in bytes.

    At twice the limit, and only when that predict has run for a second: what short ones have left behind is
    gone as soon as the last of them is answered.
    """
    return growth > RUNAWAY_TIMES * limit and running_seconds > RUNAWAY_SECONDS


def has_room(available: int, worker: int, *, kept: bool) -> bool:
    """Whether a spare may come, or be `kept`, where a worker takes so much. All sizes in bytes.

    Two workers must fit for it to come, for the next version has to be loaded beside this one; half of one is
    left at least while it is kept. The gap keeps it from coming and going.
    """
    return available >= (worker / 2 if kept else 2 * worker)


class Pace:
    """How soon after one replacement for memory the next may come; times in seconds of any clock."""

    def __init__(self) -> None:
        self._useless = 0
        self._not_before = float("-inf")

    def allows(self, now: float) -> bool:
        """Whether a worker may be replaced now."""
        return now >= self._not_before

    def replaced(self, now: float, *, in_vain: bool) -> None:
        """A worker was replaced, or could not be. In vain: its successor will be over the limit as soon."""
        self._useless = self._useless + 1 if in_vain else 0
        self._not_before = now + PAUSE_SECONDS[min(self._useless, len(PAUSE_SECONDS) - 1)]
