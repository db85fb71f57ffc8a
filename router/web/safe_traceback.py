"""What may be logged of an exception that a request caused: everything but its words."""

import traceback
from pathlib import PurePath

_FRAMES = 8


def safe_traceback(error: BaseException | None) -> str:
    """Its type and where it was raised, innermost first. Its message may quote what a client sent."""
    if error is None:
        return "no exception"
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    places = [f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames)]
    return " < ".join([type(error).__name__, *places])
