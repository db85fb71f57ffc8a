"""Versions that run elsewhere, each behind an address: implements `Loader` and `WorkerHandle` over HTTP."""
