"""Versions in service: manager, harness, pool of workers, deadlines, fallback."""
