"""Facts about what the gateway asks of others, and sends to them, by itself."""

from dataclasses import dataclass
from enum import StrEnum


class NotificationResult(StrEnum):
    """What became of a notification, or of one try to deliver it; values of `notifications_total`."""

    DELIVERED = "delivered"
    RETRIED = "retried"
    """The receiver did not take it, and will be asked again."""
    REJECTED = "rejected"
    """It answered that it does not take it, and is not asked again."""
    EXPIRED = "expired"
    """It did not take it for an hour."""
    DROPPED = "dropped"
    """Too many waited for this receiver, or the gateway stopped."""


@dataclass(frozen=True, slots=True)
class PeerLost:
    """Another gateway does not answer, or not as a gateway does, so what it knows is not known here."""

    peer: str
    """Its address."""
    error: str


@dataclass(frozen=True, slots=True)
class PeerFound:
    """Another gateway that did not answer does so again."""

    peer: str


@dataclass(frozen=True, slots=True)
class NotificationTried:
    """A receiver was asked to take a notification, or notifications will not be sent to it."""

    receiver: str
    """Its name, without path, query or credentials."""
    result: NotificationResult
    why: str
    """Empty when it was delivered."""
    notifications: int = 1


OfOutbound = PeerLost | PeerFound | NotificationTried
