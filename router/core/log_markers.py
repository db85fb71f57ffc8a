"""How lines are marked that a child prints for the gateway to read: one character, then a JSON object."""

LOG_RECORD = "\x1e"
"""Begins a line that is a JSON object: `level`, `event` and, where known, `logger` and `exception`."""
GATEWAY_LINE = "\x1f"
"""Begins such a line from this package's own side of the child, which never holds what a caller sent."""
