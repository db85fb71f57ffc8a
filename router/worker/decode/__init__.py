"""JSON requests of MLflow's protocol, decoded by what a version's signature says."""
