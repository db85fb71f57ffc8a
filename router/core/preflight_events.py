"""Facts about pre-flights: a version answered the last requests before it got a user, or did not."""

from dataclasses import dataclass

from router.core.ids import Alias, VersionId
from router.core.preflight import PreflightReport


@dataclass(frozen=True, slots=True)
class PreflightEnded:
    """The last requests were passed over a version that is to serve `aliases`; said before it is bound."""

    model: str
    aliases: tuple[Alias, ...]
    version: VersionId
    report: PreflightReport
    held: bool
    """Whether it gets no requests for that, until an operator resumes it."""


OfPreflight = PreflightEnded
