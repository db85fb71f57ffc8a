"""Tests and counts by which versions are compared. Pure: no clock, no I/O, the standard library only."""
