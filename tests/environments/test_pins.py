"""The same version gets the same releases: on every replica, after every restart, whatever the index does."""

import json
import os
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from router.environments.interpreters import Interpreter, find_interpreter
from router.environments.pins import (
    UNUSED_SECONDS,
    Pins,
    inputs_of,
    pins_of,
    pins_place,
    read_pins,
    remove_unused_pins,
)
from router.environments.rules import Rules, own_requirements
from router.environments.uv import Uv
from router.environments.wanted import read_wanted
from router.errors import DiskFull, EnvironmentRefused, IndexUnreachable
from tests.environments.conftest import AFTER, BEFORE, CREATED, IMPATIENT, WriteVersion
from tests.support.package_index import PackageIndex

PLAIN = Rules()


def kept_at(place: Path, python: Interpreter, rules: Rules = PLAIN) -> Path:
    wanted = read_wanted(place / "files", rules)
    return pins_place(place, inputs_of(wanted, python, rules))


def pinned(place: Path, python: Interpreter, uv: Uv, rules: Rules = PLAIN) -> Pins:
    wanted = read_wanted(place / "files", rules)
    pins = pins_of(wanted, python, rules, uv, place, resolve=True)
    assert pins is not None
    return pins


def kept(place: Path, python: Interpreter, uv: Uv, rules: Rules = PLAIN) -> Pins | None:
    return pins_of(read_wanted(place / "files", rules), python, rules, uv, place, resolve=False)


@pytest.fixture(autouse=True)
def releases(index: PackageIndex) -> None:
    """tiny-a, which needs tiny-b, in releases from before and after the versions were logged."""
    for name, requires in (("tiny-a", ["tiny-b"]), ("tiny-b", [])):
        index.add(name, "1.0", requires=requires, uploaded=BEFORE)
        index.add(name, "2.0", requires=requires, uploaded=AFTER)


def test_nothing_is_considered_that_came_after_the_version(
    write_version: WriteVersion, python: Interpreter, uv: Uv
) -> None:
    pins = pinned(write_version("tiny-a"), python, uv)

    assert pins.releases == {"tiny-a": "1.0", "tiny-b": "1.0"}
    assert pins.note == ""
    assert pins.text.count("--hash=sha256:") == 2


def test_two_gateways_a_day_apart_get_equal_pins(
    write_version: WriteVersion, python: Interpreter, index: PackageIndex, tmp_path: Path
) -> None:
    """Each with an empty cache of its own, on an index that got releases in between."""
    first = pinned(
        write_version("tiny-a", cache="one"), python, Uv(tmp_path / "u1", {"UV_DEFAULT_INDEX": index.uri})
    )
    index.add("tiny-a", "1.5", requires=["tiny-b"], uploaded=datetime.now(UTC))
    index.add("tiny-b", "1.5", uploaded=datetime.now(UTC))
    index.add(
        "tiny-b", "1.0", uploaded=datetime.now(UTC), tag="cp311-none-any"
    )  # another file of that release
    second = pinned(
        write_version("tiny-a", cache="two"), python, Uv(tmp_path / "u2", {"UV_DEFAULT_INDEX": index.uri})
    )

    assert first.text == second.text
    assert first.digest == second.digest


@pytest.mark.parametrize("upload_times", [True, False])
def test_a_gateway_that_starts_again_gets_the_same_pins_without_the_index(
    write_version: WriteVersion, python: Interpreter, index: PackageIndex, tmp_path: Path, upload_times: bool
) -> None:
    """Also where the index does not say when releases came."""
    index.upload_times = upload_times
    place = write_version("tiny-a")
    before = pinned(place, python, Uv(tmp_path / "u1", {"UV_DEFAULT_INDEX": index.uri}))
    index.add("tiny-a", "3.0", uploaded=BEFORE)

    again = Uv(tmp_path / "u2", {"UV_DEFAULT_INDEX": index.uri, **IMPATIENT})
    with index.gone():
        after = pinned(place, python, again)

    assert after == before
    assert not (tmp_path / "u2").exists()
    assert kept(place, python, again) == before


def test_an_index_without_upload_times_is_asked_all_the_same(
    write_version: WriteVersion, python: Interpreter, index: PackageIndex, uv: Uv
) -> None:
    index.upload_times = False

    pins = pinned(write_version("tiny-a"), python, uv)

    assert pins.releases == {"tiny-a": "2.0", "tiny-b": "2.0"}
    assert "does not say when tiny-a, tiny-b were uploaded" in pins.note


def test_packages_without_upload_times_keep_no_others_from_being_taken_as_they_were(
    write_version: WriteVersion, python: Interpreter, index: PackageIndex, uv: Uv
) -> None:
    """As where an internal index has some, and PyPI the rest."""
    index.add("internal", "1.0", requires=["deeper", "tiny-a"])
    index.add("deeper", "1.0", requires=["deepest"])
    index.add("deepest", "1.0")

    pins = pinned(write_version("internal"), python, uv)

    assert pins.releases == {
        "internal": "1.0",
        "deeper": "1.0",
        "deepest": "1.0",
        "tiny-a": "1.0",
        "tiny-b": "1.0",
    }
    assert "deeper, deepest, internal" in pins.note


def test_more_levels_of_packages_without_upload_times_end_the_question(
    write_version: WriteVersion, python: Interpreter, index: PackageIndex, uv: Uv
) -> None:
    for level in range(12):
        index.add(f"level-{level}", "1.0", requires=[f"level-{level + 1}"])
    index.add("level-12", "1.0")

    assert len(pinned(write_version("level-0"), python, uv).releases) == 13


def test_the_gateways_own_lines_may_be_younger_than_the_version(
    write_version: WriteVersion, python: Interpreter, index: PackageIndex, uv: Uv
) -> None:
    """And what they bring, as it was when they were released; other packages stay as they were."""
    index.add("own", "7.0", requires=["brought>=2"], uploaded=AFTER)
    index.add("brought", "1.0", uploaded=BEFORE)
    index.add("brought", "2.0", uploaded=datetime(2025, 11, 1, tzinfo=UTC))
    index.add("brought", "3.0", uploaded=datetime(2026, 3, 1, tzinfo=UTC))

    pins = pinned(write_version("own==1.0\ntiny-a"), python, uv, Rules(own=("own==7.0",)))

    assert pins.releases == {"own": "7.0", "brought": "2.0", "tiny-a": "1.0", "tiny-b": "1.0"}


def test_of_what_the_operator_adds_the_newest_is_taken(
    write_version: WriteVersion, python: Interpreter, uv: Uv
) -> None:
    pins = pinned(write_version(""), python, uv, Rules(extra=("tiny-b",)))

    assert pins.releases == {"tiny-b": "2.0"}


def test_a_release_that_came_later_is_refused_with_the_setting_that_says_so(
    write_version: WriteVersion, python: Interpreter, uv: Uv
) -> None:
    with pytest.raises(EnvironmentRefused, match=r"environments\.exclude_newer"):
        pinned(write_version("tiny-a==2.0"), python, uv)


def test_switched_off_the_newest_is_taken(write_version: WriteVersion, python: Interpreter, uv: Uv) -> None:
    pins = pinned(write_version("tiny-a"), python, uv, Rules(exclude_newer="off"))

    assert pins.releases["tiny-a"] == "2.0"
    assert pins.note == ""


def test_a_version_that_does_not_say_when_it_was_logged_gets_the_newest(
    write_version: WriteVersion, python: Interpreter, uv: Uv
) -> None:
    pins = pinned(write_version("tiny-a", created=None), python, uv)

    assert pins.releases["tiny-a"] == "2.0"
    assert "does not say when it was logged" in pins.note


def test_bounds_narrow_and_install_nothing(write_version: WriteVersion, python: Interpreter, uv: Uv) -> None:
    assert pinned(write_version("tiny-a"), python, uv, Rules(bounds=("tiny-b<2", "absent>9"))).releases == {
        "tiny-a": "1.0",
        "tiny-b": "1.0",
    }
    with pytest.raises(EnvironmentRefused, match="tiny-b"):
        pinned(write_version("tiny-a"), python, uv, Rules(bounds=("tiny-b>5",)))


def test_an_index_that_is_out_of_reach_leaves_nothing(
    write_version: WriteVersion, python: Interpreter, index: PackageIndex, uv: Uv
) -> None:
    place = write_version("tiny-a")
    with index.gone(), pytest.raises(IndexUnreachable):
        pinned(place, python, uv)

    assert [one.name for one in place.parent.iterdir()] == [place.name]


def test_an_index_that_goes_away_in_the_middle_is_out_of_reach(
    write_version: WriteVersion,
    python: Interpreter,
    index: PackageIndex,
    uv: Uv,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the resolver could not find before is not held against the version."""
    index.add("own", "7.0", requires=["brought"], uploaded=AFTER)
    index.add("brought", "1.0", uploaded=AFTER)
    ask, asked = uv.ask, []

    def failing(*arguments: str, **keywords: str) -> object:
        asked.append(arguments)
        if len(asked) == 2:
            index.status = 503
        return ask(*arguments, **keywords)

    monkeypatch.setattr(uv, "ask", failing)

    with pytest.raises(IndexUnreachable):
        pinned(write_version(""), python, uv, Rules(own=("own==7.0",)))


@pytest.mark.parametrize(
    "changed",
    [
        Rules(only_binary=False),
        Rules(exclude_newer="off"),
        Rules(extra=("tiny-b==1.0",)),
        Rules(own=("tiny-b==1.0",)),
        Rules(bounds=("tiny-b<2",)),
    ],
    ids=["binary", "newer", "extra", "own", "bounds"],
)
def test_other_rules_get_pins_of_their_own(
    write_version: WriteVersion, python: Interpreter, uv: Uv, changed: Rules
) -> None:
    place = write_version("tiny-a")
    pinned(place, python, uv)

    assert kept(place, python, uv, changed) is None


def test_another_python_and_other_lines_get_pins_of_their_own(
    write_version: WriteVersion, python: Interpreter, uv: Uv
) -> None:
    place = write_version("tiny-a")
    pinned(place, python, uv)
    later = Interpreter(python.path, "3.99.1", python.build)

    assert kept(place, later, uv) is None
    assert kept(write_version("tiny-a<9"), python, uv) is None
    assert kept(write_version("tiny-a"), Interpreter(python.path, f"{python.minor}.99", "x"), uv) is not None


def damaged(text: bytes) -> Mapping[str, bytes]:
    whole = json.loads(text)
    option = whole | {"text": f"--index-url http://evil.example\n{whole['text']}"}
    return {
        "empty": b"",
        "torn": text[: len(text) // 2],
        "list": b"[]",
        "deep": b"[" * 100_000,
        "other inputs": json.dumps(whole | {"inputs": "0" * 64}).encode(),
        "other text": json.dumps(whole | {"text": "tiny-a==9.9\n"}).encode(),
        "option": json.dumps(option | {"digest": Pins(option["text"], "", "").digest}).encode(),
        "text is a list": json.dumps(whole | {"text": []}).encode(),
        "binary": b"\xff\xfe\x00",
    }


@pytest.mark.parametrize("damage", [*damaged(b'{"text": ""}')])
def test_pins_that_can_not_be_believed_are_resolved_anew(
    write_version: WriteVersion, python: Interpreter, uv: Uv, damage: str
) -> None:
    place = write_version("tiny-a")
    pins = pinned(place, python, uv)
    file = kept_at(place, python)
    file.write_bytes(damaged(file.read_bytes())[damage])

    assert kept(place, python, uv) is None
    assert pinned(place, python, uv).text == pins.text
    assert kept(place, python, uv) is not None


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_pins_that_others_could_have_written_are_resolved_anew(
    write_version: WriteVersion, python: Interpreter, uv: Uv, mode: int
) -> None:
    place = write_version("tiny-a")
    pinned(place, python, uv)
    file = kept_at(place, python)
    file.chmod(mode)

    assert kept(place, python, uv) is None
    pinned(place, python, uv)
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_link_in_the_place_of_pins_is_replaced_and_not_followed(
    write_version: WriteVersion, python: Interpreter, uv: Uv, tmp_path: Path
) -> None:
    place = write_version("tiny-a")
    pinned(place, python, uv)
    file, elsewhere = kept_at(place, python), tmp_path / "elsewhere"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    before = elsewhere.read_bytes(), elsewhere.stat().st_mtime_ns

    assert kept(place, python, uv) is None
    pinned(place, python, uv)

    assert not file.is_symlink()
    assert (elsewhere.read_bytes(), elsewhere.stat().st_mtime_ns) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away, which only root can")
def test_pins_of_another_user_are_not_believed(
    write_version: WriteVersion, python: Interpreter, uv: Uv
) -> None:
    place = write_version("tiny-a")
    pinned(place, python, uv)
    os.chown(kept_at(place, python), 12345, 12345)

    assert kept(place, python, uv) is None


def test_who_resolves_at_the_same_time_gets_the_first_ones_pins(
    write_version: WriteVersion,
    python: Interpreter,
    index: PackageIndex,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two gateways on one cache, between whose questions the index got a release."""
    index.upload_times = False
    place = write_version("tiny-a")
    slow = Uv(tmp_path / "slow", {"UV_DEFAULT_INDEX": index.uri})
    answered, released = threading.Event(), threading.Event()
    ask = slow.ask

    def late(*arguments: str, **keywords: str) -> object:
        answer = ask(*arguments, **keywords)
        answered.set()
        released.wait(60)
        return answer

    monkeypatch.setattr(slow, "ask", late)
    of_slow: list[Pins] = []
    thread = threading.Thread(target=lambda: of_slow.append(pinned(place, python, slow)))
    thread.start()
    try:
        assert answered.wait(60)
        index.add("tiny-a", "3.0")
        of_fast = pinned(place, python, Uv(tmp_path / "fast", {"UV_DEFAULT_INDEX": index.uri}))
    finally:
        released.set()
        thread.join()

    assert of_fast.releases["tiny-a"] == "3.0"
    assert of_slow == [of_fast]


def test_many_at_once_get_the_same(
    write_version: WriteVersion, python: Interpreter, tmp_path: Path, index: PackageIndex
) -> None:
    index.upload_times = False
    place = write_version("tiny-b")
    uv = Uv(tmp_path / "uv", {"UV_DEFAULT_INDEX": index.uri})
    found: list[Pins] = []

    def resolve(number: int) -> None:
        index.add("tiny-b", f"3.{number}")
        found.append(pinned(place, python, uv))

    threads = [threading.Thread(target=resolve, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({pins.text for pins in found}) == 1
    assert len(found) == 4
    assert read_pins(*where(place, python)) == found[0]
    assert [one.name for one in place.parent.iterdir() if one.name.startswith(".part")] == []


def where(place: Path, python: Interpreter) -> tuple[Path, str]:
    inputs = inputs_of(read_wanted(place / "files", PLAIN), python, PLAIN)
    return pins_place(place, inputs), inputs


def test_a_full_disk_is_named_and_leaves_nothing(
    write_version: WriteVersion, python: Interpreter, uv: Uv, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    place = write_version("tiny-a")
    monkeypatch.setattr("router.environments.pins.os.fsync", full)

    with pytest.raises(DiskFull, match="can not be written: No space left"):
        pinned(place, python, uv)
    assert [one.name for one in place.parent.iterdir()] == [place.name]


def test_a_disk_without_room_for_what_uv_reads_is_full(
    write_version: WriteVersion, python: Interpreter, uv: Uv, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("router.environments.pins.tempfile.NamedTemporaryFile", full)

    with pytest.raises(DiskFull):
        pinned(write_version("tiny-a"), python, uv)


def test_what_a_killed_gateway_had_half_written_goes_after_an_hour(
    write_version: WriteVersion, python: Interpreter, uv: Uv
) -> None:
    place = write_version("tiny-a")
    half = place.parent / ".part-pins-abc"
    half.write_text("{")

    remove_unused_pins(place.parent, time.time())
    assert half.exists(), "somebody may be writing it"
    remove_unused_pins(place.parent, time.time() + 3601)

    assert not half.exists()


def test_pins_outlive_their_copy_for_ninety_days_after_their_last_use(
    write_version: WriteVersion, python: Interpreter, uv: Uv
) -> None:
    place = write_version("tiny-a")
    pinned(place, python, uv)
    file, now = kept_at(place, python), time.time()
    long_ago = now - UNUSED_SECONDS - 60
    os.utime(file, (long_ago, long_ago))

    remove_unused_pins(place.parent, now)
    assert file.exists()  # the copy is here

    wanted = read_wanted(place / "files", PLAIN)
    place.rename(place.with_name("aside"))
    os.utime(file, (long_ago, long_ago))
    assert pins_of(wanted, python, PLAIN, uv, place, resolve=False) is not None
    remove_unused_pins(place.parent, now)
    assert file.exists()  # it was used

    os.utime(file, (long_ago, long_ago))
    remove_unused_pins(place.parent, now)
    assert not file.exists()


def test_a_real_version_is_resolved_beside_this_gateways_mlflow(
    write_version: WriteVersion, tmp_path: Path, real_index: Mapping[str, str]
) -> None:
    """On the index of this machine: the version's own packages stand, and the gateway's are the gateway's."""
    python, _ = find_interpreter("", (), "refuse")
    rules = Rules(own=own_requirements())
    place = write_version("mlflow==2.16.0\nscikit-learn==1.5.2\nnumpy==2.0.2\npsutil==6.0.0", created=CREATED)

    pins = pinned(place, python, Uv(tmp_path / "uv", real_index), rules)

    assert pins.releases["scikit-learn"] == "1.5.2"
    assert pins.releases["numpy"] == "2.0.2"
    assert {f"{name}=={release}" for name, release in pins.releases.items()} >= {*rules.own}
