"""What the team shipped as `sentiment` v1. Holds one file, which MLflow stores beside the version."""
