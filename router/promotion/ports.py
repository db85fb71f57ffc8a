"""What a promotion and a rollback work with: the registry, the gateways, and who gave the command."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from router.core.ids import CANARY, PRODUCTION, STAGE, Alias
from router.errors import PromotionRefused

_ACTIVE = ("staging", "production")
VERB_SECONDS = 15.0
"""How long a gateway may take to answer a verb: one that looks at its registry waits for that."""


@dataclass(frozen=True, slots=True)
class RoleNames:
    """What the registry calls the roles of one model: aliases, or `stage:` and the name of a stage."""

    production: str
    canary: str
    previous: str = "previous"
    """Always an alias: of the version that was production before the last promotion."""
    further: Mapping[Alias, str] = field(default_factory=dict)
    """Of roles other than these."""

    @classmethod
    def of(cls, aliases: Mapping[Alias, str], previous: str) -> "RoleNames":
        """From the registry's names by role, which hold production and canary."""
        further = {role: name for role, name in aliases.items() if role not in (PRODUCTION, CANARY)}
        return cls(aliases[PRODUCTION], aliases[CANARY], previous, further)

    @property
    def canaries(self) -> dict[Alias, str]:
        """Names of all roles that are not production's."""
        return {CANARY: self.canary, **self.further}


def is_stage(name: str) -> bool:
    """Whether the registry's name of a role is a stage and not an alias."""
    return name.startswith(STAGE)


def require_active(name: str) -> None:
    """Raise PromotionRefused for a stage into which no version can be moved alone: MLflow archives the others
    of Staging and Production only."""
    if is_stage(name) and name.removeprefix(STAGE).lower() not in _ACTIVE:
        raise PromotionRefused(
            f"no version can be made the only one of {shown(name)}: MLflow leaves others in"
        )


def shown(name: str) -> str:
    """The registry's name of a role as people write it: `@champion`, `stage Production`."""
    return f"stage {name.removeprefix(STAGE)}" if is_stage(name) else f"@{name}"


class Registry(Protocol):
    """One registry, read and written. Each write is one request; the same one twice is as good as once.

    All raise RegistryUnavailable, RegistryRefused and ModelUnknown.
    """

    def read(self, model: str, *names: str) -> Mapping[str, int]:
        """Versions by those of `names`, aliases or stages, that name one, as of one instant; of a stage its
        highest version."""

    def tags(self, model: str, version: int) -> Mapping[str, str]:
        """Tags of one version. Raises VersionUnknown."""

    def point(self, model: str, name: str, version: int) -> None:
        """Have an alias name `version`; or transition it into a stage, whose other versions are archived in
        the same transaction. Raises VersionUnknown."""

    def withdraw(self, model: str, name: str, version: int) -> None:
        """Remove an alias, also one that is not there; or transition `version` out of a stage into none."""

    def tag(self, model: str, version: int, key: str, value: str) -> None:
        """Set one tag of a version. Raises VersionUnknown."""


@dataclass(frozen=True, slots=True)
class NoDocument:
    """Why a gateway gave no document."""

    why: str
    """A sentence in one line that names the gateway."""
    status: int | None
    """Of HTTP, where it refused; None where nobody answered."""


Documents = Mapping[str, Mapping[str, Any] | NoDocument]
"""By the gateways' addresses, as they are shown."""


class Gateways(Protocol):
    """The gateways that serve the model."""

    def get(self, path: str) -> Documents:
        """What each has at `path`."""

    def post(self, path: str, body: Mapping[str, Any], *, timeout_seconds: float = VERB_SECONDS) -> Documents:
        """What each answers to a verb."""


class Operator(Protocol):
    """Who gave the command."""

    def report(self, line: str) -> None:
        """Show what was done or seen."""

    def confirm(self, question: str) -> bool:
        """Whether to go on. False also where nobody can be asked."""


@dataclass(frozen=True, slots=True)
class Command:
    """What was asked for, as promotion and rollback have it in common."""

    model: str
    names: RoleNames
    by: str
    """Who says that he or she does it: a statement, not a proof."""
    reason: str
    wait_seconds: float | None
    """How long every gateway is given to serve what was written; None: nobody waits."""
