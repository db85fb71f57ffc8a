"""Series on which each alert must fire, and others on which it must not; every figure worked out by hand."""

from tests.deploy.alerting import durations, gateway, registry, requests, scores, split

OF_TRAFFIC = [*requests.CASES, *durations.CASES, *scores.CASES, *split.CASES]
CASES = [*OF_TRAFFIC, *registry.CASES, *gateway.CASES]
