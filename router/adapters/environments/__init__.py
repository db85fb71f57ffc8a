"""Python environments of versions: found, built and held in the cache."""
