"""Before its first user: when a version that answered what production answered fails."""

import json
import math
import pickle
from collections.abc import Sequence
from itertools import pairwise
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.answer_reading import MOST_BYTES, NOTHING_READ, AnswerReading, Kind, read_answer
from router.core.preflight import (
    PreflightEvidence,
    PreflightJudgement,
    PreflightLimits,
    PreflightReport,
    PreflightVerdict,
    TakenRequest,
    judge,
    sign_test,
)
from router.core.scores import ClassSpec, OutputSpec, ScoreSpec

PASS, FAIL, NOT_ENOUGH = (
    PreflightVerdict.PASS,
    PreflightVerdict.FAIL,
    PreflightVerdict.NOT_ENOUGH_DATA,
)
FAULT = TakenRequest(fault=True)
DEATH = TakenRequest(fault=True, ended_worker=True)
NUMBER, TEXT = frozenset((Kind("number"),)), frozenset((Kind("text"),))


def scored(*scores: float | None, seconds: float = 0.001, one_per_row: bool = True) -> TakenRequest:
    return TakenRequest(False, one_per_row, seconds, AnswerReading(NUMBER, scores))


def labelled(*labels: str) -> TakenRequest:
    return TakenRequest(False, True, 0.001, AnswerReading(TEXT, labels=labels))


def of(*pairs: tuple[TakenRequest, TakenRequest], cut_off: float = 0.5) -> PreflightEvidence:
    evidence = PreflightEvidence()
    for version, production in pairs:
        evidence.add(version, production, cut_off)
    return evidence


GOOD = (scored(0.3), scored(0.3))
LIMITS = PreflightLimits()


@pytest.mark.parametrize(
    ("alone", "other", "chance"),
    [(0, 0, 1.0), (1, 0, 0.5), (9, 0, 1 / 512), (10, 0, 1 / 1024), (10, 1, 12 / 2048), (14, 1, 16 / 32768)],
)
def test_the_sign_test_is_exact(alone: int, other: int, chance: float) -> None:
    assert sign_test(alone, other) == chance


@pytest.mark.parametrize(("alone", "other"), [(0, 6_000), (40, 5_960), (3_000, 3_000), (5_960, 40)])
def test_the_sign_test_of_all_requests_that_may_be_kept_is_soon_done(
    alone: int, other: int, slack: float
) -> None:
    """In the event loop, which it held up for seconds when it took each binomial by itself."""
    began = process_time()
    sign_test(alone, other)

    assert process_time() - began < 0.05 * slack


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_sign_test_is_the_share_of_what_would_be_as_far_off(alone: int, other: int) -> None:
    both = alone + other

    assert sign_test(alone, other) == sum(math.comb(both, k) for k in range(alone, both + 1)) / 2**both


@given(st.integers(0, 300), st.integers(0, 300))
def test_the_sign_test_is_a_chance_that_falls_with_what_one_side_did_alone(alone: int, other: int) -> None:
    assert 0 < sign_test(alone + 1, other) <= sign_test(alone, other) <= 1
    assert math.isclose(sign_test(alone, other) + sign_test(other + 1, alone - 1) if alone else 1.0, 1.0)


@pytest.mark.parametrize(
    ("alone", "production_alone", "good", "verdict"),
    [
        pytest.param(10, 0, 190, FAIL, id="ten of its own, one in a thousand by chance"),
        pytest.param(9, 0, 191, PASS, id="nine may be chance"),
        pytest.param(10, 1, 189, PASS, id="production fails, too"),
        pytest.param(14, 1, 185, FAIL, id="far more often than production"),
        pytest.param(5, 0, 0, FAIL, id="all of five"),
        pytest.param(4, 0, 0, NOT_ENOUGH, id="all of four"),
        pytest.param(5, 0, 1, NOT_ENOUGH, id="five of six"),
        pytest.param(0, 40, 160, PASS, id="production's own faults"),
        pytest.param(0, 0, 20, PASS, id="twenty"),
        pytest.param(0, 0, 19, NOT_ENOUGH, id="nineteen"),
        pytest.param(0, 0, 0, NOT_ENOUGH, id="none"),
    ],
)
def test_it_fails_by_what_it_alone_failed(
    alone: int, production_alone: int, good: int, verdict: PreflightVerdict
) -> None:
    pairs = [(FAULT, scored(0.3))] * alone + [(scored(0.3), FAULT)] * production_alone + [GOOD] * good

    assert judge(of(*pairs), LIMITS).verdict is verdict


@pytest.mark.parametrize(
    ("pairs", "verdict", "why"),
    [
        pytest.param(
            [(DEATH, scored(0.3))] * 5 + [GOOD] * 20,
            FAIL,
            "its worker ended, or had to be ended, by 5 of 25 requests that production answered",
            id="five of 25",
        ),
        pytest.param(
            [(DEATH, scored(0.3))] * 5 + [GOOD] * 5,
            FAIL,
            "its worker ended, or had to be ended, by 5 of 10 requests that production answered",
            id="five of ten",
        ),
        pytest.param(
            [(DEATH, scored(0.3))] * 10 + [GOOD] * 15,
            FAIL,
            "it alone failed 10 of 25 requests, and production alone 0; its worker ended, or had to be ended,"
            " by 10 of 25 requests that production answered",
            id="beyond chance, too",
        ),
        pytest.param(
            [(DEATH, scored(0.3))] * 4 + [GOOD] * 21,
            PASS,
            "it answered 21 of the last requests as it should, and failed 4 that production answered",
            id="four of 25",
        ),
        pytest.param(
            [(DEATH, FAULT)] * 5 + [GOOD] * 20,
            PASS,
            "it answered 20 of the last requests as it should",
            id="where production failed, too",
        ),
    ],
)
def test_it_fails_by_five_workers_that_production_would_not_have_lost(
    pairs: Sequence[tuple[TakenRequest, TakenRequest]], verdict: PreflightVerdict, why: str
) -> None:
    assert judge(of(*pairs), LIMITS) == PreflightJudgement(verdict, why)


def test_what_both_fail_speaks_against_none() -> None:
    assert judge(of(*[(FAULT, FAULT)] * 200), LIMITS).verdict is PASS


@pytest.mark.parametrize(
    ("pairs", "limits", "why"),
    [
        pytest.param(
            [(labelled('"spam"'), scored(0.3))] + [GOOD] * 30,
            LIMITS,
            "its answers are of another type: text, and production's number",
            id="another type once",
        ),
        pytest.param(
            [(scored(0.1, 0.2, one_per_row=False), scored(0.1))] + [GOOD] * 30,
            LIMITS,
            "1 of 31 answers have another number of items than the request has rows",
            id="another length once",
        ),
        pytest.param(
            [(scored(0.6), scored(0.4))] * 5 + [GOOD] * 15,
            LIMITS,
            "25.0% of the scores are on the other side of 0.5, 20.0% may be",
            id="flips",
        ),
        pytest.param(
            [(scored(None), scored(0.4))] * 5 + [(scored(0.4), scored(None))] + [GOOD] * 15,
            LIMITS,
            "25.0% of the scores are on the other side of 0.5, 20.0% may be",
            id="scores that are none any more",
        ),
        pytest.param(
            [(labelled('"a"'), labelled('"b"'))] * 3 + [(labelled('"a"'), labelled('"a"'))] * 17,
            PreflightLimits(min_agreement=0.9),
            "85.0% of the labels are production's, 90.0% have to be",
            id="labels",
        ),
    ],
)
def test_it_fails_by_other_answers_and_says_by_which(
    pairs: Sequence[tuple[TakenRequest, TakenRequest]], limits: PreflightLimits, why: str
) -> None:
    assert judge(of(*pairs), limits) == PreflightJudgement(FAIL, why)
    assert judge(of(*pairs[:19]), limits).verdict is NOT_ENOUGH


def test_it_fails_by_memory_that_a_worker_takes_and_keeps() -> None:
    evidence = of(*[GOOD] * 20)
    evidence.growth_bytes = 65 << 20

    assert judge(evidence, PreflightLimits(growth_bytes=64 << 20)) == PreflightJudgement(
        FAIL, "a worker grew by 65 MiB, 64 are allowed"
    )
    assert judge(evidence, PreflightLimits(growth_bytes=65 << 20)).verdict is PASS
    assert judge(evidence, LIMITS).verdict is PASS, "without a limit it may"


@pytest.mark.parametrize(
    ("pairs", "limits"),
    [
        pytest.param([(scored(0.6), scored(0.4))] * 4 + [GOOD] * 16, LIMITS, id="as many flips as may be"),
        pytest.param([(scored(0.01), scored(0.49))] * 20, LIMITS, id="other scores on the same side"),
        pytest.param(
            [(scored(0.1, seconds=9.0), scored(0.1))] * 20, LIMITS, id="slow, which the comparison judges"
        ),
        pytest.param([(labelled('"a"'), labelled('"b"'))] * 20, LIMITS, id="labels, where nobody asked"),
        pytest.param(
            [(scored(0.1, 0.2, one_per_row=False), scored(0.1))] * 20,
            PreflightLimits(any_length=True),
            id="any length",
        ),
        pytest.param(
            [(scored(0.1, 0.2, one_per_row=False), scored(0.1))] * 19
            + [(scored(0.1), scored(0.1, 0.2, one_per_row=False))],
            LIMITS,
            id="production's lengths are odd, too",
        ),
        pytest.param([(TakenRequest(fault=False), scored(0.3))] * 20, LIMITS, id="what could not be read"),
    ],
)
def test_a_canary_may_differ(
    pairs: Sequence[tuple[TakenRequest, TakenRequest]], limits: PreflightLimits
) -> None:
    assert judge(of(*pairs), limits).verdict is PASS


@pytest.mark.parametrize(
    ("version", "production", "differs"),
    [
        ([0.1, 0.9], [0.1, 0.9], False),
        ([0.1, 0.2, 0.7], [0.1, 0.9], True),
        ({"a": 1}, {"a": 1.5}, False),
        ({"a": 1, "b": 1}, {"a": 1}, True),
        (1, 0.5, False),
        (True, 1, True),
        ("0.5", 0.5, True),
        (None, 0.5, False),
        (0.5, None, False),
    ],
)
def test_a_type_is_what_a_callers_code_would_notice(
    version: object, production: object, *, differs: bool
) -> None:
    both = [
        TakenRequest(False, reading=read_answer(json.dumps({"predictions": [one]}).encode(), None))
        for one in (version, production)
    ]

    assert bool(of(*[(both[0], both[1])] * 20).other_kinds) is differs


def test_lists_whose_lengths_vary_anyway_are_of_one_type() -> None:
    def hits(number: int) -> TakenRequest:
        return TakenRequest(False, reading=AnswerReading(frozenset((Kind("list", number),))))

    assert of((hits(3), hits(1)), (hits(4), hits(2))).other_kinds == []
    assert of((hits(3), hits(2)), (hits(3), hits(2))).other_kinds == ["list"]


def test_objects_whose_keys_vary_anyway_are_of_one_type() -> None:
    def of_keys(*keys: str) -> TakenRequest:
        body = json.dumps({"predictions": [dict.fromkeys(keys, 1)]}).encode()
        return TakenRequest(fault=False, reading=read_answer(body, None))

    assert of((of_keys("u1"), of_keys("u2")), (of_keys("u3"), of_keys("u4"))).other_kinds == []
    assert of((of_keys("a"), of_keys("b")), (of_keys("a"), of_keys("b"))).other_kinds == ["object"]


def test_objects_are_of_one_type_by_their_keys_in_any_order() -> None:
    def kinds(document: str) -> frozenset[Kind]:
        return read_answer(document.encode(), None).kinds

    assert kinds('{"predictions": [{"a": 1, "b": 2}]}') == kinds('{"predictions": [{"b": 1, "a": 2}]}')
    assert kinds('{"predictions": [{"ab": 1, "c": 2}]}') != kinds('{"predictions": [{"a": 1, "bc": 2}]}')
    assert len(kinds('{"predictions": [{"\\ud800": NaN}, {"\\ud801": NaN}]}')) == 2, "in no UTF-8"


def test_little_is_kept_of_answers_that_are_large_and_of_a_type_of_their_own() -> None:
    def made_up(number: int) -> TakenRequest:
        objects = [{f"{number}-{item}-{key}": 1 for key in range(100)} for item in range(20)]
        body = json.dumps({"predictions": objects}).encode()
        return TakenRequest(False, reading=read_answer(body, None))

    evidence = of(*[(made_up(number), made_up(-number)) for number in range(1, 21)])

    assert len(pickle.dumps(evidence)) < 10_000, "of two times 600 KB"
    assert evidence.requests == 20
    assert evidence.other_kinds == []


def test_after_fifty_types_of_either_no_other_one_is_looked_for() -> None:
    """Else the types of one would lack in those of the other that were looked at no more."""

    def hits(number: int) -> TakenRequest:
        return TakenRequest(False, reading=AnswerReading(frozenset((Kind("list", number),))))

    for both in ([(hits(n), hits(1)) for n in range(50)], [(hits(1), hits(n)) for n in range(50)]):
        evidence = of(*both, (labelled('"a"'), labelled('"b"')))
        assert {kind.name for kind in evidence.kinds | evidence.production_kinds} == {"list"}
        assert evidence.labelled == 1, "what is compared by itself still is"


@given(
    st.lists(
        st.lists(
            st.tuples(st.none() | st.floats(-1e6, 1e6), st.none() | st.floats(-1e6, 1e6)),
            min_size=1,
            max_size=5,
        ),
        max_size=30,
    ),
    st.floats(-10, 10),
)
def test_the_same_answers_never_flip_and_shares_stay_shares(
    requests: list[list[tuple[float | None, float | None]]], cut_off: float
) -> None:
    same = of(*[(scored(*[v for v, _ in rows]),) * 2 for rows in requests], cut_off=cut_off)
    other = of(
        *[(scored(*[v for v, _ in rows]), scored(*[p for _, p in rows])) for rows in requests],
        cut_off=cut_off,
    )

    assert same.flips in (None, 0.0)
    assert same.largest_difference == 0.0
    assert other.flips is None or 0.0 <= other.flips <= 1.0 + 1e-9
    assert judge(same, LIMITS).verdict in (PASS, NOT_ENOUGH)


def test_requests_count_alike_whatever_their_rows() -> None:
    evidence = of((scored(*[0.9] * 99), scored(*[0.1] * 99)), *[GOOD] * 9)

    assert evidence.flips == pytest.approx(0.1)
    assert evidence.mean_difference == pytest.approx(0.08)
    assert evidence.largest_difference == pytest.approx(0.8)


def test_what_is_shown_are_figures() -> None:
    evidence = of(*[(scored(0.4, seconds=0.004), scored(0.3, seconds=0.002))] * 20)
    shown = PreflightReport.of(judge(evidence, LIMITS), evidence, 7, 2.3456).to_json()

    assert shown == {
        "verdict": "pass",
        "why": "it answered 20 of the last requests as it should",
        "production": 7,
        "seconds": 2.346,
        "requests": 20,
        "faults_alone": 0,
        "production_faults_alone": 0,
        "flips": 0.0,
        "agreement": None,
        "mean_difference": 0.1,
        "largest_difference": 0.1,
        "latency_ratio": 2.0,
    }


FIRST, SECOND, NAMED = ScoreSpec(), ScoreSpec(1), ScoreSpec("p")


@pytest.mark.parametrize(
    ("document", "output", "scores"),
    [
        ({"predictions": [0.1, 2]}, None, (0.1, 2.0)),
        ({"predictions": [0.1, None]}, FIRST, (0.1, None)),
        ({"predictions": [[0.1, 0.9], [0.2, 0.8]]}, SECOND, (0.9, 0.8)),
        ({"predictions": [{"x": 1, "p": 0.4}]}, NAMED, (0.4,)),
        ({"predictions": [{"x": 1, "p": 0.4}]}, SECOND, (0.4,)),
        ({"predictions": {"x": [1, 2], "p": [0.4, 0.5]}}, NAMED, (0.4, 0.5)),
        ({"predictions": 0.7}, FIRST, (0.7,)),
        ({"predictions": [{"x": 1}]}, NAMED, ()),
        ({"predictions": [[0.1]]}, SECOND, ()),
        ({"predictions": [10**400]}, FIRST, (None,)),
        (
            {"outputs": [{"name": "p", "datatype": "FP64", "shape": [2, 2], "data": [0.1, 0.9, 0.2, 0.8]}]},
            SECOND,
            (0.9, 0.8),
        ),
        (
            {
                "outputs": [
                    {"name": "x", "datatype": "INT64", "shape": [1], "data": [7]},
                    {"name": "p", "datatype": "FP64", "shape": [1], "data": [0.25]},
                ]
            },
            NAMED,
            (0.25,),
        ),
    ],
)
def test_scores_are_the_output_that_is_counted(
    document: object, output: OutputSpec | None, scores: tuple[float | None, ...]
) -> None:
    assert read_answer(json.dumps(document).encode(), output).scores == scores


def test_labels_are_texts_truths_and_what_is_counted_as_classes() -> None:
    assert read_answer(b'{"predictions": ["ham", "spam"]}', None).labels == ('"ham"', '"spam"')
    assert read_answer(b'{"predictions": [true]}', FIRST).labels == ("true",)
    assert read_answer(b'{"predictions": [3, 4]}', ClassSpec(0, ("3", "4"))).labels == ("3", "4")
    assert read_answer(b'{"predictions": [[1], [2]]}', ClassSpec(0, ("3",))).labels == ("1", "2")


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[" * 200_000, b'{"predictions": [' + b"1," * MOST_BYTES + b"1]}"]
)
def test_what_can_not_be_read_is_not(body: bytes) -> None:
    assert read_answer(body, None) == NOTHING_READ


def test_mlflows_literals_are_read() -> None:
    assert read_answer(b'{"predictions": [NaN, 0.5, Infinity]}', FIRST).scores == (None, 0.5, None)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_whatever_an_answer_is_it_reads_as_it_does_again(predictions: object) -> None:
    body = json.dumps({"predictions": predictions}).encode()

    for output in (None, SECOND, NAMED, ClassSpec("p", ("a",))):
        read = read_answer(body, output)
        assert read == read_answer(body, output)
        assert not (read.scores and read.labels)
        assert judge(of(*[(TakenRequest(False, reading=read),) * 2] * 20), LIMITS).verdict is PASS


def test_the_same_datatypes_of_tensors_are_one_type_and_names_that_a_version_makes_up_are_not_shown() -> None:
    def tensor(datatype: str) -> TakenRequest:
        document = {"outputs": [{"name": "p", "datatype": datatype, "shape": [1], "data": [1]}]}
        return TakenRequest(False, reading=read_answer(json.dumps(document).encode(), None))

    assert of((tensor("FP64"), tensor("FP64"))).other_kinds == []
    assert of((tensor("INT64"), tensor("FP64"))).other_kinds == ["INT64"]
    assert of((tensor("a marker"), tensor("FP64"))).other_kinds == ["tensor"]


def test_more_faults_never_turn_a_fail_into_a_pass() -> None:
    verdicts = [judge(of(*[(FAULT, scored(0.3))] * n, *[GOOD] * (50 - n)), LIMITS).verdict for n in range(51)]

    assert all(after is FAIL for before, after in pairwise(verdicts) if before is FAIL)
