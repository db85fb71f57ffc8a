"""Writes to the registry one after the other, each read back; and the wait until gateways serve them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from router.core.ids import PRODUCTION, STAGE
from router.errors import GatewaysUnreachable, MovedByOthers, NotServedYet
from router.promotion.gateway_view import NoView, views_of
from router.promotion.ports import Command, Gateways, NoDocument, Operator, Registry, is_stage, shown

ARCHIVED = f"{STAGE}Archived"
_LOOK_SECONDS = 0.5
_NOT_FOUND = 404


class Writes:
    """What the registry shall name, written step by step. MLflow has no compare-and-set: that somebody else
    acts at the same time can not be excluded, and is found by reading everything back after each write."""

    def __init__(
        self,
        registry: Registry,
        command: Command,
        expected: Mapping[str, int | None],
        operator: Operator,
    ) -> None:
        """`expected`: what names that must not move meanwhile name now, and each that will be written."""
        self._registry = registry
        self._command = command
        self._operator = operator
        self._expected = dict(expected)
        self._written: dict[str, int] = {}
        self._tag: tuple[int, str, str] | None = None
        self.begun = False
        """Whether anything was written, or may have been."""

    def check(self, *, only_written: bool = False) -> None:
        """Raise MovedByOthers unless the registry names what is expected; or of it what was written."""
        expected: Mapping[str, int | None] = self._written if only_written else self._expected
        found = self._registry.read(self._command.model, *expected)
        for name, wanted in expected.items():
            if (now := found.get(name)) != wanted:
                raise MovedByOthers(
                    f"somebody else acts on {self._command.model}, too: {shown(name)} names {numbered(now)}"
                    f" now, where this command expected {numbered(wanted)}; nothing was undone: agree on who"
                    " goes on, and look at what the registry names"
                )

    def check_tag(self) -> None:
        """Raise MovedByOthers where the tag that was written says something else now."""
        if self._tag is None:
            return
        version, key, value = self._tag
        if self._registry.tags(self._command.model, version).get(key) != value:
            raise MovedByOthers(
                f"somebody else acts on {self._command.model}, too: the tag {key} of v{version} is not what"
                " this command wrote"
            )

    def named(self, name: str) -> int | None:
        """What `name` names, as far as this command knows."""
        return self._expected.get(name)

    def found(self, name: str, version: int) -> None:
        """`name` names `version` already, as if it had been written here."""
        self._expected[name] = self._written[name] = version

    def point(self, name: str, version: int) -> None:
        """Have `name` name `version`. Raises MovedByOthers."""
        self.begun = True
        self._registry.point(self._command.model, name, version)
        if is_stage(name):
            self._note_archived(self._expected.get(name))
        self._expected[name] = self._written[name] = version
        if is_stage(name):
            self._note_following_canary()
        self.check()
        self._operator.report(f"{shown(name)} names v{version}")

    def withdraw(self, name: str, version: int) -> None:
        """Have `name` name nothing; of a stage, not `version`. Raises MovedByOthers."""
        self.begun = True
        self._registry.withdraw(self._command.model, name, version)
        self._expected[name] = None
        if is_stage(name):
            self._note_following_canary()
        self.check()
        self._operator.report(f"{shown(name)} is removed")

    def tag(self, version: int, key: str, value: str) -> None:
        """Set a tag of `version`. Raises MovedByOthers."""
        self.begun = True
        self._registry.tag(self._command.model, version, key, value)
        self._tag = (version, key, value)
        self.check()
        self.check_tag()
        self._operator.report(f"the tag {key} of v{version} has the record")

    def _note_archived(self, former: int | None) -> None:
        """A transition archives what was in the stage; whose promotion it overwrote, that is there, too."""
        if ARCHIVED in self._expected:
            archived = (self._expected[ARCHIVED], former)
            self._expected[ARCHIVED] = max((one for one in archived if one is not None), default=None)

    def _note_following_canary(self) -> None:
        """The canary's stage may have lost its version: the next highest in it, if any, is the canary now."""
        canary = self._command.names.canary
        if not is_stage(canary) or canary not in self._expected:
            return
        following = self._registry.read(self._command.model, canary).get(canary)
        self._expected[canary] = following
        if following is not None:
            self._operator.report(f"v{following} is in {shown(canary)} too, and is the canary from now on")


def have_gateways_look(gateways: Gateways, command: Command, operator: Operator) -> None:
    """Ask every gateway to look at the registry at once, and say who moved what is found there, and why.

    They look in any case, a little later.
    """
    said = {"model": command.model, "by": command.by, "reason": command.reason}
    for gateway, answer in gateways.post("/-/poll", said).items():
        if isinstance(answer, NoDocument):
            older = f"{gateway} is too old to be asked to look at the registry at once"
            operator.report(f"warning: {older if answer.status == _NOT_FOUND else answer.why}")


def wait_until_served(
    gateways: Gateways,
    command: Command,
    version: int,
    operator: Operator,
    *,
    by_all: bool,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Return when `version` is production at every gateway, or, unless `by_all`, at every one that answers.

    Raises NotServedYet, which names those where it is not, when the time is over and at Ctrl-C; and, unless
    `by_all`, GatewaysUnreachable where none answers.
    """
    began = time.monotonic()
    seconds = command.wait_seconds or 0.0
    served: set[str] = set()
    waiting: list[str] = []
    announced = False
    try:
        while True:
            looks = _look(gateways, command.model, version)
            for look in looks:
                if look.serves and look.gateway not in served:
                    operator.report(f"{look.gateway} serves v{version}")
                    served.add(look.gateway)
            waited_for = [look for look in looks if by_all or look.shows_model]
            waiting = [look.sentence for look in waited_for if not look.serves]
            if not waiting:
                break
            if (left := began + seconds - time.monotonic()) <= 0:
                break
            if not announced:  # it may take minutes, and a silent terminal looks like one that hangs
                announced = True
                wait = f"waiting for {seconds:g} s at most; Ctrl-C ends that and undoes nothing"
                operator.report(f"{wait}: {'; '.join(waiting)}")
            pause(min(_LOOK_SECONDS, left))
    except KeyboardInterrupt:
        waiting = waiting or ["nobody was asked"]
    if waiting:
        raise NotServedYet(
            f"the registry names v{version}, and nothing is undone; not every gateway serves it yet:"
            f" {'; '.join(waiting)}"
        )
    away = [look.sentence for look in looks if not look.shows_model]
    if len(away) == len(looks):
        raise GatewaysUnreachable(f"the registry names v{version}; no gateway answers: {'; '.join(away)}")
    for sentence in away:
        operator.report(f"warning: {sentence}")


@dataclass(frozen=True, slots=True)
class _Look:
    gateway: str
    shows_model: bool
    """False where it does not answer, refuses, or does not serve the model."""
    serves: bool
    sentence: str


def _look(gateways: Gateways, model: str, version: int) -> list[_Look]:
    """Whether each gateway serves `version` as production."""
    found = []
    for gateway, view in views_of(gateways, model).items():
        if isinstance(view, NoView):
            found.append(_Look(gateway, shows_model=False, serves=False, sentence=view.why))
            continue
        bound = view.bound.get(PRODUCTION)
        serves = bound == view.aspired.get(PRODUCTION) == version
        trouble = f" (v{version}: {why})" if (why := view.trouble_of(version)) else ""
        sentence = f"{gateway} serves {numbered(bound)}{trouble}"
        found.append(_Look(gateway, shows_model=True, serves=serves, sentence=sentence))
    return found


def numbered(version: int | None) -> str:
    """A version as people write it."""
    return "no version" if version is None else f"v{version}"
