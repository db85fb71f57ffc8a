"""One prediction request from its key to its answer: route, ask, and ask production when the canary fails."""

import asyncio
from collections import Counter
from typing import NamedTuple

from router.core.breaker import Breaker
from router.core.events import Recorder
from router.core.ids import PRODUCTION, Alias, VersionId
from router.core.request_events import ABANDONED, CanaryFaulted, FellBack, Routed
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
from router.errors import CallerGone, ModelNotConfigured, NotReady, RequestRefused, VersionNotServed
from router.protocol.messages import Answer, PredictStatus, Query
from router.serving.adaptive_timeout import AdaptiveTimeout
from router.serving.caller import Caller
from router.serving.manager import ModelManager
from router.serving.models import ModelSet
from router.serving.outcomes import (
    INVALID_OUTPUT,
    NEVER_ASKED,
    Result,
    equally_odd,
    fault_of,
    is_good,
    kind_of,
    outcome_of,
    reason_of,
    was_asked,
)
from router.serving.pool.request_queue import PendingRequest


class RequestResult(NamedTuple):
    """How one request ended, after an alias was chosen for it."""

    given: Assignment
    """Whom the key was given."""
    answered: Assignment
    """Who answered, or was the last one asked."""
    result: Result
    outcome: str
    """`outcome` label of `requests_total`: ok, fallback, client_error, model_error, timeout, overloaded or
    abandoned."""
    fault: str = ""
    """As `Answered.fault`; so are the rest."""
    excused: bool = False
    mark: int | None = None
    call: int | None = None


class Dispatcher:
    """Answers prediction requests from the fleet's versions."""

    def __init__(self, fleet: ModelSet, recorder: Recorder) -> None:
        self.in_flight: Counter[tuple[str, Alias]] = Counter()
        """HTTP requests under way by the alias their key was given."""
        self._fleet = fleet
        self._recorder = recorder
        self._patience: dict[str, AdaptiveTimeout] = {}
        self._loop = asyncio.get_running_loop()

    async def serve(
        self, model: str, key: Key | None, query: Query, *, keyed: bool, caller: Caller | None = None
    ) -> RequestResult:
        """Route one request by `key` and answer it. Raises ModelNotConfigured or NotReady.

        Once `caller` hung up, nothing is predicted for it any more, but what runs already. None: it stays.
        """
        arrived = self._loop.time()
        table = self._fleet.table
        given = assign(self._routes(table, model), key, keyed=keyed)
        if given is None:
            raise NotReady(f"{model} has no production version yet", reason="not_ready")
        return await self._serve(given, query, arrived, caller or Caller())

    async def serve_direct(
        self, model: str, alias: Alias, query: Query, *, caller: Caller | None = None
    ) -> RequestResult:
        """Answer from the version bound to `alias`, and from no other. Raises as `serve` does."""
        arrived = self._loop.time()
        given = assign_direct(self._routes(self._fleet.table, model), alias)
        if given is None:
            raise NotReady(f"{model} serves no version as {alias}", reason="not_ready")
        return await self._serve(given, query, arrived, caller or Caller())

    async def serve_version(
        self, model: str, number: int, query: Query, *, caller: Caller | None = None
    ) -> RequestResult:
        """Answer from the version of that number. Raises ModelNotConfigured or VersionNotServed."""
        arrived = self._loop.time()
        given = assign_version(self._routes(self._fleet.table, model), number)
        if given is None:
            raise VersionNotServed(f"{model} serves no version of that number", reason="unknown_model")
        return await self._serve(given, query, arrived, caller or Caller())

    def canary_patience(self, model: str) -> float:
        """Seconds a canary of `model` has to answer before production is asked."""
        settings = self._fleet.managers[model].settings
        return self._patience_of(model).seconds(settings.timeout_seconds, settings.canary_timeout_seconds)

    async def _serve(self, given: Assignment, query: Query, arrived: float, caller: Caller) -> RequestResult:
        # Nothing is awaited from here until the version is leased: the table that was read still holds.
        model = given.version.model
        self._recorder.record(Routed(model, given.alias, given.reason))
        manager = self._fleet.managers[model]
        deadline = arrived + manager.settings.timeout_seconds
        lane = (model, given.alias)
        self.in_flight[lane] += 1
        try:
            if not self._may_fall_back(given, manager):
                answered_oddly = manager.settings.answer_length or self._any_length(manager, given.version)
                result, ticket = await self._ask(manager, given, query, deadline, caller)
                took = self._loop.time() - arrived
                return self._of_one(manager, given, result, ticket, took, answered_oddly=answered_oddly)
            patience = min(deadline, arrived + self.canary_patience(model))
            breaker = manager.breakers.of(given.alias, given.version)
            first, _ = await self._ask(manager, given, query, patience, caller, waits=False)
            if not is_good(first) or self._invalid(manager, given.version, first):
                return await self._fall_back(given, first, query, deadline, breaker, caller)
            if breaker is not None:
                breaker.judge(fault=False)
            return RequestResult(
                given, given, first, "ok", mark=first.mark if isinstance(first, Answer) else None
            )
        finally:
            self.in_flight[lane] -= 1

    def _of_one(
        self,
        manager: ModelManager,
        given: Assignment,
        result: Result,
        ticket: PendingRequest | None,
        took: float,
        *,
        answered_oddly: bool,
    ) -> RequestResult:
        """The answer of production, or of another one that nobody stands in for, after `took` seconds."""
        if isinstance(result, CallerGone):
            return RequestResult(given, given, result, ABANDONED)  # how long it would have taken is not known
        fault, call = fault_of(result, odd=not answered_oddly), None
        if given.alias == PRODUCTION:
            patience, settings = self._patience_of(manager.model), manager.settings
            # Measured as a canary is, or the two could not be compared: production's may have come later.
            allowed = patience.seconds(settings.timeout_seconds, settings.canary_timeout_seconds)
            if took > allowed and settings.fallback and was_asked(result):
                fault, call = "timeout", ticket.held_up_by() if ticket is not None else None
            patience.note(took)
        if isinstance(result, Answer):
            return RequestResult(given, given, result, outcome_of(result), fault, mark=result.mark, call=call)
        return RequestResult(given, given, result, outcome_of(result), fault, call=result.call or call)

    async def _fall_back(
        self,
        given: Assignment,
        first: Result,
        query: Query,
        deadline: float,
        breaker: Breaker | None,
        caller: Caller,
    ) -> RequestResult:
        if caller.gone:
            return RequestResult(
                given, given, _gone(), ABANDONED
            )  # whether production could answer is not known
        model = given.version.model
        routes = self._fleet.table.models.get(model)
        second = assign_fallback(routes, given) if routes else None
        fault, call = fault_of(first, odd=True), first.call if isinstance(first, RequestRefused) else None
        if second is None:
            return RequestResult(given, given, first, outcome_of(first), fault, call=call)
        reason = reason_of(first)
        self._recorder.record(FellBack(model, given.alias, second.alias, reason))
        asked_at, patience = self._loop.time(), self.canary_patience(model)
        result, _ = await self._ask(self._fleet.managers[model], second, query, deadline, caller)
        if isinstance(result, CallerGone):
            return RequestResult(given, second, result, ABANDONED)
        good = is_good(result)
        # What production answers in the same odd way is how this model answers, and no fault.
        innocent = not good or (reason == INVALID_OUTPUT and equally_odd(first, result))
        if reason not in NEVER_ASKED:
            if not innocent:
                self._recorder.record(CanaryFaulted(model, given.alias, given.version, kind_of(reason)))
            if breaker is not None:
                breaker.judge(fault=not innocent)
        if reason == PredictStatus.CLIENT_ERROR:
            # It refused what it was sent, which is no fault unless production could answer it.
            fault = "error" if good else ""
        excused = bool(fault) and (innocent or self._loop.time() - asked_at > patience)
        if good:
            return RequestResult(given, second, result, "fallback", fault, excused, None, call)
        # Production refuses as well: the request is at fault, not the canary. The outcome is that of the
        # answer its caller gets, so that it never contradicts the code beside it.
        return RequestResult(given, second, result, outcome_of(result), fault, excused, None, call)

    async def _ask(
        self,
        manager: ModelManager,
        to: Assignment,
        query: Query,
        deadline: float,
        caller: Caller,
        *,
        waits: bool = True,
    ) -> tuple[Result, PendingRequest | None]:
        """How `to` answered; the ticket of what it was asked, None when it could not be."""
        if caller.gone:
            return _gone(), None
        try:
            harness = manager.serving(to.version)
            ticket = harness.submit(query, to.alias, deadline, waits=waits)
        except RequestRefused as refused:
            return refused, None
        caller.wait_for(ticket)
        try:
            answer = await ticket.answer
            harness.any_length |= answer.odd_length
            harness.without_rows |= not answer.one_per_row and answer.answer_rows is None
            return answer, ticket
        except RequestRefused as refused:
            return refused, ticket
        finally:
            caller.wait_no_longer()
            ticket.forget()

    def _invalid(self, manager: ModelManager, version: VersionId, first: Result) -> bool:
        """Whether a canary's good answer can not be one: all NaN, or of a length it should not have."""
        if not isinstance(first, Answer) or not (first.all_nan or first.odd_length):
            return False
        if first.all_nan or manager.settings.answer_length:
            return first.all_nan
        # A canary's own odd lengths excuse it of nothing; that it answers without rows as well does.
        canary = manager.harnesses.get(version)
        without_rows = canary is not None and canary.without_rows
        return not (without_rows or self._any_length(manager, manager.bound[PRODUCTION]))

    def _any_length(self, manager: ModelManager, version: VersionId) -> bool:
        """Whether a version is known to answer otherwise than by one item per row."""
        harness = manager.harnesses.get(version)
        return harness is not None and (harness.any_length or harness.without_rows)

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

    def _patience_of(self, model: str) -> AdaptiveTimeout:
        if (patience := self._patience.get(model)) is None:
            patience = self._patience[model] = AdaptiveTimeout()
        return patience


def _gone() -> CallerGone:
    return CallerGone("its caller hung up before it was asked", reason="abandoned")
