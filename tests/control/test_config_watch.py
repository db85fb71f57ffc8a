"""Config watch: the configuration in force is always a whole one, and what is wrong is reported once."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from router.adapters.config.file import ConfigFile
from router.control.config_watch import ConfigWatch, Reloaded
from router.core.events import ConfigApplied, ConfigRejected, Event
from router.core.split import Split
from router.errors import ConfigRefused
from router.settings import Settings, SettingsInForce

MIB = 1 << 20
WAITS = "which moves callers between aliases; it waits for SIGHUP or POST /-/reload"


def text(canary: int, *, extra: str = "", name: str = "sentiment") -> str:
    return f"models:\n  {name}:\n    split: {{production: {100 - canary}, canary: {canary}}}\n{extra}"


@dataclass
class Facts:
    events: list[Event] = field(default_factory=list)

    def record(self, event: Event) -> None:
        self.events.append(event)

    def rejected(self) -> list[tuple[str, ...]]:
        return [event.problems for event in self.events if isinstance(event, ConfigRejected)]

    def applied(self) -> list[tuple[str, ...]]:
        return [event.changes for event in self.events if isinstance(event, ConfigApplied)]


@dataclass
class Following:
    """Follows settings by one call."""

    apply: Callable[[Settings], object]


class Desk:
    """A file, a watch on it, and everything the watch reported or applied. Sleeping runs `meanwhile`."""

    def __init__(self, path: Path, content: str | bytes) -> None:
        self.path = path
        self.facts = Facts()
        self.published: list[Settings] = []
        self.slept: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.write(content)
        source = ConfigFile(path, {}, {})
        loaded = source.parse(source.read())
        self.start = loaded.digest
        self.watch = ConfigWatch(
            source,
            self.facts,
            Following(self.published.append),
            in_force=SettingsInForce(loaded.settings),
            digest=loaded.digest,
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.meanwhile()

    def write(self, content: str | bytes) -> None:
        self.path.write_bytes(content if isinstance(content, bytes) else content.encode())

    async def after(self, content: str | bytes) -> "Desk":
        self.write(content)
        await self.watch.tick()
        return self

    @property
    def split(self) -> Split:
        return self.watch.settings.models["sentiment"].split


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "router.yaml", text(5))


async def test_a_changed_share_is_in_force_after_one_tick(desk: Desk) -> None:
    await desk.after(text(25))

    assert desk.split == Split(25_000)
    assert desk.published == [desk.watch.settings]
    assert desk.facts.events == [ConfigApplied(desk.watch.digest, ("models.sentiment.split",))]
    assert desk.watch.digest != desk.start
    assert desk.watch.error is None
    assert desk.slept == [0.25]


async def test_an_unchanged_file_is_neither_read_twice_nor_reported(desk: Desk) -> None:
    for _ in range(3):
        await desk.watch.tick()

    assert (desk.slept, desk.published, desk.facts.events) == ([], [], [])


async def test_a_change_of_comments_alone_moves_the_digest_and_publishes_nothing(desk: Desk) -> None:
    await desk.after(text(5, extra="# a note\n"))

    assert desk.published == []
    assert desk.facts.applied() == [()]
    assert desk.watch.digest != desk.start


async def test_a_file_that_still_changes_is_not_judged(desk: Desk) -> None:
    desk.meanwhile = lambda: desk.write(text(30))
    await desk.after(text(110))
    assert (desk.split, desk.facts.events) == (Split(5_000), [])

    desk.meanwhile = lambda: None
    await desk.watch.tick()
    assert desk.split == Split(30_000)


async def test_a_hundred_quick_changes_end_with_the_last_one(desk: Desk) -> None:
    """Changed once between the ticks and once within each; no two readings of a tick are equal."""
    for share in range(0, 100, 2):
        desk.meanwhile = lambda share=share: desk.write(text(share + 1))
        await desk.after(text(share))
    assert desk.split == Split(5_000)

    desk.meanwhile = lambda: None
    await desk.watch.tick()
    assert desk.split == Split(99_000)
    assert desk.facts.applied() == [("models.sentiment.split",)]


BLOCK = """\
# two models, everything else before the splits
server:
  drain_seconds: 20
models:
  sentiment:
    workers: 1
    split:
      production: {}
      canary: {}
    timeout_seconds: 30
  churn:
    key: {{header: X-Request-Key}}
    salt: churn
    split: {{production: 50, canary: 50}}
"""
FLOW = "models: {{sentiment: {{workers: 1, split: {{production: {}, canary: {}}}}}}}  # percent\n"
CANARY_FIRST = "models:\n  sentiment:\n    split:\n      canary: {1}\n      production: {0}\n    workers: 1\n"
OF_THREE = "models:\n  sentiment:\n    split:\n      production: {}\n      canary: {}\n      b: 0\n"


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize(
    "shape", [BLOCK, FLOW, CANARY_FIRST, OF_THREE], ids=["block", "flow", "turned", "three"]
)
@pytest.mark.parametrize(
    ("production", "canary"), [("75", "25"), ("0.5", "99.5"), ("100.0", "0"), ("0", "1e2")]
)
async def test_every_byte_prefix_of_a_new_file_leaves_the_old_split_or_the_new(
    tmp_path: Path, shape: str, production: str, canary: str, ending: str
) -> None:
    """Promise 17, for an editor that writes in place and stalls at every byte for as long as it likes."""
    desk = Desk(tmp_path / "router.yaml", shape.format(95, 5))
    raw = shape.format(production, canary).replace("\n", ending).encode()
    old = {name: model.split for name, model in desk.watch.settings.models.items()}
    new = {name: model.split for name, model in ConfigFile("", {}, {}).parse(raw).settings.models.items()}
    for length in range(len(raw) + 1):
        await desk.after(raw[:length])
        in_force = {name: model.split for name, model in desk.watch.settings.models.items()}
        assert in_force in (old, new), raw[:length]
        # Nor does a cut file move anybody by another salt, or by another name for a role.
        assert all(model.salt == name for name, model in desk.watch.settings.models.items())

    assert in_force == new


async def test_a_model_cut_before_its_split_waits(desk: Desk) -> None:
    """Without a split a model has the default one, which would be a third."""
    await desk.after(text(5, extra="  churn:\n    workers: 2\n"))

    assert list(desk.watch.settings.models) == ["sentiment"]
    assert desk.facts.rejected() == [(f"models.churn: added without a split of its own, {WAITS}",)]


REFUSED: dict[str, str | bytes] = {
    "invalid YAML": "models: {",
    "unknown key": text(25, extra="    splitt: {}\n"),
    "total 110": "models: {sentiment: {split: {production: 100, canary: 10}}}",
    "minus one": "models: {sentiment: {split: {production: 101, canary: -1}}}",
    "NaN": "models: {sentiment: {split: {production: 95, canary: .nan}}}",
    "a percent sign": 'models: {sentiment: {split: {production: 95, canary: "10%"}}}',
    "a key twice": text(25, extra="    split: {production: 50, canary: 50}\n"),
    "an alias bomb": "a: &a [x]\nb: &b [*a,*a]\nc: [*b,*b]\n" + text(25),
    "a python object": "models: !!python/object/apply:os._exit [3]\n",
    "nothing": "",
    "binary": b"\x7fELF\0\1\2",
    "over a mebibyte": text(25) + "#" * MIB,
}


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED)
async def test_a_refused_file_leaves_the_one_in_force_and_is_reported_once(
    desk: Desk, content: str | bytes
) -> None:
    for _ in range(3):
        await desk.after(content)

    assert desk.split == Split(5_000)
    assert (desk.watch.digest, desk.published) == (desk.start, [])
    assert len(desk.facts.events) == len(desk.facts.rejected()) == 1
    assert desk.watch.error
    assert desk.watch.error.startswith("router.yaml")

    await desk.after(text(25))
    assert desk.split == Split(25_000)
    assert desk.watch.error is None


async def test_a_hundred_megabytes_a_directory_and_nothing_are_reported_and_change_nothing(
    desk: Desk,
) -> None:
    with open(desk.path, "wb") as file:
        file.truncate(100_000_000)
    await desk.watch.tick()
    desk.path.unlink()
    await desk.watch.tick()
    desk.path.mkdir()
    await desk.watch.tick()
    await desk.watch.tick()

    assert desk.facts.rejected() == [
        ("router.yaml: is larger than 1 MiB; a configuration is not",),
        ("router.yaml: can not be read: No such file or directory",),
        ("router.yaml: can not be read: Is a directory",),
    ]
    assert (desk.split, desk.watch.digest) == (Split(5_000), desk.start)


async def test_a_file_that_comes_back_as_it_was_is_reported_as_good_again(desk: Desk) -> None:
    """Without it the gauge of a failed reload would stay up although the file is in force."""
    desk.path.unlink()
    await desk.watch.tick()
    await desk.after(text(5))

    assert desk.facts.applied() == [()]
    assert desk.watch.error is None
    assert desk.published == []


async def test_an_editor_that_replaces_the_file_is_not_reported_as_a_vanished_file(desk: Desk) -> None:
    desk.path.unlink()
    desk.meanwhile = lambda: desk.write(text(25))
    await desk.watch.tick()
    await desk.watch.tick()

    assert desk.facts.rejected() == []
    assert desk.split == Split(25_000)


async def test_a_swapped_symbolic_link_is_a_change(tmp_path: Path) -> None:
    """A mounted ConfigMap: the file, its link and its directory keep their names, and `..data` moves."""
    for name, share in (("..1", 5), ("..2", 25)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "router.yaml").write_text(text(share))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "router.yaml").symlink_to("..data/router.yaml")
    desk = Desk(tmp_path / "router.yaml", text(5))

    (tmp_path / "..data_tmp").symlink_to("..2")
    os.replace(tmp_path / "..data_tmp", tmp_path / "..data")
    await desk.watch.tick()

    assert desk.split == Split(25_000)


@pytest.mark.parametrize(
    "encode", [lambda t: t.replace("\n", "\r\n"), lambda t: "\ufeff" + t], ids=["CRLF", "BOM"]
)
async def test_what_editors_add_is_no_change(desk: Desk, encode: Callable[[str], str]) -> None:
    await desk.after(encode(text(5)))
    assert desk.facts.applied() == [()]

    await desk.after(encode(text(25)))
    assert desk.split == Split(25_000)


COLD = text(25, extra="    aliases: {canary: challenger}\nserver: {listen: 0.0.0.0:9999}\n")


@pytest.mark.parametrize("operator", [True, False])
async def test_a_cold_change_is_refused_whole_and_names_every_key(desk: Desk, operator: bool) -> None:
    desk.write(COLD)
    with pytest.raises(ConfigRefused) as refused:
        await desk.watch.reload(operator=operator)
    await desk.watch.tick()

    assert refused.value.problems == [
        "server.listen: changed, which takes a restart; the whole change is refused",
        "models.sentiment.aliases: changed, which takes a restart; the whole change is refused",
    ]
    assert desk.facts.rejected() == [tuple(refused.value.problems)]
    assert desk.split == Split(5_000)


MOVING = {
    "key": (text(25, extra="    key: {cookie: u}\n"), "models.sentiment.key: changed"),
    "salt": (text(25, extra="    salt: other\n"), "models.sentiment.salt: changed"),
    "first": (text(5, name="new") + text(25)[8:], "models: new instead of sentiment"),
}


@pytest.mark.parametrize(("content", "reported"), MOVING.values(), ids=MOVING)
async def test_a_change_that_moves_callers_waits_for_an_operator(
    desk: Desk, content: str, reported: str
) -> None:
    for _ in range(3):
        await desk.after(content)
    (problems,) = desk.facts.rejected()
    assert problems[0].startswith(reported)
    assert problems[0].endswith("it waits for SIGHUP or POST /-/reload")
    assert desk.split == Split(5_000)
    assert desk.watch.error == "; ".join(problems)

    with pytest.raises(ConfigRefused):
        await desk.watch.reload(operator=False)
    reloaded = await desk.watch.reload(operator=True)

    assert desk.split == Split(25_000)
    assert isinstance(reloaded, Reloaded)
    assert reloaded.digest == desk.watch.digest != desk.start
    assert desk.facts.applied() == [reloaded.changes]
    assert desk.watch.error is None


async def test_a_removed_model_waits_for_an_operator(desk: Desk) -> None:
    await desk.after(text(5, extra=text(50, name="churn")[8:]))
    assert list(desk.watch.settings.models) == ["sentiment", "churn"]

    await desk.after(text(5))
    assert list(desk.watch.settings.models) == ["sentiment", "churn"]

    assert (await desk.watch.reload(operator=True)).changes == ("models.churn",)
    assert list(desk.watch.settings.models) == ["sentiment"]


async def test_a_reload_of_what_is_in_force_says_no_changes(desk: Desk) -> None:
    assert await desk.watch.reload(operator=True) == Reloaded(desk.start, ())
    assert desk.facts.events == []
    assert desk.slept == []


async def test_a_refused_reload_reports_every_problem_each_time_and_records_it_once(desk: Desk) -> None:
    desk.write("models: {sentiment: {wrkers: 1, salt: ''}}")
    for _ in range(2):
        with pytest.raises(ConfigRefused) as refused:
            await desk.watch.reload(operator=True)
        assert len(refused.value.problems) == 2

    assert len(desk.facts.rejected()) == 1


async def test_a_publication_that_fails_is_tried_again_at_the_next_tick(desk: Desk) -> None:
    attempts = []

    def failing(_: Settings) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise RuntimeError("no")

    watch = ConfigWatch(
        ConfigFile(desk.path, {}, {}),
        desk.facts,
        Following(failing),
        in_force=SettingsInForce(desk.watch.settings),
        digest=desk.start,
        sleep=desk.watch._sleep,
    )
    desk.write(text(25))
    with pytest.raises(RuntimeError):
        await watch.tick()
    assert (watch.digest, desk.facts.events) == (desk.start, [])

    await watch.tick()
    assert watch.settings.models["sentiment"].split == Split(25_000)


async def test_a_reload_during_a_tick_waits_for_it(desk: Desk) -> None:
    """Else the tick would put a file in force that the operator has already replaced."""
    sleeping, wake = asyncio.Event(), asyncio.Event()

    async def sleep(_: float) -> None:
        sleeping.set()
        await wake.wait()

    desk.watch._sleep = sleep
    desk.write(text(25))
    tick = asyncio.create_task(desk.watch.tick())
    await sleeping.wait()
    reload: Awaitable[Reloaded] = asyncio.create_task(desk.watch.reload(operator=True))
    desk.write(text(30))
    wake.set()
    await tick
    await reload

    assert desk.split == Split(30_000)
    assert [settings.models["sentiment"].split for settings in desk.published] == [Split(30_000)]


async def test_what_is_pinned_is_in_no_answer_event_or_error(desk: Desk) -> None:
    pins = "    pins: {canary: [qa-1, qa-2], production: [tenant-7]}\n"
    desk.write(text(5, extra=pins))
    reloaded = await desk.watch.reload(operator=False)
    assert reloaded.changes == ("models.sentiment.pins",)
    desk.write(text(5, extra=pins.replace("tenant-7", "qa-1")))
    with pytest.raises(ConfigRefused) as refused:
        await desk.watch.reload(operator=True)

    assert len(desk.published) == 1
    [problem] = refused.value.problems
    assert problem.endswith(" is the same key as on line 4, where it is pinned to canary")
    shown = f"{desk.facts.events} {reloaded} {refused.value} {desk.watch.error} {desk.published}"
    assert not any(key in shown for key in ("qa-1", "qa-2", "tenant-7"))
