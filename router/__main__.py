"""The `canary-router` command: the console script, and `python -m router`."""

from router import off_signal


def main() -> None:
    """Run the command line."""
    off_signal.catch()  # before click and all else is imported
    from router.cli import main as run

    run()


if __name__ == "__main__":
    main()
