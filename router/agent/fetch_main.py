"""A short-lived process that brings one version's files into the cache, with MLflow's normal retries."""

import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from router.agent import cache
from router.agent import last_known_good as last_good
from router.agent.bootstrap import open_registry
from router.agent.errors import CopyMissing, CopyRefused, VersionRefused
from router.agent.eviction import evict
from router.agent.manifest import FILES, MANIFEST, digest_of_manifest, read_manifest, size_of, verified
from router.agent.repair import changed_files, take_over
from router.agent.requests import LOOKUP_LIMITS, limited
from router.core.artifact_source import AllowedSources
from router.core.redaction import redact_line
from router.protocol.channel import Channel

_MOST_NAMES = 5


def main(sock: socket.socket) -> None:
    """Answer one order and end.

    The frame: `registry_uri`, `tracking_uri`, `environment`, `credentials`, `model`, `version`, `cache_dir`
    (absolute), `token`, which is part of the `.part` directory's name so that who ends this process can
    remove it, `fresh`, true when a copy in the cache is to be distrusted, `known`, null or what a fresh
    download answered: while the store's listing is the same, the copy is compared with that instead,
    `recorded`, true when the version's last good copy is to be verified and the registry left alone,
    `described`, true when MLmodel and input example are all that is wanted, `allowed`, the fields of an
    AllowedSources, and `cache_max_bytes`.
    Answers `{"op": "fetched", "directory"}`, after a download with `cache_bytes`, `removed`, the names of
    versions that left the cache, `changed`, the files of a former copy that were not as published where only
    they were fetched, and `known`; or `{"op": "failed", "error", "refused"}`, `refused` being true where a
    rule forbids to take it. All have the order's `id`, and `downloaded_bytes`.
    """
    channel = Channel(sock)
    order = channel.receive()
    if order is None:
        return
    sizes: list[int] = []
    try:
        found = _recorded(order.header) if order.header["recorded"] else _fetch(order.header, sizes)
        answer = {"op": "fetched", **found}
    except Exception as error:  # noqa: BLE001 # whatever MLflow or a store's library raises is an answer
        refused = isinstance(error, VersionRefused | CopyRefused) and not isinstance(error, CopyMissing)
        answer = {"op": "failed", "error": redact_line(str(error) or repr(error)), "refused": refused}
    with suppress(OSError):  # the gateway is gone
        channel.send({"id": order.header.get("id"), "downloaded_bytes": sum(sizes), **answer})


def _fetch(order: Mapping[str, Any], sizes: list[int]) -> dict[str, Any]:
    """The answer; the bytes that came are added to `sizes`, also when it raises."""
    registry = open_registry(order)
    # Here, not above, and after it: MLflow reads the environment at import.
    from router.agent.source import check_source, read_source

    cache_dir = Path(order["cache_dir"])
    with limited(LOOKUP_LIMITS):
        source = read_source(registry, order["model"], order["version"])
    check_source(source.uri, AllowedSources(**order["allowed"]))
    place = cache.place_of(
        cache_dir, order["model"], order["version"], source.fingerprint, described=order["described"]
    )
    directory = str(place / FILES)
    if not order["fresh"] and cache.is_complete(place):
        return {"directory": directory}
    from router.agent.download import list_version

    stored = list_version(source.uri, registry.tracking_uri, registry.registry_uri)
    if order["described"]:
        stored = stored.description()
    known = order["known"]
    if known is not None and known["listing"] == stored.digest and _is_whole(place, known["manifest"]):
        return {"directory": directory}
    changed = None if order["fresh"] else changed_files(place)
    if changed == []:
        return {"directory": directory}  # it was touched, or only looked so
    cache.remove_leftovers(cache_dir)
    with cache.part_of(place.parent, order["token"]) as part:
        files, kept = part / FILES, _taken_over(place, changed, stored.listing, part / FILES)
        kept_bytes = size_of(files)
        try:
            stored.copy_to(files, but=kept)
        finally:
            sizes.append(size_of(files) - kept_bytes)
        cache.publish(part, place, fresh=order["fresh"])
    swept = evict(cache_dir, order["cache_max_bytes"], spare=place)
    return {
        "directory": directory,
        "cache_bytes": swept.cache_bytes,
        "removed": swept.removed,
        "changed": (changed or [])[:_MOST_NAMES] if kept else [],
        "known": {"listing": stored.digest, "manifest": digest_of_manifest(place)},
    }


def _taken_over(
    place: Path, changed: list[str] | None, listing: Mapping[str, int | None], target: Path
) -> frozenset[str]:
    """Files of a former copy that are now in `target`; none where the store lists others than it has."""
    if changed is None or (former := read_manifest(place / MANIFEST)) is None:
        return frozenset()
    if former.keys() != listing.keys():
        return frozenset()
    if any(size not in (None, former[name][0]) for name, size in listing.items()):
        return frozenset()
    kept = frozenset(former) - frozenset(changed)
    take_over(place, kept, target)
    return kept


def _is_whole(place: Path, manifest_digest: str) -> bool:
    """Whether the copy is, to the last byte, the one of that manifest."""
    try:
        verified(place, manifest_digest)
    except CopyRefused:
        return False
    return True


def _recorded(order: Mapping[str, Any]) -> dict[str, Any]:
    """The registry does not answer, so the copy must be, to the last byte, the one that served."""
    directory = cache.model_directory(Path(order["cache_dir"]), order["model"])
    record = last_good.read(directory, order["model"], last_good.identity_of(order["registry_uri"]))
    for entry in record.values():
        if entry.version == order["version"]:
            return {"directory": str(verified(directory / entry.place, entry.manifest))}
    raise CopyMissing("it is no longer recorded as a last good version")
