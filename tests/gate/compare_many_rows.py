"""A process of its own that compares two versions on many rows, and says how much memory and time it took.

`python -m tests.gate.compare_many_rows write FILE ROWS` writes the rows, `… compare FILE METRIC` reads them.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FEATURES = 10
_WRITTEN_AT_ONCE = 100_000


def write(path: Path, rows: int) -> None:
    """Rows in groups of about five, some features, a label, and what both versions will answer."""
    drawn = np.random.default_rng(1)
    writer = None
    for start in range(0, rows, _WRITTEN_AT_ONCE):
        count = min(_WRITTEN_AT_ONCE, rows - start)
        risk = drawn.normal(size=count)
        columns = {f"feature_{place}": drawn.normal(size=count) for place in range(FEATURES)}
        columns |= {
            "customer": np.asarray([f"customer-{one:09}" for one in drawn.integers(0, rows // 5, count)])
        }
        columns |= {"churned": (risk + drawn.normal(size=count) > 0.5).astype(int)}
        for version, noise in (("candidate", 0.5), ("production", 0.6)):
            columns[version] = 1 / (1 + np.exp(-risk - noise * drawn.normal(size=count)))
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def compare_versions(path: Path, name: str) -> None:
    """Print as JSON: rows, groups, notes, the interval, seconds, and the most memory in MiB."""
    from router.gate.comparison import compare
    from router.gate.data import open_holdout
    from router.gate.named_metrics import Needs, metric_of

    began_at = time.monotonic()
    metric = metric_of(name)
    cut_off = 0.5 if metric.needs is Needs.LABELS else None
    holdout = open_holdout(path, metric, "churned", group="customer", cut_off=cut_off)
    kept = holdout.kept_rows()
    for chunk in holdout.chunks():
        answers = (chunk.features[version].tolist() for version in ("candidate", "production"))
        kept.add(chunk.targets, chunk.groups, *answers)
    holdout.digest()
    found = compare(metric, kept.paired())
    # Not ru_maxrss, which a process inherits of the one that started it.
    peak = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    document = {"rows": found.rows, "groups": found.groups, "notes": found.notes, "low": found.low}
    document |= {"seconds": time.monotonic() - began_at, "mib": int(peak.split()[1]) / 1024}
    sys.stdout.write(json.dumps(document))


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        compare_versions(Path(sys.argv[2]), sys.argv[3])
