"""The MLflow registry and the artifact store, through child processes."""
