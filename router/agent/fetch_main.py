"""A short-lived process that brings one version's files into the cache, with MLflow's normal retries."""

import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from router.agent import cache
from router.agent import last_known_good as last_good
from router.agent.bootstrap import open_registry
from router.agent.errors import CopyRefused, VersionRefused
from router.agent.eviction import evict
from router.agent.manifest import FILES, verified
from router.agent.requests import LOOKUP_LIMITS, limited
from router.core.artifact_source import AllowedSources
from router.core.redaction import redact_line
from router.protocol.channel import Channel


def main(sock: socket.socket) -> None:
    """Answer one order and end.

    The frame: `registry_uri`, `tracking_uri`, `environment`, `credentials`, `model`, `version`, `cache_dir`
    (absolute), `token`, which is part of the `.part` directory's name so that who ends this process can
    remove it, `fresh`, true when a copy in the cache is to be distrusted, `recorded`, true when the
    version's last good copy is to be verified and the registry left alone, `allowed`, the fields of an
    AllowedSources, and `cache_max_bytes`. Answers `{"op": "fetched", "directory"}`, after a download with
    `cache_bytes` and `removed`, the names of versions that left the cache; or `{"op": "failed", "error",
    "refused"}`, `refused` being true where a rule forbids to take it; with the order's `id`.
    """
    channel = Channel(sock)
    order = channel.receive()
    if order is None:
        return
    try:
        found = _recorded(order.header) if order.header["recorded"] else _fetch(order.header)
        answer = {"op": "fetched", **found}
    except Exception as error:  # noqa: BLE001 # whatever MLflow or a store's library raises is an answer
        refused = isinstance(error, VersionRefused | CopyRefused)
        answer = {"op": "failed", "error": redact_line(str(error) or repr(error)), "refused": refused}
    with suppress(OSError):  # the gateway is gone
        channel.send({"id": order.header.get("id"), **answer})


def _fetch(order: Mapping[str, Any]) -> dict[str, Any]:
    registry = open_registry(order)
    # Here, not above, and after it: MLflow reads the environment at import.
    from router.agent.source import check_source, read_source

    cache_dir = Path(order["cache_dir"])
    with limited(LOOKUP_LIMITS):
        source = read_source(registry, order["model"], order["version"])
    check_source(source.uri, AllowedSources(**order["allowed"]))
    place = cache.place_of(cache_dir, order["model"], order["version"], source.fingerprint)
    directory = str(place / FILES)
    if not order["fresh"] and cache.is_complete(place):
        return {"directory": directory}
    from router.agent.download import download

    cache.remove_leftovers(cache_dir)
    with cache.part_of(place.parent, order["token"]) as part:
        download(source.uri, registry.tracking_uri, registry.registry_uri, part / FILES)
        cache.publish(part, place, fresh=order["fresh"])
    swept = evict(cache_dir, order["cache_max_bytes"], spare=place)
    return {"directory": directory, "cache_bytes": swept.cache_bytes, "removed": swept.removed}


def _recorded(order: Mapping[str, Any]) -> dict[str, Any]:
    """The registry does not answer, so the copy must be, to the last byte, the one that served."""
    directory = cache.model_directory(Path(order["cache_dir"]), order["model"])
    record = last_good.read(directory, order["model"], last_good.identity_of(order["registry_uri"]))
    for entry in record.values():
        if entry.version == order["version"]:
            return {"directory": str(verified(directory / entry.place, entry.manifest))}
    raise CopyRefused("it is no longer recorded as a last good version")
