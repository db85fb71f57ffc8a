"""The demo: really trained versions, a gateway, traffic, and a check of every single answer."""

from pathlib import Path


def run(directory: Path, seconds: float | None) -> int:
    """Run the demo in `directory`; returns the exit code.

    With `seconds` the story tells itself in about that long, and the code is 0 only if every answer was
    right and every step took effect. Without, traffic flows until Ctrl-C.
    """
    # MLflow's client takes over a second to import; `import router.demo` need not.
    from router.demo.show import run as show

    return show(directory, seconds)
