"""Child side: Python environments of versions, resolved, built and kept on disk."""
