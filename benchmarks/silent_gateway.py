"""The gateway without metrics, scores and comparison: `python -m benchmarks.silent_gateway serve -c FILE`.

To see what they cost: nothing in the product switches them off. Events are made here, too, for the log;
nobody counts them.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from router.adapters.prometheus.live import Live
from router.app.build import Instruments
from router.cli.serve import run_gateway
from router.core.events import Event


class NoMetrics:
    """In the place of what counts."""

    def watch(self, live: Callable[[], Live]) -> None:
        """Nobody scrapes."""

    def record(self, event: Event) -> None:
        """Forget it."""

    def render(self, accept: str = "", names: Sequence[str] = ()) -> tuple[bytes, str]:
        """An empty exposition."""
        return b"", "text/plain"


@click.command()
@click.argument("command", type=click.Choice(["serve"]))
@click.option("-c", "--config", type=click.Path(path_type=Path), required=True)
def main(command: str, config: Path) -> None:
    """Serve as `canary-router serve` does; whatever versions answer, no score is counted."""
    silent = Instruments(NoMetrics(), compares=False, preload=("benchmarks.no_scores",))
    sys.exit(run_gateway(config, {}, silent))


if __name__ == "__main__":
    main()
