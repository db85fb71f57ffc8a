"""CSV requests that came together, read at once: pandas takes as long for one line as for a hundred."""

from collections.abc import Iterator, Sequence

from router.core.work import Query, ScoringProtocol
from router.worker.csv import LARGEST_BODY, CsvLines, PlainCsv, stacked
from router.worker.request_decoder import Prepared, Preparer

MOST_BYTES = 1 << 19
"""Of a body that is read for several requests: so few cells are read in one piece, while pieces of more have
types of their own."""
_CSV = "text/csv"

_Placed = tuple[int, CsvLines]


class Stacking:
    """Puts the lines of CSV requests to one version below each other, where that changes none of them."""

    def __init__(self, preparer: Preparer) -> None:
        self._preparer = preparer
        metadata = preparer.metadata
        hinted = metadata._is_signature_from_type_hint() or metadata._is_type_hint_from_example()  # noqa: SLF001 - MLflow asks so itself
        self._plain = None if hinted else PlainCsv.of(metadata.get_input_schema())

    def prepare(self, queries: Sequence[Query]) -> dict[int, Prepared]:
        """Those requests, by place, that were read with others; others are to be read alone. Never raises."""
        prepared: dict[int, Prepared] = {}
        if self._plain is not None and len(queries) > 1:
            for content_type, stack in self._stacks(queries, self._plain):
                prepared.update(self._read(content_type, stack))
        return prepared

    def _stacks(self, queries: Sequence[Query], plain: PlainCsv) -> Iterator[tuple[str, list[_Placed]]]:
        alike: dict[tuple[str, bytes], list[int]] = {}
        for place, query in enumerate(queries):
            if (content_type := _csv_type(query)) is not None and len(query.body) <= LARGEST_BODY:
                header = query.body.partition(b"\n")[0]
                alike.setdefault((content_type, header), []).append(place)
        for (content_type, _), places in alike.items():
            stack: list[_Placed] = []
            size = 0
            for place in places if len(places) > 1 else ():
                query = queries[place]
                if (lines := plain.lines(query.body)) is None or lines.rows > (query.max_rows or lines.rows):
                    continue
                if size + len(query.body) > MOST_BYTES:
                    yield content_type, stack
                    stack, size = [], 0
                stack.append((place, lines))
                size += len(query.body)
            yield content_type, stack

    def _read(self, content_type: str, stack: list[_Placed]) -> dict[int, Prepared]:
        if len(stack) < 2:
            return {}
        body = stacked(lines for _, lines in stack)
        try:
            whole = self._preparer.prepare(Query(body, content_type))
        except Exception:  # noqa: BLE001 - read alone, each is told what is wrong with its own
            return {}
        if not isinstance(whole, Prepared) or whole.key is None:
            return {}
        if whole.rows != sum(lines.rows for _, lines in stack):
            return {}
        data, params = whole.data, whole.params
        return {
            place: Prepared(lines.rows, whole.key, None, data, params, stacked=True) for place, lines in stack
        }


def _csv_type(query: Query) -> str | None:
    told = query.content_type
    is_csv = query.protocol is ScoringProtocol.MLFLOW and told is not None and told.startswith(_CSV)
    return told if is_csv else None
