"""Values and decisions: no clock, no I/O, no asyncio, no logging."""
