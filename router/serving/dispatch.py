"""One prediction request from its key to its answer: route, ask, and ask production when the canary fails."""

import asyncio
from collections import Counter
from dataclasses import dataclass

from router.core.breaker import Breaker
from router.core.events import Recorder
from router.core.ids import PRODUCTION, Alias
from router.core.request_events import CanaryFaulted, FellBack, Routed
from router.core.routing import (
    Assignment,
    ModelRoutes,
    Reason,
    RoutingTable,
    assign,
    assign_direct,
    assign_fallback,
    assign_version,
)
from router.core.split import Key
from router.core.work import Answer, Query, Verdict
from router.errors import DeadlineExceeded, ModelNotConfigured, NotReady, RequestRefused, VersionNotServed
from router.serving.fleet import Fleet
from router.serving.manager import ModelManager
from router.serving.patience import Patience

Result = Answer | RequestRefused

INVALID_OUTPUT = "invalid_output"
FAULT_KINDS = {"timeout": "timeout", "crash": "crash", INVALID_OUTPUT: INVALID_OUTPUT}
"""Kinds of `canary_faults_total` by how the canary's answer failed to come; all else is an error."""
NEVER_ASKED = ("overloaded", "not_ready")
"""Reasons of a fallback that say nothing about the canary, neither good nor bad: it never saw the request."""


@dataclass(frozen=True, slots=True)
class Served:
    """How one request ended, after an alias was chosen for it."""

    given: Assignment
    """Whom the key was given."""
    answered: Assignment
    """Who answered, or was the last one asked."""
    result: Result
    outcome: str
    """`outcome` label of `requests_total`: ok, fallback, client_error, model_error, timeout, overloaded."""


class Dispatcher:
    """Answers prediction requests from the fleet's versions."""

    def __init__(self, fleet: Fleet, recorder: Recorder) -> None:
        self.in_flight: Counter[tuple[str, Alias]] = Counter()
        """HTTP requests under way by the alias their key was given."""
        self._fleet = fleet
        self._recorder = recorder
        self._patience: dict[str, Patience] = {}
        self._loop = asyncio.get_running_loop()

    async def serve(self, model: str, key: Key | None, query: Query, *, keyed: bool) -> Served:
        """Route one request by `key` and answer it. Raises ModelNotConfigured or NotReady."""
        arrived = self._loop.time()
        table = self._fleet.table
        given = assign(self._routes(table, model), key, keyed=keyed)
        if given is None:
            raise NotReady(f"{model} has no production version yet", reason="not_ready")
        return await self._serve(given, query, arrived)

    async def serve_direct(self, model: str, alias: Alias, query: Query) -> Served:
        """Answer from the version bound to `alias`, and from no other. Raises as `serve` does."""
        arrived = self._loop.time()
        given = assign_direct(self._routes(self._fleet.table, model), alias)
        if given is None:
            raise NotReady(f"{model} serves no version as {alias}", reason="not_ready")
        return await self._serve(given, query, arrived)

    async def serve_version(self, model: str, number: int, query: Query) -> Served:
        """Answer from the version of that number. Raises ModelNotConfigured or VersionNotServed."""
        arrived = self._loop.time()
        given = assign_version(self._routes(self._fleet.table, model), number)
        if given is None:
            raise VersionNotServed(f"{model} serves no version of that number", reason="unknown_model")
        return await self._serve(given, query, arrived)

    def canary_patience(self, model: str) -> float:
        """Seconds a canary of `model` has to answer before production is asked."""
        settings = self._fleet.managers[model].settings
        return self._patience_of(model).seconds(settings.timeout_seconds, settings.canary_timeout_seconds)

    async def _serve(self, given: Assignment, query: Query, arrived: float) -> Served:
        # Nothing is awaited from here until the version is leased: the table that was read still holds.
        model = given.version.model
        self._recorder.record(Routed(model, given.alias, given.reason))
        manager = self._fleet.managers[model]
        deadline = arrived + manager.settings.timeout_seconds
        lane = (model, given.alias)
        self.in_flight[lane] += 1
        try:
            if not self._may_fall_back(given, manager):
                result = await self._ask(manager, given, query, deadline)
                if given.alias == PRODUCTION:
                    self._patience_of(model).note(self._loop.time() - arrived)
                return Served(given, given, result, _outcome(result))
            patience = min(deadline, arrived + self.canary_patience(model))
            breaker = manager.breakers.of(given.alias, given.version)
            first = await self._ask(manager, given, query, patience, waits=False)
            if not _is_good(first) or self._invalid(manager, first):
                return await self._fall_back(given, first, query, deadline, breaker)
            if breaker is not None:
                breaker.judge(fault=False)
            return Served(given, given, first, "ok")
        finally:
            self.in_flight[lane] -= 1

    async def _fall_back(
        self, given: Assignment, first: Result, query: Query, deadline: float, breaker: Breaker | None
    ) -> Served:
        model = given.version.model
        routes = self._fleet.table.models.get(model)
        second = assign_fallback(routes, given) if routes else None
        if second is None:
            return Served(given, given, first, _outcome(first))
        reason = _reason(first)
        self._recorder.record(FellBack(model, given.alias, second.alias, reason))
        result = await self._ask(self._fleet.managers[model], second, query, deadline)
        good = _is_good(result)
        # What production answers in the same odd way is how this model answers, and no fault.
        innocent = not good or (reason == INVALID_OUTPUT and _equally_odd(first, result))
        if reason not in NEVER_ASKED:
            if not innocent:
                kind = FAULT_KINDS.get(reason, "error")
                self._recorder.record(CanaryFaulted(model, given.alias, given.version, kind))
            if breaker is not None:
                breaker.judge(fault=not innocent)
        if good:
            return Served(given, second, result, "fallback")
        # Production refuses as well: the request is at fault, not the canary. The outcome is that of the
        # answer its caller gets, so that it never contradicts the code beside it.
        return Served(given, second, result, _outcome(result))

    async def _ask(
        self, manager: ModelManager, to: Assignment, query: Query, deadline: float, *, waits: bool = True
    ) -> Result:
        try:
            harness = manager.serving(to.version)
            ticket = harness.submit(query, to.alias, deadline, waits=waits)
        except RequestRefused as refused:
            return refused
        try:
            answer = await ticket.answer
            harness.any_length |= answer.odd_length
            return answer
        except RequestRefused as refused:
            return refused
        finally:
            ticket.forget()

    def _invalid(self, manager: ModelManager, first: Result) -> bool:
        """Whether a canary's good answer can not be one: all NaN, or of a length it should not have."""
        if not isinstance(first, Answer) or not (first.all_nan or first.odd_length):
            return False
        production = manager.harnesses.get(manager.bound[PRODUCTION])
        return first.all_nan or production is None or not production.any_length

    def _may_fall_back(self, given: Assignment, manager: ModelManager) -> bool:
        return (
            manager.settings.fallback
            and given.alias != PRODUCTION
            and given.reason not in (Reason.DIRECT, Reason.SAME_VERSION)
        )

    def _routes(self, table: RoutingTable, model: str) -> ModelRoutes:
        try:
            return table.models[model]
        except KeyError:
            raise ModelNotConfigured("no such registered model here", reason="unknown_model") from None

    def _patience_of(self, model: str) -> Patience:
        if (patience := self._patience.get(model)) is None:
            patience = self._patience[model] = Patience()
        return patience


def _is_good(result: Result) -> bool:
    return isinstance(result, Answer) and result.verdict is Verdict.OK


def _equally_odd(first: Result, second: Result) -> bool:
    if not isinstance(first, Answer) or not isinstance(second, Answer):
        return False
    return (second.all_nan or not first.all_nan) and (second.odd_length or not first.odd_length)


def _reason(first: Result) -> str:
    """Why production is asked: values of `fallbacks_total`'s label."""
    if not isinstance(first, Answer):
        return first.reason
    return INVALID_OUTPUT if first.verdict is Verdict.OK else first.verdict.value


def _outcome(result: Result) -> str:
    if isinstance(result, Answer):
        return result.verdict.value
    if isinstance(result, DeadlineExceeded):
        return "timeout"
    return "overloaded" if result.reason == "overloaded" else "model_error"
