"""Loops, each a `tick()` on one object: alias watch, config watch, status."""
