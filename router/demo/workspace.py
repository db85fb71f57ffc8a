"""The demo's directory: one place for the registry, the configuration, the cache and the logs."""

import asyncio
import fcntl
import hashlib
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from router.demo.dataset import Dataset
from router.demo.gateway_process import clean_environment, training
from router.errors import RouterError

POLL_SECONDS = 1.0
STARTING_SPLIT = {"sentiment": 5, "churn_predictor": 10}
"""Percent of the keys that the canary has when the demo starts."""
ALIASES = {"production": 1, "canary": 2}
"""The version each alias names when the demo starts."""

_MARK = ".canary-router-demo"

_CONFIG = """\
# Written by `canary-router demo`, and again at its every start. Change a percentage and watch.
server:
  listen: 127.0.0.1:{listen}
  admin: 127.0.0.1:{admin}
registry:
  uri: {registry_uri}
  poll_seconds: {poll_seconds:g}
  cache_dir: {cache}
models:
  sentiment:
    split: {{production: {sentiment_rest}, canary: {sentiment}}}
    key: {{header: X-Request-Key}}
    scores: {{output: 0, range: [0, 1], bins: 20}}
  churn_predictor:
    split: {{production: {churn_rest}, canary: {churn}}}
    key: {{header: X-Request-Key}}
    scores: {{output: 1, range: [0, 1], bins: 20}}  # the probability of churn
"""


class DirectoryRefused(RouterError):
    """The directory holds something else, or another demo runs in it."""


class SeedFailed(RouterError):
    """The versions could not be trained, logged or registered."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Paths below the demo's directory, which is absolute, and what they hold."""

    root: Path

    @property
    def registry(self) -> Path:
        """Database, artifacts and what is known of them; thrown away whole when it is not whole."""
        return self.root / "registry"

    @property
    def registry_uri(self) -> str:
        """What MLflow calls the registry."""
        return f"sqlite:///{self.registry / 'mlflow.db'}"

    @property
    def seeded_file(self) -> Path:
        """What the registry holds, written when it is whole."""
        return self.registry / "seeded.json"

    @property
    def config_file(self) -> Path:
        """The gateway's configuration."""
        return self.root / "router.yaml"

    @property
    def gateway_log(self) -> Path:
        """What the gateway wrote."""
        return self.root / "gateway.log"

    @property
    def seed_log(self) -> Path:
        """What MLflow wrote while the versions were trained."""
        return self.root / "seed.log"

    def write_config(self, listen: int, admin: int) -> None:
        """The gateway's configuration as the demo starts it, on these ports of 127.0.0.1."""
        sentiment, churn = STARTING_SPLIT["sentiment"], STARTING_SPLIT["churn_predictor"]
        text = _CONFIG.format(
            listen=listen,
            admin=admin,
            registry_uri=_quoted(self.registry_uri),
            poll_seconds=POLL_SECONDS,
            cache=_quoted(str(self.root / "cache")),
            sentiment=sentiment,
            sentiment_rest=100 - sentiment,
            churn=churn,
            churn_rest=100 - churn,
        )
        self.config_file.write_text(text, encoding="utf-8")


def seeded(place: Workspace) -> dict[str, Dataset] | None:
    """What the registry in `place` holds, or None when it is not there, not whole, or of another recipe."""
    try:
        document = json.loads(place.seeded_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if document["recipe"] != recipe_digest(place):
        return None
    return {one["model"]: Dataset.from_json(one) for one in document["datasets"]}


async def seed(place: Workspace, say: Callable[[str], None]) -> dict[str, Dataset]:
    """Make the registry anew, in a child process that ends with this call. Raises SeedFailed."""
    with place.seed_log.open("wb") as log:
        async with training(
            str(place.root),
            environment=clean_environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        ) as process:
            assert process.stdout is not None
            async for line in process.stdout:
                say(line.decode().rstrip())
            if code := await process.wait():
                raise SeedFailed(f"training ended with code {code}; see {place.seed_log}")
    if (made := seeded(place)) is None:
        raise SeedFailed(f"the registry is not whole after seeding; see {place.seed_log}")
    return made


def recipe_digest(place: Workspace) -> str:
    """Changes when the registry must be made anew: other code, data or libraries, or a moved directory."""
    digest = hashlib.sha256(str(place.registry).encode())
    for library in ("mlflow", "scikit-learn", "numpy"):
        digest.update(version(library).encode())
    for pattern in ("train.py", "dataset.py", "workspace.py", "*/*_model.py", "data/*.jsonl"):
        for source in sorted(Path(__file__).parent.glob(pattern)):
            digest.update(source.read_bytes())
    return digest.hexdigest()


@contextmanager
def workspace(directory: Path) -> Iterator[Workspace]:
    """The demo's directory, ours alone while the block runs.

    Raises DirectoryRefused when it holds files that no demo wrote, or when another demo runs in it.
    """
    root = directory.absolute()
    mark = root / _MARK
    if root.exists() and not mark.exists() and any(root.iterdir()):
        raise DirectoryRefused(f"{root} is not empty and no demo of ours: name another with --directory")
    root.mkdir(parents=True, exist_ok=True)
    with mark.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DirectoryRefused(f"another demo runs in {root}") from None
        yield Workspace(root)


def free_ports(*preferred: int) -> list[int]:
    """As many free ports of 127.0.0.1 as are named: those named where they are free."""
    taken: list[socket.socket] = []
    try:
        for port in preferred:
            if (one := _bound(port) or _bound(0)) is None:
                raise DirectoryRefused("no free port on 127.0.0.1")
            taken.append(one)  # all are held until the last
        return [one.getsockname()[1] for one in taken]
    finally:
        for one in taken:
            one.close()


def _bound(port: int) -> socket.socket | None:
    one = socket.socket()
    # As the gateway will bind it: connections of a former run that linger do not count.
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        one.bind(("127.0.0.1", port))
    except OSError:
        one.close()
        return None
    return one


def _quoted(text: str) -> str:
    """A YAML single-quoted scalar."""
    return "'" + text.replace("'", "''") + "'"
