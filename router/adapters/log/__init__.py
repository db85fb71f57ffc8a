"""The log: which events become lines, how a line is written, and what child processes print."""
