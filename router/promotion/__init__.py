"""Promotion and rollback: moves aliases of the registry, with the operator's own credentials.

Only the command line uses it. The gateway never writes the registry: it follows what is written here, as it
follows what anybody else writes.
"""
