"""Composition root: builds, reloads and runs a gateway."""
