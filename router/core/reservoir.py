"""A random sample of the last items of a stream, bounded in number, in bytes and in age. Pure."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import floor, log
from random import random
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Entry(Generic[T]):
    at: float
    size: int
    item: T
    place: int
    """Where its number is in `Reservoir._numbers`."""


@dataclass(frozen=True, slots=True)
class ReservoirLimits:
    """What a reservoir holds at most."""

    items: int
    """1 or more."""
    size: int
    """Bytes of all items."""
    item_size: int
    """Bytes of one; a larger one is left out."""
    age_seconds: float
    """An item that is as old is dropped by the next `expire`."""


class Reservoir(Generic[T]):
    """Keeps about each item of the last `age_seconds` with one chance, as far as the limits allow.

    Of each item of the stream ask `passes_over`, which is all that most of them cost, and `add` it if that is
    False. While there is room every item is taken. Then one in so many, as of `items` out of all that came
    within the age, each in the place of one that is drawn.
    """

    def __init__(self, limits: ReservoirLimits, draw: Callable[[], float] = random) -> None:
        """`draw` gives numbers of [0, 1), all of them as likely."""
        self._limits = limits
        self._draw = draw
        # Not a dict, which passes over all that left it before to find its first.
        self._entries: OrderedDict[int, _Entry[T]] = OrderedDict()
        """By number, and so in the order of their age."""
        self._numbers: list[int] = []
        """Of the same entries in any order, to draw one of them."""
        self._size = 0
        self._next = 0
        self._passed = self._to_pass = 0
        """Items that were passed over since the last `add`, and how many are to be."""
        self._began: float | None = None
        """When the present stretch of `age_seconds` began; None before the first item."""
        self._before = self._since = 0
        """Items of the stretch before, and of the present one."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """Bytes of what is kept."""
        return self._size

    @property
    def oldest_at(self) -> float | None:
        """When the oldest item was added; None where there is none."""
        first = next(iter(self._entries.values()), None)
        return first.at if first is not None else None

    def __iter__(self) -> Iterator[int]:
        """The numbers of what is kept, oldest first."""
        return iter(list(self._entries))

    def get(self, number: int) -> T | None:
        """The item of that number; None when it was dropped since."""
        entry = self._entries.get(number)
        return entry.item if entry is not None else None

    def passes_over(self) -> bool:
        """Whether the next item of the stream is left out; else it is to be added."""
        if self._passed < self._to_pass:
            self._passed += 1
            return True
        return False

    def add(self, item: T, size: int, now: float) -> None:
        """Take an item of `size` bytes that came at `now`, in the place of others where there is no room."""
        self.expire(now)
        self._count(now)
        if size > min(self._limits.item_size, self._limits.size):
            self._to_pass = 0  # the next one is taken in its place
            return
        full = self._make_room(self._limits.items - 1, self._limits.size - size)
        self._entries[self._next] = _Entry(now, size, item, len(self._numbers))
        self._numbers.append(self._next)
        self._next += 1
        self._size += size
        if full or len(self) == self._limits.items:
            self._to_pass = self._drawn_gap(len(self) / self._in_window(now))

    def expire(self, now: float) -> None:
        """Drop what is too old. `now` never falls from call to call, as in `add`."""
        while (oldest := next(iter(self._entries), None)) is not None:
            if self._entries[oldest].at > now - self._limits.age_seconds:
                break
            self._drop(oldest)
            self._to_pass = 0  # there is room again

    def limit(self, limits: ReservoirLimits, now: float) -> None:
        """Other limits hold from now on."""
        self._limits, self._to_pass = limits, 0
        self.expire(now)
        for number in [n for n, entry in self._entries.items() if entry.size > limits.item_size]:
            self._drop(number)
        self._make_room(limits.items, limits.size)

    def clear(self) -> None:
        """Drop all."""
        self._entries.clear()
        self._numbers.clear()
        self._size = self._to_pass = 0

    def _make_room(self, items: int, size: int) -> bool:
        """Drop items at random until no more than so many, of so many bytes, are left; whether any was."""
        dropped = False
        while self._entries and (len(self) > items or self._size > size):
            self._drop(self._numbers[int(self._draw() * len(self))])
            dropped = True
        return dropped

    def _drop(self, number: int) -> None:
        entry, last = self._entries.pop(number), self._numbers.pop()
        self._size -= entry.size
        if last != number:
            self._numbers[entry.place] = last
            self._entries[last].place = entry.place

    def _count(self, now: float) -> None:
        """One item came, and those that were passed over before it."""
        age = self._limits.age_seconds
        if self._began is None or now - self._began >= 2 * age:
            self._began, self._before, self._since = now, 0, 0
        elif now - self._began >= age:
            self._began, self._before, self._since = self._began + age, self._since, 0
        self._since += self._passed + 1
        self._passed = 0

    def _in_window(self, now: float) -> float:
        """About how many items came within the age."""
        assert self._began is not None, "one has just come"
        of_before = 1 - (now - self._began) / self._limits.age_seconds
        return self._since + self._before * max(0.0, of_before)

    def _drawn_gap(self, chance: float) -> int:
        """How many items are passed over until the next one, where each is taken by `chance`."""
        return floor(log(1 - self._draw()) / log(1 - chance)) if chance < 1 else 0
