"""The demo: really trained versions, a gateway, traffic, and a check of every single answer."""

from pathlib import Path


def run(directory: Path, seconds: float | None) -> int:
    """Run the demo in `directory`; returns the exit code.

    With `seconds` every step of the story is taken in about that long, and the code is 0 only if every answer
    was right and every step took effect. Without, traffic flows until Ctrl-C.
    """
    # MLflow's client takes over a second to import; `import router.demo` need not.
    from router.demo import story

    return story.run(directory, seconds)


def send(url: str, registry_uri: str | None, seconds: float | None) -> int:
    """Send the demo's traffic to the gateway at `url` until Ctrl-C, or for `seconds`.

    The gateway has to be configured for the demo's models. They are trained and registered first, where the
    registry has none of that name. Returns the exit code: 0 when every request was answered well, 3 when no
    gateway answers.
    """
    from router.demo import traffic_only

    return traffic_only.send(url, registry_uri, seconds)
