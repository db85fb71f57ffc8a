"""The children that talk to the registry: poll and fetch."""
