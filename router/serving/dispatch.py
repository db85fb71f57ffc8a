"""One prediction request from its key to its answer: route, ask, and ask production when a canary fails.

A canary is any alias but production.
"""

import asyncio
import dataclasses
from collections import Counter, deque
from collections.abc import Awaitable
from math import inf
from typing import NamedTuple

from msgspec.structs import replace

from router.core.breaker import Breaker
from router.core.events import Answered, CanaryFaulted, FellBack, Recorder
from router.core.ids import PRODUCTION, Alias, VersionId
from router.core.outcomes import (
    NEVER_ASKED,
    FallbackReason,
    Fault,
    FaultKind,
    Outcome,
    RefusalReason,
    fault_kind,
)
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
from router.core.scores import SCORED_LATER
from router.core.split import Key
from router.core.traits import TraitsWanted
from router.errors import (
    CallerGone,
    DeadlineExceeded,
    ModelNotConfigured,
    NotReady,
    RequestRefused,
    VersionNotServed,
)
from router.protocol.messages import Answer, PredictStatus, Query
from router.serving.caller import Caller
from router.serving.manager import ModelManager
from router.serving.models import ModelSet
from router.serving.pool.request_queue import PendingRequest
from router.serving.trait_sampling import Draw, TraitSampler

Result = Answer | RequestRefused

FLOOR_SECONDS = 1.0
TIMES_P99 = 3.0
KNOWN_ANSWERS = 200
WINDOW = 1000
"""Production's newest answers, of which a canary's timeout is learned."""
ANSWERED_BY_THEN = 0.9
"""The part of production's callers who have their answer within `AdaptiveTimeout.patience_seconds`. A canary
as fast as production loses at most a tenth of its callers after that: no outage to the breaker."""

# Under names of their own: an enumeration looks its members up, and these are asked for by every request.
_ANSWERED = PredictStatus.OK
_OK = Outcome.OK
_PINNED, _HASH = Reason.PINNED, Reason.HASH
_OUTCOMES = {
    PredictStatus.OK: Outcome.OK,
    PredictStatus.CLIENT_ERROR: Outcome.CLIENT_ERROR,
    PredictStatus.MODEL_ERROR: Outcome.MODEL_ERROR,
}


class _Quantile:
    """A quantile of the newest 1 000 numbers, known from the 200th on and looked up at every 200th."""

    def __init__(self, share: float) -> None:
        """`share`: the part of the numbers that lie below it, in (0, 1)."""
        self.value: float | None = None
        self._share = share
        self._newest: deque[float] = deque(maxlen=WINDOW)
        self._until_next_look = KNOWN_ANSWERS

    def add(self, number: float) -> None:
        self._newest.append(number)
        self._until_next_look -= 1
        if self._until_next_look == 0:
            # Sorting a thousand numbers at every 200th is 0.2 µs for each.
            self._until_next_look = KNOWN_ANSWERS
            self.value = sorted(self._newest)[int(len(self._newest) * self._share)]


class AdaptiveTimeout:
    """How long a canary may take before production is asked: learned from production's last 1 000 answers."""

    def __init__(self) -> None:
        self._p99 = _Quantile(0.99)
        """Of production's answers."""
        self._waited = _Quantile(ANSWERED_BY_THEN)
        """Of all its callers; those who hung up waited for an infinite time."""

    @property
    def patience_seconds(self) -> float:
        """Whoever hangs up on a canary after it would have been answered by production; infinite until 200 of
        production's callers are known, and while more than a tenth of them hang up."""
        return inf if self._waited.value is None else self._waited.value

    def note_hung_up(self) -> None:
        """One of production's callers hung up before the answer."""
        self._waited.add(inf)

    def note(self, seconds: float) -> None:
        """Production took `seconds`, from arrival to answer."""
        self._waited.add(seconds)
        self._p99.add(seconds)

    def seconds(self, timeout_seconds: float, configured: float | None) -> float:
        """`configured`, or max(1, 3 × p99); half of the timeout at most, and until 200 answers are known."""
        if configured is not None:
            return configured
        half, p99 = timeout_seconds / 2, self._p99.value
        return half if p99 is None else min(half, max(FLOOR_SECONDS, TIMES_P99 * p99))


class RequestResult(NamedTuple):
    """How one request ended, after an alias was chosen for it."""

    assigned: Assignment
    """Whom the key was assigned."""
    answered_by: Assignment
    """Who answered, or was the last one asked."""
    result: Result
    outcome: Outcome
    fault: Fault = ""
    """As `Answered.fault`; so are the rest."""
    excused: bool = False
    bin_index: int | None = None
    blamed_batch: int | None = None
    traits: tuple[int, ...] | None = None
    """Of the request, as whoever was assigned it said; None where they were not wanted, or it did not."""

    @property
    def reason(self) -> Reason:
        """Why it was answered by whom it was."""
        return Reason.FALLBACK if self.answered_by is not self.assigned else self.assigned.reason

    @property
    def rows(self) -> int:
        """Rows of the answer; 0 where a request has none."""
        return self.result.rows if isinstance(self.result, Answer) else 0

    def fact(self, code: int, seconds: float, trace_id: str = "") -> Answered:
        """What is recorded of it, once its caller gets the status `code`, `seconds` after it was read."""
        assigned = self.assigned
        # By position, in the order of the fields: with names it costs a microsecond more.
        return Answered(
            assigned.version.model,
            assigned.alias,
            assigned.version,
            self.outcome,
            code,
            seconds,
            self.rows,
            assigned.reason,
            assigned.bucket,
            self.fault,
            self.excused,
            self.bin_index,
            self.blamed_batch,
            trace_id,
            assigned.by_split,
            assigned.split,
        )


class Dispatcher:
    """Answers prediction requests from the versions that serve."""

    def __init__(self, models: ModelSet, recorder: Recorder) -> None:
        self.in_flight: Counter[tuple[str, Alias]] = Counter()
        """HTTP requests under way by the alias their key was assigned."""
        self._models = models
        self._recorder = recorder
        self._traits = TraitSampler(recorder)
        self._timeouts: dict[str, AdaptiveTimeout] = {}
        self._loop = asyncio.get_running_loop()

    def serve(
        self, model: str, key: Key | None, query: Query, *, keyed: bool, caller: Caller | None = None
    ) -> Awaitable[RequestResult]:
        """Route one request by `key`, at once, and answer it. Raises ModelNotConfigured or NotReady.

        Once `caller` hung up, nothing is predicted for it any more, but what runs already. None: it stays.
        """
        arrived = self._loop.time()
        table = self._models.table
        assigned = assign(self._routes(table, model), key, keyed=keyed)
        if assigned is None:
            until_load = self._models.managers[model].seconds_until_load
            raise NotReady(f"{model} has no production version yet", retry_after=until_load)
        if (
            assigned.alias != PRODUCTION
            and assigned.reason is _HASH
            and assigned.bucket is not None
            and self._models.managers[model].settings.why
        ):
            draw = self._traits.draw(assigned, assigned.bucket)
            return self._serve_traced(assigned, draw, query, arrived, caller or Caller())
        return self._serve(assigned, query, arrived, caller or Caller())

    def serve_direct(
        self, model: str, alias: Alias, query: Query, *, caller: Caller | None = None
    ) -> Awaitable[RequestResult]:
        """Answer from the version bound to `alias`, and from no other. Raises as `serve` does."""
        arrived = self._loop.time()
        assigned = assign_direct(self._routes(self._models.table, model), alias)
        if assigned is None:
            raise NotReady(f"{model} serves no version as {alias}")
        return self._serve(assigned, query, arrived, caller or Caller())

    def serve_version(
        self, model: str, number: int, query: Query, *, caller: Caller | None = None
    ) -> Awaitable[RequestResult]:
        """Answer from the version of that number. Raises ModelNotConfigured or VersionNotServed."""
        arrived = self._loop.time()
        assigned = assign_version(self._routes(self._models.table, model), number)
        if assigned is None:
            raise VersionNotServed(f"{model} serves no version of that number")
        return self._serve(assigned, query, arrived, caller or Caller())

    def canary_timeout(self, manager: ModelManager) -> float:
        """Seconds a canary of this model has to answer before production is asked.

        `manager` may have left the configuration while what runs finishes.
        """
        most, configured = manager.settings.timeout_seconds, manager.settings.canary_timeout_seconds
        return self._timeout_of(manager.model).seconds(most, configured)

    async def _serve_traced(
        self, assigned: Assignment, draw: Draw, query: Query, arrived: float, caller: Caller
    ) -> RequestResult:
        """As `_serve`, of a canary, and note what its requests are like: all that fail, and some others."""
        ended = await self._serve(assigned, replace(query, traits=draw.wanted), arrived, caller)
        fault = bool(ended.fault) and not ended.excused
        if fault or (ended.outcome is _OK and not ended.fault):
            self._traits.note(assigned, draw, ended.traits, len(query.body), fault=fault)
        return ended

    async def _serve(
        self, assigned: Assignment, query: Query, arrived: float, caller: Caller
    ) -> RequestResult:
        # Nothing may be awaited between the look into the table and the lease of the version. `serve` makes
        # this coroutine, and its caller awaits it at once: the table that was read still holds.
        model = assigned.version.model
        manager = self._models.managers[model]
        deadline = arrived + manager.settings.timeout_seconds
        arm = (model, assigned.alias)
        self.in_flight[arm] += 1
        try:
            if not self._may_fall_back(assigned, manager):
                length_varies = self._length_is_free(manager, assigned.version)
                result, pending = await self._ask(manager, assigned, query, deadline, caller)
                took = self._loop.time() - arrived
                kept = manager.preflight.kept
                if kept is not None and isinstance(result, Answer) and _is_of_users(assigned):
                    kept.offer(query, result)
                if manager.shadows is not None:
                    manager.shadows.offer(assigned, query, result, pending, any_length=length_varies)
                ended = self._unaided(manager, assigned, result, pending, took, length_varies=length_varies)
                self._offer_scores(manager, assigned, result, ended.fault)
                return ended
            canary_deadline = min(deadline, arrived + self.canary_timeout(manager))
            # Whoever is pinned to a canary was chosen by hand: a tester's odd requests take no share away.
            is_judged = assigned.reason is not _PINNED
            breaker = manager.breakers.of(assigned.alias, assigned.version) if is_judged else None
            first, _ = await self._ask(
                manager, assigned, query, canary_deadline, caller, may_wait_for_worker=False
            )
            if not _is_good(first) or self._invalid(manager, assigned.version, first):
                took = self._loop.time() - arrived
                plain = replace(query, traits=TraitsWanted.NEVER) if query.traits else query
                ended = await self._fall_back(assigned, first, plain, deadline, breaker, caller)
                if query.traits:
                    ended = ended._replace(traits=_traits_of(first))
                if ended.outcome is Outcome.ABANDONED and breaker is not None:
                    self._judge_abandoned(manager, breaker, first, took)
                return ended
            if breaker is not None:
                breaker.judge(fault=False)
            self._offer_scores(manager, assigned, first)
            return RequestResult(
                assigned,
                assigned,
                first,
                _OK,
                bin_index=first.bin_index if isinstance(first, Answer) else None,
                traits=_traits_of(first),
            )
        finally:
            self.in_flight[arm] -= 1

    def _judge_abandoned(self, manager: ModelManager, breaker: Breaker, first: Result, took: float) -> None:
        """Of a request whose caller hung up, after the canary had `took` seconds for its part of it.

        Else a canary that hangs would keep its share where its callers wait for less than its time limit.
        """
        asked = isinstance(first, CallerGone) or _was_asked(first)
        if asked and took > self._timeout_of(manager.model).patience_seconds:
            breaker.judge(fault=True, hung_up=True)

    def _unaided(
        self,
        manager: ModelManager,
        assigned: Assignment,
        result: Result,
        pending: PendingRequest | None,
        took: float,
        *,
        length_varies: bool,
    ) -> RequestResult:
        """The answer of production, or of another one that nobody stands in for, after `took` seconds."""
        if isinstance(result, CallerGone):
            if assigned.alias == PRODUCTION:
                self._timeout_of(manager.model).note_hung_up()
            # How long it would have taken is not known.
            return RequestResult(assigned, assigned, result, Outcome.ABANDONED)
        fault, blamed = _fault_of(result, odd=not length_varies), None
        if assigned.alias == PRODUCTION:
            # Measured as a canary is, or the two could not be compared: production's may have come later.
            allowed = self.canary_timeout(manager)
            if took > allowed and manager.settings.fallback and _was_asked(result):
                fault, blamed = FaultKind.TIMEOUT, pending.blamed_batch() if pending is not None else None
            self._timeout_of(manager.model).note(took)
        if isinstance(result, Answer):
            return RequestResult(
                assigned,
                assigned,
                result,
                _outcome_of(result),
                fault,
                bin_index=result.bin_index,
                blamed_batch=blamed,
                traits=result.traits,
            )
        return RequestResult(
            assigned, assigned, result, _outcome_of(result), fault, blamed_batch=result.blamed_batch or blamed
        )

    async def _fall_back(
        self,
        assigned: Assignment,
        first: Result,
        query: Query,
        deadline: float,
        breaker: Breaker | None,
        caller: Caller,
    ) -> RequestResult:
        if caller.gone:
            # Whether production could answer is not known.
            return RequestResult(assigned, assigned, _gone(), Outcome.ABANDONED)
        model = assigned.version.model
        routes = self._models.table.models.get(model)
        second = assign_fallback(routes, assigned) if routes else None
        fault = _fault_of(first, odd=True)
        blamed = first.blamed_batch if isinstance(first, RequestRefused) else None
        if second is None:
            return RequestResult(assigned, assigned, first, _outcome_of(first), fault, blamed_batch=blamed)
        reason = _reason_of(first)
        self._recorder.record(FellBack(model, assigned.alias, second.alias, reason))
        # As of now: by the time of the answer the model may have left the configuration.
        manager = self._models.managers[model]
        asked_at, allowed = self._loop.time(), self.canary_timeout(manager)
        result, _ = await self._ask(manager, second, query, deadline, caller)
        if isinstance(result, CallerGone):
            return RequestResult(assigned, second, result, Outcome.ABANDONED)
        self._offer_scores(manager, second, result)
        good = _is_good(result)
        # What production answers in the same odd way is how this model answers, and no fault.
        innocent = not good or (
            reason is FallbackReason.INVALID_OUTPUT and _production_equally_invalid(first, result)
        )
        if reason not in NEVER_ASKED:
            if not innocent:
                self._recorder.record(
                    CanaryFaulted(model, assigned.alias, assigned.version, fault_kind(reason))
                )
            # Where production was not asked either, it is not known whether it could have answered.
            if breaker is not None and _was_asked(result):
                breaker.judge(fault=not innocent)
        if reason is FallbackReason.CLIENT_ERROR:
            # It refused what it was sent, which is no fault unless production could answer it.
            fault = FaultKind.ERROR if good else ""
        excused = bool(fault) and (innocent or self._loop.time() - asked_at > allowed)
        if good:
            return RequestResult(assigned, second, result, Outcome.FALLBACK, fault, excused, None, blamed)
        # Production refuses as well: the request is at fault, not the canary. The outcome is that of the
        # answer its caller gets, so that it never contradicts the code beside it.
        return RequestResult(assigned, second, result, _outcome_of(result), fault, excused, None, blamed)

    async def _ask(
        self,
        manager: ModelManager,
        to: Assignment,
        query: Query,
        deadline: float,
        caller: Caller,
        *,
        may_wait_for_worker: bool = True,
    ) -> tuple[Result, PendingRequest | None]:
        """How `to` answered, and the request it was asked with; None when it could not be asked."""
        if caller.gone:
            return _gone(), None
        try:
            harness = manager.serving(to.version)
            pending = harness.submit(query, to.alias, deadline, may_wait_for_worker=may_wait_for_worker)
        except RequestRefused as refused:
            return refused, None
        caller.wait_for(pending)
        try:
            answer = await pending.answer
            harness.variable_length |= answer.odd_length
            harness.without_rows |= not answer.one_per_row and answer.answer_rows is None
            return answer, pending
        except RequestRefused as refused:
            return refused, pending
        finally:
            caller.wait_no_longer()
            pending.cancel()

    def _offer_scores(
        self, manager: ModelManager, asked: Assignment, result: Result, fault: Fault = ""
    ) -> None:
        """Have the scores of an answer read, where that comes later. As of versions that run here, one that
        is a `fault` counts among the scores of its version, and not in the comparison."""
        if not isinstance(result, Answer) or result.bin_index != SCORED_LATER:
            return
        harness = manager.harnesses.get(asked.version)
        if harness is None or not harness.loaded or (reader := harness.pool.score_reader) is None:
            return
        reader.offer(dataclasses.replace(asked, bucket=None) if fault else asked, result.body)

    def _invalid(self, manager: ModelManager, version: VersionId, first: Result) -> bool:
        """Whether a canary's good answer can not be one: all NaN, or of a length it should not have."""
        if not isinstance(first, Answer) or not (first.all_nan or first.odd_length):
            return False
        if first.all_nan or manager.settings.answer_length:
            return first.all_nan
        # A canary's own odd lengths excuse it of nothing; that it answers without rows as well does.
        canary = manager.harnesses.get(version)
        without_rows = canary is not None and canary.without_rows
        return not (without_rows or self._length_is_free(manager, manager.bound[PRODUCTION]))

    def _length_is_free(self, manager: ModelManager, version: VersionId) -> bool:
        """Whether the settings allow any length, or the version is known to answer not one item per row."""
        harness = manager.harnesses.get(version)
        known = harness is not None and (harness.variable_length or harness.without_rows)
        return manager.settings.answer_length or known

    def _may_fall_back(self, assigned: Assignment, manager: ModelManager) -> bool:
        return (
            manager.settings.fallback
            and assigned.alias != PRODUCTION
            and assigned.reason not in (Reason.DIRECT, Reason.SAME_VERSION)
        )

    def _routes(self, table: RoutingTable, model: str) -> ModelRoutes:
        try:
            return table.models[model]
        except KeyError:
            raise ModelNotConfigured("no such registered model here") from None

    def _timeout_of(self, model: str) -> AdaptiveTimeout:
        if (timeout := self._timeouts.get(model)) is None:
            timeout = self._timeouts[model] = AdaptiveTimeout()
        return timeout


def _is_of_users(assigned: Assignment) -> bool:
    """Whether production answers a request that nobody addressed to it."""
    return (
        assigned.alias == PRODUCTION
        and assigned.reason is not Reason.DIRECT
        and assigned.reason is not _PINNED
    )


def _gone() -> CallerGone:
    return CallerGone("its caller hung up before it was asked")


def _is_good(result: Result) -> bool:
    """Whether a version answered, and found nothing wrong itself."""
    return isinstance(result, Answer) and result.predict_status is _ANSWERED


def _traits_of(result: Result) -> tuple[int, ...] | None:
    return result.traits if isinstance(result, Answer) else None


def _was_asked(result: Result) -> bool:
    """Whether a version saw the request at all."""
    return isinstance(result, Answer) or result.reason not in NEVER_ASKED


def _fault_of(result: Result, *, odd: bool) -> Fault:
    """What is wrong with an answer, whoever gave it. `odd`: an odd length is wrong. A refusal is not."""
    if not isinstance(result, Answer):
        return fault_kind(_reason_of(result)) if _was_asked(result) else ""
    if result.predict_status is _ANSWERED:
        return FaultKind.INVALID_OUTPUT if result.all_nan or (odd and result.odd_length) else ""
    return FaultKind.ERROR if result.predict_status is PredictStatus.MODEL_ERROR else ""


def _production_equally_invalid(first: Result, second: Result) -> bool:
    """Whether production's answer, the `second`, is no less odd than the canary's."""
    if not isinstance(first, Answer) or not isinstance(second, Answer):
        return False
    return (second.all_nan or not first.all_nan) and (not second.one_per_row or not first.odd_length)


def _reason_of(first: Result) -> FallbackReason:
    """Why production is asked."""
    if not isinstance(first, Answer):
        return FallbackReason(first.reason)
    if first.predict_status is _ANSWERED:
        return FallbackReason.INVALID_OUTPUT
    return FallbackReason(first.predict_status)


def _outcome_of(result: Result) -> Outcome:
    """Of what its caller gets."""
    if isinstance(result, Answer):
        return _OUTCOMES[result.predict_status]
    if isinstance(result, DeadlineExceeded):
        return Outcome.TIMEOUT
    if isinstance(result, CallerGone):
        return Outcome.ABANDONED
    return Outcome.OVERLOADED if result.reason is RefusalReason.OVERLOADED else Outcome.MODEL_ERROR
