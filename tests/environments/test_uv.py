"""How uv is started, and what is made of what it says."""

import errno
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from router.core.package_index import index_variables
from router.environments import uv as module
from router.environments.uv import LONGEST_SENTENCE, Uv
from router.errors import DiskFull, EnvironmentFailed, EnvironmentRefused, IndexUnreachable
from tests.environments.conftest import IMPATIENT
from tests.support.package_index import PackageIndex, wheel
from tests.support.waiting import wait_until

PASSWORD = "hunter2-and-more"


def compiled(uv: Uv, requirements: str = "tiny-a\n") -> str:
    plain = ("--only-binary", ":all:", "--no-header", "--no-annotate")
    return uv.run("pip", "compile", "-", "--python", sys.executable, *plain, input=requirements)


def failure(uv: Uv, requirements: str = "tiny-a\n") -> EnvironmentFailed:
    with pytest.raises(EnvironmentFailed) as failed:
        compiled(uv, requirements)
    return failed.value


def asking(tmp_path: Path, address: str, **variables: str) -> Uv:
    return Uv(tmp_path / "uv", {"UV_DEFAULT_INDEX": address, **IMPATIENT, **variables})


def test_what_it_prints_comes_back(index: PackageIndex, uv: Uv) -> None:
    index.add("tiny-a", "1.0", requires=["tiny-b"])
    index.add("tiny-b", "2.0")

    assert compiled(uv) == "tiny-a==1.0\ntiny-b==2.0\n"


@pytest.mark.parametrize("status", [500, 502, 503, 429, 302])
def test_an_index_that_gives_no_answer_is_out_of_reach(index: PackageIndex, uv: Uv, status: int) -> None:
    index.status = status

    failed = failure(uv)

    assert type(failed) is IndexUnreachable
    assert str(status) in str(failed)


def test_a_port_that_refuses_is_out_of_reach(index: PackageIndex, uv: Uv) -> None:
    with index.gone():
        failed = failure(uv)

    assert type(failed) is IndexUnreachable
    assert "Connection refused" in str(failed)


def test_an_index_that_hangs_is_out_of_reach_within_the_time_for_requests(
    index: PackageIndex, uv: Uv
) -> None:
    index.hanging = True

    failed = failure(uv)

    assert type(failed) is IndexUnreachable
    assert "timed out" in str(failed)


def test_a_name_that_nobody_knows_is_out_of_reach(tmp_path: Path) -> None:
    assert type(failure(asking(tmp_path, "http://no-such-host.invalid/simple"))) is IndexUnreachable


def test_a_server_that_does_not_speak_tls_is_out_of_reach(tmp_path: Path, index: PackageIndex) -> None:
    assert type(failure(asking(tmp_path, f"https://{index.host}/simple"))) is IndexUnreachable


@pytest.mark.parametrize("status", [401, 403])
def test_an_index_that_refuses_is_out_of_reach_and_says_why(index: PackageIndex, uv: Uv, status: int) -> None:
    """Somebody mends a password without touching version or configuration: it is tried again."""
    index.status = status

    failed = failure(uv)

    assert type(failed) is IndexUnreachable
    assert str(failed).startswith("the package index refused the credentials")
    assert str(status) in str(failed)


def test_credentials_in_the_address_are_used_and_wrong_ones_named_without_them(
    tmp_path: Path, index: PackageIndex
) -> None:
    index.add("tiny-a", "1.0")
    index.credentials = ("ada", PASSWORD)
    address = index.uri_with_credentials
    right = asking(tmp_path, address)
    assert compiled(right) == "tiny-a==1.0\n"
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert [path for path in written if PASSWORD.encode() in path.read_bytes()] == []

    index.credentials = ("ada", "another")
    failed = failure(asking(tmp_path / "other", address))

    assert type(failed) is IndexUnreachable
    assert PASSWORD not in str(failed)


def test_credentials_beside_an_index_that_has_a_name_are_used(tmp_path: Path, index: PackageIndex) -> None:
    index.add("tiny-a", "1.0")
    index.credentials = ("ada", PASSWORD)
    beside = {"UV_INDEX_CORP_USERNAME": "ada", "UV_INDEX_CORP_PASSWORD": PASSWORD}

    uv = asking(tmp_path, "http://127.0.0.1:9/simple", UV_INDEX=f"corp={index.uri}", **beside)

    assert compiled(uv) == "tiny-a==1.0\n"


def test_an_address_that_can_not_be_one_is_refused_with_the_reason_alone(tmp_path: Path) -> None:
    failed = failure(asking(tmp_path, "http://127.0.0.1:no/simple"))

    assert str(failed) == "the address of a package index can not be used: invalid port number"


def test_a_directory_of_wheels_stands_in_the_place_of_an_index(tmp_path: Path) -> None:
    """As pip takes it: named from where the gateway was started."""
    made = wheel("tiny-a", "1.0")
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / made.name).write_bytes(made.content)
    asked = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "wheels"}

    assert compiled(Uv(tmp_path / "uv", index_variables(asked, None, str(tmp_path)))) == "tiny-a==1.0\n"


@pytest.mark.parametrize("sign", ["/", "#", "?", "@", ",", " "])
@pytest.mark.parametrize("variable", ["UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS"])
def test_an_address_that_is_none_because_of_a_sign_in_its_password_is_quoted_without_it(
    tmp_path: Path, index: PackageIndex, variable: str, sign: str
) -> None:
    address = f"http://ada:hunter2{sign}{PASSWORD}@{index.host}/simple"
    failed = failure(asking(tmp_path, index.uri, **{variable: address}))

    assert PASSWORD not in str(failed)


@pytest.mark.parametrize(
    ("requirements", "quoted"),
    [
        ("tiny-zzz", "tiny-zzz was not found in the package registry"),
        ("tiny-a==1.0\ntiny-a>1", "you require tiny-a==1.0 and tiny-a>1"),
        ("tiny-a>7", "only tiny-a"),
        ("tiny-a===one", "expected version to start with a number"),
    ],
)
def test_what_can_not_be_resolved_is_refused_in_the_resolvers_words(
    index: PackageIndex, uv: Uv, requirements: str, quoted: str
) -> None:
    index.add("tiny-a", "1.0")
    index.add("tiny-a", "2.0")

    failed = failure(uv, requirements)

    assert type(failed) is EnvironmentRefused
    assert quoted in str(failed)
    assert "\n" not in str(failed)


def test_a_package_that_would_have_to_be_built_is_refused_and_its_setup_never_runs(
    tmp_path: Path, index: PackageIndex, uv: Uv
) -> None:
    ran = tmp_path / "ran"
    index.add_source("tiny-a", "1.0", f"open({str(ran)!r}, 'w')\nfrom setuptools import setup\nsetup()\n")
    index.add("tiny-b", "1.0", requires=["tiny-a"])

    for requirements in ("tiny-a", "tiny-b"):
        failed = failure(uv, requirements)

        assert type(failed) is EnvironmentRefused
        assert "environments.only_binary" in str(failed)
        assert "tiny-a" in str(failed)
    assert not ran.exists()


@pytest.mark.parametrize("scheme", ["", "git+"])
def test_a_package_does_not_choose_where_another_comes_from(index: PackageIndex, uv: Uv, scheme: str) -> None:
    """Its metadata may name an address, which a version's own lines may not."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        address = f"{scheme}http://127.0.0.1:{listening.getsockname()[1]}/tiny_b-1.0-py3-none-any.whl"
        index.add("tiny-a", "1.0", requires=[f"tiny-b @ {address}"])

        failed = failure(uv)

        assert type(failed) is EnvironmentRefused
        assert "Package `tiny-b` was included as a URL dependency" in str(failed)
        assert address not in str(failed)
        with pytest.raises(BlockingIOError):
            listening.accept()


def test_no_password_is_where_others_can_read_it(tmp_path: Path, index: PackageIndex) -> None:
    """Not in the arguments of the process, while it runs, and not in what comes of it."""
    index.credentials = ("ada", PASSWORD)
    index.hanging = True
    uv = asking(tmp_path, index.uri_with_credentials, UV_HTTP_TIMEOUT="60")
    failed: list[EnvironmentFailed] = []
    thread = threading.Thread(target=lambda: failed.append(failure(uv)))
    thread.start()
    try:
        wait_until(lambda: index.paths, 30.0)
        # Those that other tests killed may still be there as zombies.
        uvs = [one for one in psutil.Process().children() if one.name() == "uv"]
        (running,) = [one for one in uvs if one.status() != psutil.STATUS_ZOMBIE]
        assert PASSWORD not in " ".join(running.cmdline())
        assert PASSWORD not in str(running.environ())
        assert index.authorizations[0] is not None
    finally:
        index.close()
        thread.join()

    assert type(failed[0]) is IndexUnreachable
    assert PASSWORD not in str(failed[0])


@pytest.mark.parametrize(
    "variables",
    [
        {"UV_DEFAULT_INDEX": f"http://ada:{PASSWORD}@127.0.0.1:9/simple"},
        {"UV_DEFAULT_INDEX": f"http://{PASSWORD}@127.0.0.1:9/simple"},
        {"UV_DEFAULT_INDEX": f"http://127.0.0.1:9/simple?access={PASSWORD}"},
        {"UV_FIND_LINKS": f"http://ada:{PASSWORD}@127.0.0.1:9/links"},
        {"UV_DEFAULT_INDEX": f"corp=http://ada:{PASSWORD}@127.0.0.1:9/simple"},
        {
            "ALL_PROXY": f"http://ada:{PASSWORD}@127.0.0.1:9",
            "UV_DEFAULT_INDEX": "http://index.example/simple",
        },
    ],
    ids=["password", "token", "query", "links", "named", "proxy"],
)
def test_no_password_is_in_what_it_says(tmp_path: Path, variables: dict[str, str]) -> None:
    """Nor in all that it writes when it is asked to write much."""
    uv = Uv(tmp_path / "uv", {**IMPATIENT, **variables})

    assert PASSWORD not in str(failure(uv))
    said = uv.ask("-v", "pip", "compile", "-", input="tiny-a\n")
    assert "DEBUG" in said.errors
    assert PASSWORD not in said.errors + said.output


def test_nothing_of_the_user_is_read(
    tmp_path: Path, index: PackageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No configuration, no .netrc, no variable but those that it is given."""
    home = tmp_path / "home"
    (home / ".config" / "uv").mkdir(parents=True)
    (home / ".config" / "uv" / "uv.toml").write_text("offline = true\n")
    (home / ".netrc").write_text(f"machine 127.0.0.1 login ada password {PASSWORD}\n")
    for name, value in {
        "HOME": home,
        "XDG_CONFIG_HOME": home / ".config",
        "UV_CONFIG_FILE": home / ".config" / "uv" / "uv.toml",
        "NETRC": home / ".netrc",
        "UV_OFFLINE": 1,
        "UV_CACHE_DIR": home / "cache",
    }.items():
        monkeypatch.setenv(name, str(value))
    (tmp_path / "uv" / "work").mkdir(parents=True)
    (tmp_path / "uv" / "work" / "uv.toml").write_text("offline = true\n")
    index.add("tiny-a", "1.0")

    assert compiled(asking(tmp_path, index.uri)) == "tiny-a==1.0\n"

    assert {*index.authorizations} == {None}
    assert not (home / "cache").exists()


def test_its_directories_are_for_this_user_alone(tmp_path: Path, index: PackageIndex, uv: Uv) -> None:
    index.add("tiny-a", "1.0")

    compiled(uv)

    for name in ("home", "cache", "tmp", "work"):
        assert (tmp_path / "uv" / name).stat().st_mode & 0o777 == 0o700


def test_where_it_is_not_installed_the_extra_is_named(uv: Uv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uv", None)

    failed = failure(uv)

    assert type(failed) is EnvironmentRefused
    assert "mlflow-canary-router[environments]" in str(failed)


@pytest.mark.parametrize(
    ("script", "kind", "said"),
    [
        ("kill -9 $$", EnvironmentFailed, "uv was ended by signal 9"),
        (
            "echo 'error: Failed to write' >&2; echo 'No space left on device (os error 28)' >&2; exit 2",
            DiskFull,
            "full",
        ),
        ("exit 3", EnvironmentFailed, "uv ended with status 3: it wrote nothing"),
        ("echo 'error: no idea' >&2; exit 2", EnvironmentFailed, "uv ended with status 2: no idea"),
        ("yes 'error: much' | head -c 3000000 >&2; exit 2", EnvironmentFailed, "much"),
    ],
    ids=["killed", "full", "silent", "unknown", "much"],
)
def test_what_else_goes_wrong_may_go_right_next_time(
    tmp_path: Path, uv: Uv, monkeypatch: pytest.MonkeyPatch, script: str, kind: type, said: str
) -> None:
    stand_in = tmp_path / "stand-in"
    stand_in.write_text(f"#!/bin/sh\n{script}\n")
    stand_in.chmod(0o700)
    monkeypatch.setattr(module, "find_uv", lambda: str(stand_in))

    failed = failure(uv)

    assert type(failed) is kind
    assert said in str(failed)
    assert len(str(failed)) < LONGEST_SENTENCE + 100


def test_a_uv_that_does_not_start_is_named(uv: Uv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_uv", lambda: "/no/such/uv")

    assert str(failure(uv)) == "uv can not be started: No such file or directory"


@pytest.mark.parametrize("cacheable", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_what_a_file_of_an_index_says_is_asked_for_once_and_which_files_there_are_each_time(
    tmp_path: Path, index: PackageIndex, named: bool, cacheable: bool
) -> None:
    """Whether the index lets clients keep nothing, or all for ten minutes: a file does not change under its
    name, and a page that was kept is not what another replica sees."""
    index.cacheable = cacheable
    index.add("tiny-a", "1.0", requires=["tiny-b"])
    index.add("tiny-b", "2.0")
    uv = asking(tmp_path, f"corp={index.uri}" if named else index.uri)
    assert compiled(uv) == "tiny-a==1.0\ntiny-b==2.0\n"
    assert [path for path in index.paths if path.startswith("/files/")]
    index.paths.clear()

    assert compiled(uv) == "tiny-a==1.0\ntiny-b==2.0\n"
    assert sorted(index.paths) == ["/simple/tiny-a/", "/simple/tiny-b/"]

    index.add("tiny-b", "3.0")
    assert compiled(uv) == "tiny-a==1.0\ntiny-b==3.0\n"


def test_a_configuration_that_no_pipe_holds_is_refused_before_uv_starts(tmp_path: Path) -> None:
    """It would wait for a reader that is never started."""
    failed = failure(asking(tmp_path, "http://127.0.0.1:9/" + "x" * (1 << 20)))

    assert "uv can not be started: Argument list too long" in str(failed)


@pytest.mark.parametrize("unwritten", ["work", "cache", "tmp"])
def test_a_disk_without_room_for_its_directories_is_full(
    tmp_path: Path, uv: Uv, monkeypatch: pytest.MonkeyPatch, unwritten: str
) -> None:
    made = Path.mkdir

    def mkdir(path: Path, *arguments: Any, **options: Any) -> None:
        if path.name == unwritten:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        made(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)

    assert type(failure(uv)) is DiskFull
