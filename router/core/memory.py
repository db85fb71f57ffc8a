"""Memory of processes, what is left for more of them, and what a load is expected to take. Pure."""

from dataclasses import dataclass

MIB = 1 << 20
LEAST_WORKER = 32 * MIB
"""What any worker takes beside its version's files, in bytes."""


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
    source = f"its files have {size // MIB}; load_memory_mib of its model may say otherwise"
    return Need(size + LEAST_WORKER, source)


def need_by_settings(mib: int) -> Need:
    """Of a version that was never loaded here, as its model's settings say."""
    return Need(mib * MIB, "as load_memory_mib of its model says")


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


def with_start(need: Need, size: int) -> Need:
    """`need` of a worker for which a template of `size` bytes has to be started first, unless that is 0."""
    if not size:
        return need
    return Need(need.size + size, f"{need.source}, and {size // MIB} for the template of its environment")


def no_room(need: Need, room: Room) -> str:
    """Why a load was not tried, and what helps."""
    return (
        f"no memory to load it: it needs about {need.size // MIB} MiB ({need.source}), and"
        f" {room.available // MIB} MiB are left below {room.limit}; give the gateway more memory, or fewer"
        " models or workers"
    )
