"""What the operator reads about a version that fails: one line per place in its code, no data of callers."""

import threading
import traceback
from pathlib import Path

from router.core.ids import VersionId
from router.processes.child_logging import log_event
from router.worker.tracking import NO_TRACKING, lacks_tracking

_PLACES = 50  # a version that fails in more places than this has said enough
_OURS = str(Path(__file__).parent)
_NOT_THEIRS = ("site-packages", "dist-packages", "/lib/python3")


class Complaints:
    """Writes a line to standard error the first time a version fails at a place in its code."""

    def __init__(self, version: VersionId) -> None:
        self._version = version
        self._said: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def note(self, what: str, error: BaseException) -> None:
        """Say `what` happened, the error's type and where, not its message: that may hold the request."""
        complaint = (type(error).__name__, _place(error))
        with self._lock:
            if complaint in self._said or len(self._said) >= _PLACES:
                return
            self._said.add(complaint)
        kind, place = complaint
        remedy = f". {NO_TRACKING}" if lacks_tracking(error) else ""
        log_event(f"{self._version}: {what}: {kind} {place} (said once){remedy}")


def _place(error: BaseException) -> str:
    steps = [
        (frame.f_code.co_filename, line, frame.f_code.co_name)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith(_OURS)
    ]
    # The last line of the version's own code says more than the library's line where it ended.
    theirs = [step for step in steps if not any(part in step[0] for part in _NOT_THEIRS)]
    if not (known := theirs or steps):
        return "at an unknown place"
    file, line, name = known[-1]
    return f"at {file}:{line} in {name}"
