"""The demo's directory: one place for the registry, the configuration, the cache and the logs."""

import asyncio
import fcntl
import hashlib
import json
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from router.demo.dataset import Dataset
from router.demo.gateway_process import clean_environment, training
from router.errors import RouterError

ALIASES = {"production": 1, "canary": 2}
"""The version each alias names when the demo starts."""

EXPERIMENT = "canary-router demo"
"""MLflow's, of the runs that train the versions."""
_MARK = ".canary-router-demo"

_HEAD = """\
# Written by `canary-router demo`, and again at its every start. Change a percentage and watch.
server:
  listen: 127.0.0.1:{listen}
  admin: 127.0.0.1:{admin}
  state_dir: {state}
registry:
  uri: {registry_uri}
  poll_seconds: 1
  cache_dir: {cache}
models:
"""
_SENTIMENT = """\
  sentiment:
    split: {{production: {sentiment_rest}, canary: {sentiment}}}
    key: {{header: X-Request-Key}}
    scores: {{output: 0, range: [0, 1], bins: 20}}
"""
_CHURN = """\
  churn_predictor:
    split: {{production: {churn_predictor_rest}, canary: {churn_predictor}}}
    key: {{header: X-Request-Key}}
    scores: {{output: 1, range: [0, 1], bins: 20}}  # the probability of churn
"""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Which models a demo serves, and where they come from."""

    model: str
    """The one whose rollout is the story."""
    starting_split: Mapping[str, int]
    """Percent of the keys that the canary has when the demo starts, by registered model."""
    config: str
    """The gateway's configuration, with fields to be filled in."""
    training: str
    """The module that trains and registers the versions, in a process of its own."""
    beginning: str
    """What is trained, for people."""
    ready_seconds: float = 120.0
    """A first start on a slow machine reads a few hundred megabytes of libraries from disk."""
    own_environments: bool = False


TWO_MODELS = Scenario(
    "sentiment",
    {"sentiment": 5, "churn_predictor": 10},
    _HEAD + _SENTIMENT + _CHURN,
    "router.demo.train",
    "training two versions of two models, once",
)
OWN_ENVIRONMENTS = Scenario(
    "churn_predictor",
    {"churn_predictor": 5},
    _HEAD + _CHURN + "    environment: own  # each version has the libraries that it was logged with\n",
    "router.demo.train_environments",
    "building two Python environments, and training a version in each, once; this may take some minutes",
    ready_seconds=900.0,
    own_environments=True,
)
OWN_STORY_SECONDS = 20.0
"""How long its story is, unless somebody says otherwise."""


class DirectoryRefused(RouterError):
    """The directory holds something else, or another demo runs in it."""


class SeedFailed(RouterError):
    """The versions could not be trained, logged or registered."""


class Workspace:
    """The demo's directory `root`, which is absolute, and the paths below it."""

    def __init__(self, root: Path, scenario: Scenario = TWO_MODELS) -> None:
        self.root = root
        self.scenario = scenario
        self.cache = root / "cache"
        """The gateway's copies of versions, and their environments."""
        self.registry = root / "registry"
        """Database, artifacts and what is known of them; removed whole when it is not whole."""
        self.registry_uri = f"sqlite:///{self.registry / 'mlflow.db'}"
        self.seeded_file = self.registry / "seeded.json"
        """What the registry holds, written when it is whole."""
        self.seed_log = root / "seed.log"
        """What MLflow wrote while the versions were trained."""
        self.config_file = root / "router.yaml"
        self.gateway_log = root / "gateway.log"
        self.state = root / "state"
        """The gateway's state directory: its caps and its journal."""

    def note_seeded(self, datasets: Sequence[Dataset]) -> None:
        """The registry is whole. To be written last: without it the next start makes a new one."""
        document = {"recipe": _recipe_digest(self), "datasets": [asdict(one) for one in datasets]}
        self.seeded_file.write_text(json.dumps(document), encoding="utf-8")

    def forget_state(self) -> None:
        """Remove caps and journal of the last demo's gateway: this one begins a story of its own."""
        shutil.rmtree(self.state, ignore_errors=True)

    def write_config(self, listen: int, admin: int) -> None:
        """Write the gateway's configuration as the demo starts it, on these ports of 127.0.0.1."""
        split = self.scenario.starting_split
        text = self.scenario.config.format(
            listen=listen,
            admin=admin,
            registry_uri=_quoted(self.registry_uri),
            cache=_quoted(str(self.cache)),
            state=_quoted(str(self.state)),
            **split,
            **{f"{model}_rest": 100 - percent for model, percent in split.items()},
        )
        self.config_file.write_text(text, encoding="utf-8")


def seeded(place: Workspace) -> dict[str, Dataset] | None:
    """What the registry in `place` holds, or None when it is not there, not whole, or of another recipe."""
    try:
        document = json.loads(place.seeded_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if document["recipe"] != _recipe_digest(place):
        return None
    return {one["model"]: Dataset.from_json(one) for one in document["datasets"]}


async def seed(place: Workspace, say: Callable[[str], None]) -> dict[str, Dataset]:
    """Make the registry anew, in a child process that ends with this call. Raises SeedFailed."""
    with place.seed_log.open("wb") as log:
        async with training(
            place.scenario.training,
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


def _recipe_digest(place: Workspace) -> str:
    """Changes when the registry must be made anew: other code, data or libraries, or a moved directory."""
    digest = hashlib.sha256(str(place.registry).encode())
    for library in ("mlflow", "scikit-learn", "numpy"):
        digest.update(version(library).encode())
    for pattern in ("train*.py", "dataset.py", "workspace.py", "*/*_model.py", "data/*.jsonl"):
        for source in sorted(Path(__file__).parent.glob(pattern)):
            digest.update(source.read_bytes())
    return digest.hexdigest()


@contextmanager
def workspace(directory: Path, scenario: Scenario = TWO_MODELS) -> Iterator[Workspace]:
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
        yield Workspace(root, scenario)


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
