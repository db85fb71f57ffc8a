"""`python -m router` is the `canary-router` command."""

from router.cli import main

if __name__ == "__main__":
    main()
