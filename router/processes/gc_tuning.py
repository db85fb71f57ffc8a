"""The garbage collector of processes that live long: the gateway, the fork server and its children."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


def freeze_heap() -> None:
    """Take all that lives now out of the collector's sight, for good: looking at it takes over 100 ms."""
    gc.collect()
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
