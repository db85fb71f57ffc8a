"""Processor time of the processes that hold a version, by what they did with it. Pure."""

from dataclasses import dataclass

PHASES = ("load", "warmup", "predict", "other")
"""Loading; warming up; inside the version's predict; and all else: reading requests, writing answers,
repeated predicts that show whether requests may share them, and threads of the version's own."""


@dataclass(slots=True)
class ProcessorTime:
    """Seconds of a processor, in user and system mode, by phase. It only grows.

    Of the process itself and all its threads. What a version's own child processes take, or a GPU, is not in
    it, nor are loads that failed.
    """

    load: float = 0.0
    warmup: float = 0.0
    predict: float = 0.0
    other: float = 0.0

    def add(self, one: "ProcessorTime") -> None:
        """Add what another process took."""
        self.load += one.load
        self.warmup += one.warmup
        self.predict += one.predict
        self.other += one.other

    def answered(self, predict: float, whole: float) -> None:
        """A predict took `predict`; `whole` is what its process took since it last answered."""
        self.predict += predict
        self.other += max(0.0, whole - predict)

    def by_phase(self) -> dict[str, float]:
        """In the order of `PHASES`."""
        return {phase: getattr(self, phase) for phase in PHASES}
