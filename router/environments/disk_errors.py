"""What an error of the disk means for an environment."""

import errno

from router.errors import DiskFull, EnvironmentFailed

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def disk_failure(error: OSError, what: str) -> EnvironmentFailed:
    """`what` went wrong, with the system's words for it: DiskFull where there was no room, or no quota."""
    kind = DiskFull if error.errno in _NO_ROOM else EnvironmentFailed
    return kind(f"{what}: {error.strerror or error}")
