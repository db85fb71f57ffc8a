"""What Ray Serve imports, and nothing else of ours does: versions as applications of a Ray cluster."""
