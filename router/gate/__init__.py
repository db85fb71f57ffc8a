"""The gate: two versions of a registered model compared on a hold-out, before one of them takes traffic.

Only the command line uses it. The gateway reads what it wrote into the registry, and imports none of it.
"""
