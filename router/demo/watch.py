"""Reads what was asked for — aliases in the registry, shares in the file — and has answers judged by it."""

import asyncio
import time
from collections import deque
from pathlib import Path

from mlflow.exceptions import MlflowException
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from router.demo.answer import Answer
from router.demo.operator import Registry
from router.demo.probe import Checker

LOOK_SECONDS = 0.25


class Watch:
    """Holds answers back until it has read the registry and the file later than they came."""

    def __init__(self, registry: Registry, config_file: Path, checker: Checker) -> None:
        self._registry = registry
        self._config_file = config_file
        self._checker = checker
        self._waiting: deque[Answer] = deque()
        self._last_look = time.monotonic()
        self._going = True

    def receive(self, answer: Answer) -> None:
        """Take an answer to be judged soon."""
        self._waiting.append(answer)

    def finish(self) -> None:
        """No more answers will come."""
        self._going = False

    async def keep_looking(self) -> None:
        """Look again and again; after `finish` until every answer is judged."""
        while self._going or self._waiting:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Read what is asked for, then judge what was answered before that.

        A gateway may see a change before we do. Whatever came in before this look can only know of changes
        that this look finds; those may be as old as the look before it.
        """
        began = time.monotonic()
        try:
            aliases = {model: await self._registry.aliases(model) for model in self._checker.splits}
        except MlflowException:
            return  # locked for a moment; nothing is judged until it can be read again
        for model, percent in read_splits(self._config_file).items():
            if model in self._checker.splits:
                self._checker.splits[model].ask(percent, not_before=self._last_look)
        for (model, alias), timeline in self._checker.named.items():
            timeline.ask(aliases[model].get(alias), not_before=self._last_look)
        self._last_look = began
        while self._waiting and self._waiting[0].received <= began:
            self._checker.judge(self._waiting.popleft())


def read_splits(config_file: Path) -> dict[str, float]:
    """Percent of the canary by registered model, as the file has it; nothing when it makes no sense.

    A file that the gateway refuses changes nothing there, so it need change nothing here.
    """
    try:
        document = YAML(typ="safe").load(config_file)
        return {model: float(told["split"].get("canary", 0)) for model, told in document["models"].items()}
    except (OSError, YAMLError, LookupError, TypeError, ValueError, AttributeError):
        return {}
