"""What is frozen must not keep the garbage collector from what came after it."""

import subprocess
import sys

STORY = """
import gc
from collections import deque
from router.processes.gc_tuning import freeze_heap

kept = [[] for _ in range(500_000)]
freeze_heap()

class Node:
    def __init__(self):
        self.me = self

lately, most = deque(maxlen=2000), 0
for number in range(300_000):
    lately.append(Node())
    if number % 5000 == 0:
        most = max(most, len(gc.get_objects()))
print(most)
"""


def test_garbage_beside_a_large_frozen_heap_is_collected_soon() -> None:
    """Cycles that lived for a while: without the rule 73 000 objects of them pile up here, with it 30 000."""
    done = subprocess.run([sys.executable, "-c", STORY], capture_output=True, text=True, check=True)

    assert int(done.stdout) < 50_000
