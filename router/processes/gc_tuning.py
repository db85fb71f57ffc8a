"""The garbage collector of processes that live long: the gateway, the fork server and its children."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


def freeze_heap() -> None:
    """Take all that lives now out of the collector's sight, for good: looking at it takes over 100 ms."""
    gc.collect()
    freeze_imports()


def freeze_imports() -> None:
    """The same where nothing but imports was made: their garbage, some 2 000 objects, is kept with the rest.

    To look for it among what lives takes as long as a tenth of the imports themselves.
    """
    gc.freeze()
    # A full collection waits until a quarter of what the last one saw has come on top. With what is frozen
    # among it, 100 000 objects of garbage would stay first: for hours it would look like a leak.
    gc.collect()


@contextmanager
def collector_off() -> Iterator[None]:
    """For imports: they make next to no garbage, and looking for it takes an eighth of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
