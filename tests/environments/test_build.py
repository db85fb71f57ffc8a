"""An environment is built beside its place and appears there whole; whatever goes wrong leaves nothing."""

import errno
import json
import os
import platform
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from router.core.package_index import index_variables
from router.environments import store
from router.environments.build import Recipe, build, why_not_running
from router.environments.interpreters import Interpreter, own_interpreter
from router.environments.pins import Pins
from router.environments.uv import Answer, Uv
from router.errors import DiskFull, EnvironmentFailed, EnvironmentRefused, IndexUnreachable
from tests.support.package_index import PackageIndex, package_index

TOKEN = "0123456789abcdef"


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    with package_index() as index:
        yield index


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return store.open_root(tmp_path / "cache")


def recipe(index: PackageIndex, *modules: str, files: Mapping[str, str] | None = None) -> Recipe:
    """The package `tiny` alone."""
    file = index.add("tiny", "1.0", files=files)
    pins = Pins(f"tiny==1.0 \\\n    --hash=sha256:{file.digest}\n", "")
    return Recipe(own_interpreter(), pins, modules, only_binary=True)


def made(root: Path, wanted: Recipe, index: PackageIndex, uv: Uv | None = None) -> tuple[store.Kept, bool]:
    uv = uv or Uv(root / store.UV, index_variables({"UV_HTTP_RETRIES": "0"}, index.uri, "/"))
    return build(root, wanted, uv, token=TOKEN, differences=(), began=time.monotonic())


def left(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.name != store.UV)


def python_in(kept: store.Kept, statement: str) -> str:
    command = [kept.about.interpreter, "-I", "-c", statement]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_what_is_built_runs_from_its_place_and_is_what_its_record_says(
    root: Path, index: PackageIndex
) -> None:
    wanted = recipe(index, "tiny")

    kept, built = made(root, wanted, index)

    assert built
    assert store.find(root, wanted.key) == kept
    assert left(root) == [wanted.key[:32]]
    assert python_in(kept, "import tiny; print(tiny.__version__, tiny.__file__)") == (
        f"1.0 {kept.place}/venv/lib/python{own_interpreter().minor}/site-packages/tiny/__init__.py"
    )
    assert kept.about.python == platform.python_version()
    assert kept.about.pins == wanted.pins.digest
    assert kept.about.size_bytes == store.size_of(kept.place / store.VENV)
    assert 0 < kept.about.build_seconds < 600
    assert isinstance(store.find(root, wanted.key), store.Kept)  # running it wrote nothing


def test_its_files_share_their_content_with_no_other_file(root: Path, index: PackageIndex) -> None:
    """With hard links, a version that writes into its libraries would write into every other environment."""
    kept, _ = made(root, recipe(index), index)

    paths = [path for path in (kept.place / store.VENV).rglob("*") if path.is_file()]
    assert {path.lstat().st_nlink for path in paths} == {1}
    assert not [path for path in paths if not path.is_symlink() and path.stat().st_mode & 0o277]


def test_its_modules_are_compiled_because_nobody_may_write_beside_them(
    root: Path, index: PackageIndex
) -> None:
    kept, _ = made(root, recipe(index), index)

    assert python_in(kept, "import os, tiny; print(os.path.exists(tiny.__cached__))") == "True"


def test_a_package_runs_nothing_while_it_is_installed_and_never_beside_the_indexs_credentials(
    root: Path, index: PackageIndex, tmp_path: Path
) -> None:
    """Lines of a `.pth` file are run whenever the environment's Python starts: when it is tried, as in every
    worker."""
    seen = tmp_path / "seen"
    write = f"open({str(seen)!r}, 'a').write(json.dumps([sys.orig_argv[1:], str(os.environ)]) + chr(10))"
    module = {"tiny/__init__.py": "", "tiny.pth": f"import json, os, sys; {write}\n"}
    wanted = recipe(index, files=module)
    index.credentials = ("ada", "hunter2-and-more")
    uv = Uv(root / store.UV, index_variables({"UV_HTTP_RETRIES": "0"}, index.uri_with_credentials, "/"))

    kept, _ = made(root, wanted, index, uv)

    started = [json.loads(line) for line in seen.read_text().splitlines()]
    assert {tuple(arguments) for arguments, _ in started} == {("-I", "-B", "-c", "pass")}
    assert "hunter2" not in seen.read_text()
    assert list(kept.place.rglob("tiny/__pycache__/*.pyc"))


def test_what_packages_test_themselves_with_has_no_bytecode(root: Path, index: PackageIndex, uv: Uv) -> None:
    """Nothing imports it, and compiling it would take a quarter of the time."""
    kept, _ = made(
        root, recipe(index, files={"tiny/__init__.py": "", "tiny/tests/__init__.py": ""}), index, uv
    )

    compiled = {path.parent.parent.name for path in kept.place.rglob("__pycache__/*.pyc")}
    assert "tiny" in compiled
    assert "tests" not in compiled


def test_the_key_differs_where_anything_differs_that_it_is_made_of(index: PackageIndex) -> None:
    one = recipe(index)
    python = one.interpreter
    others = [
        Recipe(python, Pins("other==1.0\n", ""), (), only_binary=True),
        Recipe(Interpreter(python.path, "3.99.1", python.build), one.pins, (), only_binary=True),
        Recipe(Interpreter(python.path, python.version, "another"), one.pins, (), only_binary=True),
        Recipe(Interpreter("/usr", python.version, python.build), one.pins, (), only_binary=True),
    ]

    assert len({one.key, *(other.key for other in others)}) == 5
    assert recipe(index).key == one.key


def test_a_second_environment_of_cached_packages_needs_no_index(
    root: Path, index: PackageIndex, tmp_path: Path
) -> None:
    wanted = recipe(index)
    index.cacheable = True
    first, _ = made(root, wanted, index)
    store.discard(store.set_aside(first.place))

    with index.gone():
        kept, built = made(root, wanted, index)

    assert built
    assert python_in(kept, "import tiny; print(tiny.__version__)") == "1.0"


def test_without_the_index_it_says_so_and_leaves_nothing(root: Path, index: PackageIndex) -> None:
    wanted = recipe(index)

    with index.gone(), pytest.raises(IndexUnreachable):
        made(root, wanted, index)

    assert left(root) == []


def test_a_file_of_another_digest_is_not_installed(root: Path, index: PackageIndex) -> None:
    wanted = recipe(index)
    index.remove("tiny")
    index.add("tiny", "1.0", files={"tiny/__init__.py": "print('another')\n"})

    with pytest.raises(EnvironmentFailed, match=r"[Hh]ash mismatch"):
        made(root, wanted, index)

    assert left(root) == []


def test_a_package_that_can_not_be_imported_is_refused_with_its_own_words(
    root: Path, index: PackageIndex
) -> None:
    wanted = recipe(index, "tiny", files={"tiny/__init__.py": "raise ImportError('no libgomp here')\n"})

    with pytest.raises(EnvironmentRefused, match="ImportError: no libgomp here"):
        made(root, wanted, index)

    assert left(root) == []


@pytest.mark.parametrize(
    ("why", "for_good"), [(errno.ENOMEM, False), (errno.EAGAIN, False), (errno.EACCES, True)]
)
def test_a_python_that_can_not_be_started_now_is_not_given_up(
    monkeypatch: pytest.MonkeyPatch, why: int, for_good: bool
) -> None:
    """Too little memory passes; a file system that nothing may be run from does not."""

    def refuses(*_: object, **__: object) -> None:
        raise OSError(why, os.strerror(why))

    monkeypatch.setattr(subprocess, "run", refuses)

    trouble = why_not_running(Path("/no/such/python"), ())

    assert isinstance(trouble, EnvironmentFailed)
    assert isinstance(trouble, EnvironmentRefused) is for_good


def test_source_distributions_run_no_code(root: Path, index: PackageIndex, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    file = index.add_source("tiny", "1.0", f"open({str(mark)!r}, 'w')\n")
    pins = Pins(f"tiny==1.0 \\\n    --hash=sha256:{file.digest}\n", "")

    with pytest.raises(EnvironmentRefused):
        made(root, Recipe(own_interpreter(), pins, (), only_binary=True), index)

    assert not mark.exists()


class Meeting(Uv):
    """Installs only when as many do as there are to meet."""

    def __init__(self, root: Path, index: PackageIndex, barrier: threading.Barrier) -> None:
        super().__init__(root / store.UV, index_variables({}, index.uri, "/"))
        self._barrier = barrier

    def ask(self, *arguments: str, input: str = "") -> Answer:  # noqa: A002 - as `Uv` has it
        if arguments[0] == "pip" and "--offline" in arguments:
            self._barrier.wait(60)
        return super().ask(*arguments, input=input)


def test_of_two_builders_at_once_the_second_takes_what_the_first_built(
    root: Path, index: PackageIndex
) -> None:
    wanted, barrier = recipe(index), threading.Barrier(2)
    results: list[tuple[store.Kept, bool]] = []

    def one(token: str) -> None:
        uv = Meeting(root, index, barrier)
        results.append(build(root, wanted, uv, token=token, differences=(), began=time.monotonic()))

    threads = [threading.Thread(target=one, args=(str(number) * 16,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(built for _, built in results) == [False, True]
    assert len({kept.place for kept, _ in results}) == 1
    assert left(root) == [wanted.key[:32]]


def test_what_is_damaged_gives_its_place_to_what_is_built_anew_and_its_versions(
    root: Path, index: PackageIndex
) -> None:
    wanted = recipe(index)
    kept, _ = made(root, wanted, index)
    store.note_use(kept.place, root.parent / "m" / "1-0123456789ab" / "files")
    module = next((kept.place / store.VENV).glob("lib/*/site-packages/tiny/__init__.py"))
    module.chmod(0o600)
    module.write_text("__version__ = 'changed'\n")

    again, built = made(root, wanted, index)

    assert built
    assert python_in(again, "import tiny; print(tiny.__version__)") == "1.0"
    assert store.versions_of(again.place) == ["m v1"]
    assert left(root) == [wanted.key[:32]]


def test_a_full_disk_is_named_and_nothing_half_built_stays(small_disk: Path, index: PackageIndex) -> None:
    root = store.open_root(small_disk / "cache")
    wanted = recipe(index, files={"tiny/__init__.py": f"x = {'1' * (3 << 20)!r}\n"})

    with pytest.raises(DiskFull, match="disk is full"):
        made(root, wanted, index)

    assert left(root) == []
