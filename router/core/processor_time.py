"""Processor time of the processes that hold a version, by what they did with it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field

PHASES = ("load", "warmup", "predict", "preflight", "shadow", "other")
"""Loading; warming up; inside the version's predict, for callers, for a pre-flight and for shadows; and all
else: reading requests, writing answers, repeated predicts that show whether requests may share them, and
threads of the version's own."""


@dataclass(slots=True)
class ProcessorTime:
    """Seconds of a processor, in user and system mode, by phase. It only grows.

    Of the process itself and all its threads. What a version's own child processes take, or a GPU, is not in
    it, nor are loads that failed.
    """

    load: float = 0.0
    warmup: float = 0.0
    predict: float = 0.0
    preflight: float = 0.0
    shadow: float = 0.0
    other: float = 0.0
    _predict_before: float = field(default=0.0, init=False, repr=False, compare=False)
    """`predict` without the last one."""

    def add(self, one: "ProcessorTime") -> None:
        """Add what another process took."""
        self.load += one.load
        self.warmup += one.warmup
        self.predict += one.predict
        self.preflight += one.preflight
        self.shadow += one.shadow
        self.other += one.other

    def answered(self, predict: float, whole: float) -> None:
        """A predict took `predict`; `whole` is what its process took since it last answered."""
        self._predict_before = self.predict
        self.predict += predict
        self.other += max(0.0, whole - predict)

    def was_preflight(self, predict: float) -> None:
        """The predict of `predict` seconds that was just counted was for nobody's request."""
        self.predict = self._predict_before  # by a subtraction it might be less than it was
        self.preflight += predict

    def shadowed(self, predict: float, whole: float) -> None:
        """As `answered`, of a predict for a shadow."""
        self.shadow += predict
        self.other += max(0.0, whole - predict)

    def by_phase(self) -> dict[str, float]:
        """In the order of `PHASES`."""
        return {phase: getattr(self, phase) for phase in PHASES}


class WorkersTime:
    """What workers that come and go took together; it never goes back, not by a rounding.

    The order in which floats are added changes their sum, and whoever reads a counter takes one that went
    back for one that began anew.
    """

    def __init__(self) -> None:
        self._ended = ProcessorTime()
        self._most = ProcessorTime()
        """The most that was said so far, by phase."""

    def ended(self, one: ProcessorTime) -> None:
        """A worker has ended; from now on it is not among those alive."""
        self._ended.add(one)

    def with_alive(self, alive: Iterable[ProcessorTime]) -> ProcessorTime:
        """Of all that ever were, those that are alive among them."""
        total = ProcessorTime()
        total.add(self._ended)
        for one in alive:
            total.add(one)
        said = self._most.by_phase()
        self._most = ProcessorTime(
            **{phase: max(seconds, said[phase]) for phase, seconds in total.by_phase().items()}
        )
        return self._most
