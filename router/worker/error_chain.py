"""An error and what it was raised from: libraries wrap what a version did."""

from collections.abc import Iterator


def chain(error: BaseException | None, most: int = 8) -> Iterator[BaseException]:
    """`error`, then what each was raised from, `most` of them; nothing for None."""
    for _ in range(most):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
