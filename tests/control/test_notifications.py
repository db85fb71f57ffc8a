"""What waits for a receiver: in order, bounded, and never waited for."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise

from router.control.fan_out import FanOut
from router.control.notifications import (
    GIVEN_UP_SECONDS,
    MOST_WAITING,
    RETRY_SECONDS,
    STOP_SECONDS,
    Delivery,
    Notifier,
    Outbox,
)
from router.core.ids import CANARY
from router.core.lever_events import CapLifted, CapSet
from router.core.notification import KINDS, Notification
from router.core.outbound_events import NotificationResult, NotificationTried
from tests.serving.virtual_time import run, settle
from tests.support.fakes import Facts
from tests.support.waiting import until

DELIVERED = Delivery(NotificationResult.DELIVERED)
REJECTED = Delivery(NotificationResult.REJECTED, "it answered 410 Gone")
AWAY = Delivery(NotificationResult.RETRIED, "it can not be reached: Connection refused")


def numbered(number: int) -> Notification:
    return Notification("cap_set", f"{number:032x}", 1e9, "m", f"number {number}", {"number": number})


class Receiver:
    """A courier who notes when it was asked, and ends each try as `ends` says."""

    def __init__(self, *ends: Delivery) -> None:
        self.ends = list(ends)
        """Of the next tries; when it is empty they are delivered."""
        self.tries: list[tuple[float, int]] = []
        self.silent: asyncio.Event | None = None
        """While it is not set, a try does not end."""

    async def deliver(self, notification: Notification) -> Delivery:
        self.tries.append((asyncio.get_running_loop().time(), notification.data.get("number", 0)))
        if self.silent is not None:
            await self.silent.wait()
        return self.ends.pop(0) if self.ends else DELIVERED

    @property
    def numbers(self) -> list[int]:
        return [number for _, number in self.tries]


def outbox(receiver: Receiver, facts: Facts) -> Outbox:
    return Outbox("https://ops.example.com", KINDS, receiver, facts)


def results(facts: Facts) -> list[str]:
    return [str(event.result) for event in facts.of(NotificationTried)]


def with_outbox(story: Callable[[Outbox, Receiver, Facts], Awaitable[None]], *ends: Delivery) -> None:
    """Plays `story` where time passes at once."""

    async def play() -> None:
        receiver, facts = Receiver(*ends), Facts()
        box = outbox(receiver, facts)
        box.start()
        await story(box, receiver, facts)
        await box.close(0.0)

    run(play())


def test_what_fails_is_tried_again_in_order_at_ever_longer_intervals() -> None:
    """Nothing overtakes what waits."""

    async def story(box: Outbox, receiver: Receiver, facts: Facts) -> None:
        box.put(numbered(1))
        box.put(numbered(2))
        await asyncio.sleep(2_000)
        assert receiver.numbers == [1] * 11 + [2]
        times = [at for at, _ in receiver.tries[:11]]
        assert [round(after - before, 6) for before, after in pairwise(times)] == [
            *RETRY_SECONDS,
            RETRY_SECONDS[-1],
        ]
        assert results(facts) == ["retried"] * 10 + ["delivered"] * 2

    with_outbox(story, *[AWAY] * 10)


def test_after_a_success_the_next_failure_begins_with_the_shortest_wait() -> None:
    async def story(box: Outbox, receiver: Receiver, facts: Facts) -> None:
        box.put(numbered(1))
        await asyncio.sleep(10)
        receiver.ends = [AWAY]
        box.put(numbered(2))
        await asyncio.sleep(1.01)
        assert receiver.numbers == [1, 1, 1, 2, 2]

    with_outbox(story, AWAY, AWAY)


def test_what_a_receiver_rejects_is_not_tried_again() -> None:
    async def story(box: Outbox, receiver: Receiver, facts: Facts) -> None:
        box.put(numbered(1))
        box.put(numbered(2))
        await settle()
        assert receiver.numbers == [1, 2]
        assert results(facts) == ["rejected", "delivered"]

    with_outbox(story, REJECTED)


def test_a_receiver_that_asks_for_time_is_given_it() -> None:
    async def story(box: Outbox, receiver: Receiver, facts: Facts) -> None:
        box.put(numbered(1))
        await asyncio.sleep(30)
        assert receiver.numbers == [1]
        await asyncio.sleep(2)
        assert receiver.numbers == [1, 1]

    with_outbox(story, Delivery(NotificationResult.RETRIED, "it answered 429", 30.0))


def test_what_was_not_taken_for_an_hour_is_given_up_and_what_came_later_is_not() -> None:
    async def story(box: Outbox, receiver: Receiver, facts: Facts) -> None:
        receiver.ends = [AWAY] * 1_000
        box.put(numbered(1))
        await asyncio.sleep(GIVEN_UP_SECONDS - 100)
        box.put(numbered(2))
        await asyncio.sleep(500)
        assert results(facts).count("expired") == 1
        assert box.waiting == 1
        receiver.ends.clear()
        await asyncio.sleep(RETRY_SECONDS[-1])
        assert receiver.numbers[-1] == 2
        assert box.waiting == 0

    with_outbox(story)


def test_of_more_than_a_thousand_the_oldest_goes_and_is_counted() -> None:
    """What is under way goes last of all: it may be delivered at this very moment."""

    async def story(box: Outbox, receiver: Receiver, facts: Facts) -> None:
        receiver.silent = asyncio.Event()
        for number in range(MOST_WAITING + 5):
            box.put(numbered(number))
            await asyncio.sleep(0)
        assert box.waiting == MOST_WAITING
        assert results(facts) == ["dropped"] * 5
        receiver.silent.set()
        await settle()
        await asyncio.sleep(2)
        assert receiver.numbers == [0, 0, *range(6, MOST_WAITING + 5)]

    with_outbox(story, AWAY)


def test_a_stop_tries_what_waits_at_once_and_waits_a_second_at_most() -> None:
    async def story(box: Outbox, receiver: Receiver, facts: Facts) -> None:
        box.put(numbered(1))
        await settle()  # it failed, and waits
        box.put(numbered(2))
        began = asyncio.get_running_loop().time()
        await box.close()
        assert asyncio.get_running_loop().time() == began
        assert receiver.numbers == [1, 1, 2]
        receiver.silent = asyncio.Event()

    with_outbox(story, AWAY)

    async def silent(box: Outbox, receiver: Receiver, facts: Facts) -> None:
        receiver.silent = asyncio.Event()
        for number in (1, 2, 3):
            box.put(numbered(number))
        began = asyncio.get_running_loop().time()
        await box.close()
        assert asyncio.get_running_loop().time() - began <= STOP_SECONDS + 0.001
        assert facts.events == [
            NotificationTried("https://ops.example.com", NotificationResult.DROPPED, "the gateway stopped", 3)
        ]

    with_outbox(silent)


def test_a_stop_asks_a_receiver_that_does_not_answer_once_more_and_no_more() -> None:
    async def story(box: Outbox, receiver: Receiver, facts: Facts) -> None:
        receiver.ends = [AWAY] * 10
        box.put(numbered(1))
        box.put(numbered(2))
        await settle()
        await box.close()
        assert receiver.numbers == [1, 1]
        assert results(facts) == ["retried", "retried", "dropped"]

    with_outbox(story)


async def test_whatever_a_courier_raises_the_next_try_comes_and_its_words_are_not_shown() -> None:
    """They may hold the address."""
    facts = Facts()

    class Broken(Receiver):
        async def deliver(self, notification: Notification) -> Delivery:
            await super().deliver(notification)
            raise ValueError("https://hooks.example.com/T0/B0/secret")

    box = Outbox("slack", KINDS, broken := Broken(), facts, retry_seconds=(0.001,))
    box.start()
    box.put(numbered(1))
    await until(lambda: len(broken.tries) >= 3)
    await box.close()

    assert "secret" not in repr(facts.events) + repr(box.describe())
    assert facts.of(NotificationTried)[0].why == "it could not be sent: ValueError"


@dataclass
class Line:
    """The last one of a journal."""

    head: str


async def test_a_notification_has_the_head_of_the_journal_of_its_time() -> None:
    """Whatever was written before it is sent; so a chain that was made anew is found out."""
    last = Line("3f9c")
    sent: list[Notification] = []
    taken = asyncio.Event()

    class Keeping(Receiver):
        async def deliver(self, notification: Notification) -> Delivery:
            sent.append(notification)
            taken.set()
            return DELIVERED

    notifier = Notifier([Outbox("a", KINDS, Keeping(), Facts())], last, lambda: 1e9)
    notifier.record(CapSet("m", CANARY, None, 0.0, "alice", "bad"))
    last.head = "7a11"
    notifier.start()
    await taken.wait()
    await notifier.close()

    assert [one.data["journal_head"] for one in sent] == ["3f9c"]


async def test_each_receiver_gets_what_it_wants_and_waits_for_no_other() -> None:
    """`record` returns at once, also while a receiver is silent."""
    silent, quick = Receiver(), Receiver()
    silent.silent = asyncio.Event()
    boxes = [
        Outbox("a", {"cap_set", "cap_lifted"}, silent, Facts()),
        Outbox("b", {"cap_lifted"}, quick, Facts()),
    ]
    notifier = Notifier(boxes, Line("3f9c"), lambda: 1e9)
    notifier.start()
    notifier.record(CapSet("m", CANARY, None, 0.0, "alice", "bad"))
    notifier.record(CapLifted("m", CANARY, None, "alice", "good"))
    await until(lambda: len(quick.tries) == 1)

    assert [box["waiting"] for box in notifier.describe()] == [2, 0]
    assert notifier.warnings() == []
    boxes[0].error = "it answered 500"
    assert notifier.warnings() == ["notifications do not reach a: it answered 500; 2 wait"]
    await notifier.close()


def test_a_receiver_that_is_away_is_logged_twice() -> None:
    """Down once and up once; a rejection in between is news."""
    logged, counted = Facts(), Facts()
    recorder = FanOut(counted, deduplicated=(logged,))
    ends = ["delivered", "retried", "retried", "dropped", "expired", "delivered", "rejected", "delivered"]
    for end in ends:
        recorder.record(NotificationTried("a", NotificationResult(end), ""))

    assert results(counted) == ends
    assert results(logged) == ["retried", "delivered", "rejected", "delivered"]
