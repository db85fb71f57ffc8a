"""The state directory: what outlives a gateway."""
