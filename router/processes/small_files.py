"""Files that are read whole, such as a configuration or a token.

Apart from `disk.py`: a command that reads no more than such a file does not wait for its imports.
"""

import os


def open_at_once(path: str, flags: int) -> int:
    """For `open` as its `opener`: a named pipe is opened without waiting until somebody writes into it."""
    return os.open(path, flags | os.O_NONBLOCK)
