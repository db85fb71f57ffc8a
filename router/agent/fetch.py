"""A short-lived process that brings one version's files into the cache, with MLflow's normal retries."""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from router.agent import cache
from router.agent.places import place_of
from router.agent.process import ignore_stops, prepare
from router.channel import Channel
from router.core.masking import masked_line


def main(sock: socket.socket) -> None:
    """Answer one order and end.

    The frame: `registry_uri`, `tracking_uri`, `environment`, `model`, `version`, `cache_dir` (absolute),
    `token`, which is part of the `.part` directory's name so that who ends this process can remove it, and
    `fresh`, true when a copy in the cache is to be distrusted.
    Answers `{"op": "fetched", "directory"}` or `{"op": "failed", "error"}`, with the order's `id`.
    """
    ignore_stops()
    channel = Channel(sock)
    order = channel.receive()
    if order is None:
        return
    try:
        answer = {"op": "fetched", "directory": str(_fetch(order.header))}
    except Exception as error:  # noqa: BLE001 # whatever MLflow or a store's library raises is an answer
        answer = {"op": "failed", "error": masked_line(str(error) or repr(error))}
    with suppress(OSError):  # the gateway is gone
        channel.send({"id": order.header.get("id"), **answer})


def _fetch(order: Mapping[str, Any]) -> Path:
    os.umask(0o077)
    prepare(order["environment"])
    # Here, not above: MLflow reads the environment at import, where no template has imported it before.
    from router.agent.source import read_source
    from router.agent.store import Registry

    cache_dir = Path(order["cache_dir"])
    registry = Registry(order["registry_uri"], order["tracking_uri"])
    source = read_source(registry, order["model"], order["version"])
    place = place_of(cache_dir, order["model"], order["version"], source.fingerprint)
    if order["fresh"] or not cache.is_complete(place):
        from router.agent.download import download

        cache.remove_leftovers(cache_dir)
        with cache.part_of(place.parent, order["token"]) as part:
            download(source.uri, registry.tracking_uri, registry.registry_uri, part / cache.FILES)
            cache.publish(part, place, fresh=order["fresh"])
    return place / cache.FILES
