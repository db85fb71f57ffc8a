"""When a canary passes, fails, or cannot be judged yet: pure statistics on counts.

No clock, no I/O, standard library only: it lives in the gateway, where each request is told to it.
"""

from router.core.evidence.evidence import Evidence, Observation
from router.core.evidence.limits import Limits
from router.core.evidence.report import Report, Verdict

__all__ = ["Evidence", "Limits", "Observation", "Report", "Verdict"]
