"""Takes all the processor time it gets until its parent ends: a busy neighbour, as P16 needs one."""

import os

_STEPS = 100_000
"""Between two looks at the parent, a few milliseconds apart."""


def main() -> None:
    """As the module says."""
    parent = os.getppid()
    while os.getppid() == parent:
        for _ in range(_STEPS):
            pass


if __name__ == "__main__":
    main()
