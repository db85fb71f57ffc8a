"""Versions that may act elsewhere when they are asked: whether the gateway asks them by itself."""

from router.protocol.messages import VersionInfo
from router.settings.fields import Effects


def left_out(allowed: Effects, *versions: VersionInfo) -> str:
    """Why no request is to be repeated by these versions, as one of them says; empty where it may be."""
    if allowed == "allowed":
        return ""
    return next((info.effects for info in versions if info.effects), "")
