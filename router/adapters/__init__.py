"""One file per outside thing: registry, Prometheus, log, configuration file."""
