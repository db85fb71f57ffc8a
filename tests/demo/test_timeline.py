"""What was in force when, as answers show it. Values are version numbers, times are seconds."""

from router.demo.timeline import Timeline


def _right(timeline: Timeline[int], value: int, sent: float, received: float) -> bool:
    return timeline.explanation(sent, received, lambda one: one == value) is not None


def test_until_an_answer_shows_the_move_both_versions_are_right() -> None:
    timeline = Timeline(1)
    timeline.ask(2, not_before=10.0)

    assert _right(timeline, 1, sent=11.0, received=11.1)
    assert timeline.latest.shown_at is None


def test_the_first_answer_by_the_new_version_is_when_the_move_took_effect() -> None:
    timeline = Timeline(1)
    timeline.ask(2, not_before=10.0)

    assert _right(timeline, 2, sent=11.0, received=11.1)
    assert timeline.latest.shown_at == 11.1


def test_once_shown_the_old_version_is_wrong_for_requests_sent_later() -> None:
    timeline = Timeline(1)
    timeline.ask(2, not_before=10.0)
    _right(timeline, 2, sent=11.0, received=11.1)

    assert _right(timeline, 1, sent=11.05, received=11.2), "it was under way when the move was seen"
    assert not _right(timeline, 1, sent=11.15, received=11.2)


def test_a_version_that_nobody_asked_for_yet_is_wrong() -> None:
    timeline = Timeline(1)
    timeline.ask(2, not_before=10.0)

    assert not _right(timeline, 2, sent=9.0, received=9.9)
    assert not _right(timeline, 3, sent=11.0, received=11.1)


def test_a_rollback_is_shown_by_its_own_answer_not_by_one_from_before_the_promotion() -> None:
    timeline = Timeline(1)
    timeline.ask(2, not_before=10.0)
    _right(timeline, 2, sent=11.0, received=11.1)
    timeline.ask(1, not_before=20.0)

    assert _right(timeline, 2, sent=20.5, received=20.6)
    assert timeline.latest.shown_at is None
    assert _right(timeline, 1, sent=21.0, received=21.1)
    assert timeline.latest.shown_at == 21.1
    assert not _right(timeline, 2, sent=21.2, received=21.3)


def test_asking_again_for_the_latest_value_changes_nothing() -> None:
    timeline = Timeline(1)
    timeline.ask(1, not_before=10.0)

    assert timeline.latest.asked_at < 0
