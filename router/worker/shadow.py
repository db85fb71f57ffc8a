"""A copy of a request that production took, answered for nobody: only how the two answers compare is sent."""

from collections.abc import Callable

from router.core.shadow_comparison import NOT_COMPARED, compare_answers
from router.protocol.messages import PredictStatus
from router.protocol.shadow_frames import Compared, ShadowQuery
from router.worker.scorer import Scorer


def answer_shadow(
    scorer: Scorer, sequence: int, asked: ShadowQuery, worker_seconds: Callable[[], float]
) -> Compared:
    """By a predict of its own. `worker_seconds` is asked after it: as of `Batch`."""
    answer = scorer.answer(asked.query)
    compared = NOT_COMPARED
    if asked.production is not None and answer.predict_status is PredictStatus.OK:
        output = scorer.scores[0] if scorer.scores else None
        compared = compare_answers(asked.production, answer.body, output, asked.cut_off)
    return Compared(
        "compared",
        sequence,
        answer.predict_status,
        answer.rows,
        answer.answer_rows,
        answer.all_nan,
        answer.predict_seconds,
        answer.processor_seconds,
        worker_seconds(),
        compared.same_type,
        compared.flips,
        compared.rows,
        compared.difference,
    )
