"""What is said at the end, and whether all of it was right."""

from collections.abc import Iterator, Sequence

from router.demo.probe import STAND_INS, TOLD, Checker
from router.demo.story import Effect
from router.demo.tally import Tally


def problems(checker: Checker, tally: Tally, effects: Sequence[Effect]) -> list[str]:
    """Everything that was not as promised; empty means exit code 0."""
    found = list(checker.problems)
    if checker.wrong > TOLD:
        found.append(f"… and {checker.wrong - TOLD} more wrong answers")
    if checker.judged < max(1, tally.requests):
        found.append(f"{checker.judged} of {tally.requests} answers were judged")
    found += [f"{key} lost the canary although its share was wider" for key in checker.keys_that_left()]
    found += [str(effect) for effect in effects if effect.seconds is None]
    return found


def summary(checker: Checker, tally: Tally, effects: Sequence[Effect]) -> Iterator[str]:
    """Plain lines: how much, by whom, how soon, and what was wrong."""
    yield f"{checker.judged} answers judged, each prediction by the offline one: {checker.wrong} wrong"
    for (model, alias, version), count in sorted(tally.by_version.items(), reverse=True):
        yield f"  {model} @{alias} v{version}: {count} answers"
    for effect in effects:
        yield f"  {effect}"
    yield from _keys(checker)
    stood_in = {
        reason: count for reason, count in checker.reasons.items() if reason in {*STAND_INS, "fallback"}
    }
    for reason, count in sorted(stood_in.items()):
        yield f"  production answered {count} times for the canary: {reason}"
    found = problems(checker, tally, effects)
    for problem in found:
        yield f"  WRONG: {problem}"
    yield "everything was right" if not found else f"{len(found)} things were not right"


def _keys(checker: Checker) -> Iterator[str]:
    for model, percent in checker.splits_seen():
        aliases = checker.keys_seen(model, percent)
        canary = sum(alias == "canary" for alias in aliases.values())
        yield f"  {model} at {percent:g} %: {canary} of {len(aliases)} users at the canary, each always"
