"""What is accepted of a version's requirements: names of packages and what narrows them, and nothing else."""

import string
import time
from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from router.core.requirement_lines import (
    MOST_BYTES,
    MOST_CHARACTERS,
    MOST_FILES,
    MOST_REQUIREMENTS,
    PlainRequirements,
    RequirementRefused,
    package_of,
    plain_requirements,
    requirement,
    unpinned,
)


def accepted(text: str | bytes, files: Mapping[str, str] | None = None) -> PlainRequirements:
    """What is accepted of a `requirements.txt` with `files` beside it."""

    def read(name: str) -> bytes:
        try:
            return (files or {})[name].encode()
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory") from None

    written = text.encode() if isinstance(text, str) else text
    return plain_requirements(written, "requirements.txt", read)


def refusal(text: str | bytes, files: Mapping[str, str] | None = None) -> str:
    with pytest.raises(RequirementRefused) as refused:
        accepted(text, files)
    return str(refused.value)


@pytest.mark.parametrize(
    ("line", "normalised"),
    [
        ("mlflow==3.17.2", "mlflow==3.17.2"),
        ("  scikit-learn  ==  1.5.2  ", "scikit-learn==1.5.2"),
        ("scikit_learn==1.5.2", "scikit-learn==1.5.2"),
        ("Django", "django"),
        ("numpy>=1.26,<3", "numpy<3,>=1.26"),
        ("mlflow[langchain,extras]==3.1", "mlflow[extras,langchain]==3.1"),
        ("torch==2.4.0+cpu", "torch==2.4.0+cpu"),
        ('pywin32==306; sys_platform == "win32"', 'pywin32==306; sys_platform == "win32"'),
        ("pandas  # as it was trained", "pandas"),
        ("numpy===1.26.4", "numpy===1.26.4"),
        ("pandas~=2.2", "pandas~=2.2"),
        ("numpy == 1.*", "numpy==1.*"),
    ],
)
def test_a_plain_requirement_is_accepted(line: str, normalised: str) -> None:
    assert accepted(line).lines == (normalised,)


def test_what_mlflow_logs_with_locked_dependencies_is_accepted() -> None:
    """Its comments hold what was asked for, whatever that was."""
    text = """# Original requirements
# mlflow
# --index-url https://ada:hunter2@index.example/simple
#
# Locked requirements
alembic==1.18.1
colorama==0.4.6 ; sys_platform == 'win32'
"""

    assert accepted(text).lines == ("alembic==1.18.1", 'colorama==0.4.6; sys_platform == "win32"')


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_system(end: str) -> None:
    assert accepted(f"\ufeffnumpy{end}{end}pandas{end}").lines == ("numpy", "pandas")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("--index-url https://evil.example/simple", "--index-url"),
        ("--index-url=https://evil.example/simple", "--index-url"),
        ("-i https://evil.example/simple", "-i"),
        ("--extra-index-url https://evil.example/simple", "--extra-index-url"),
        ("--find-links /tmp", "--find-links"),
        ("-f /tmp", "-f"),
        ("--no-index", "--no-index"),
        ("--trusted-host evil.example", "--trusted-host"),
        ("--pre", "--pre"),
        ("--no-binary :all:", "--no-binary"),
        ("-e .", "-e"),
        ("-e.", "-e"),
        ("--editable ../model", "--editable"),
        ("--require-hashes", "--require-hashes"),
        ("numpy==1.26.4 --hash=sha256:00", "--hash"),
        ("numpy==1.26.4 --config-settings x=y", "--config-settings"),
        ("numpy @ https://ada:hunter2@evil.example/numpy.whl", "an address"),
        ("https://evil.example/numpy-1.0-py3-none-any.whl", "an address"),
        ("git+https://evil.example/repo.git", "an address"),
        ("git+ssh://git@evil.example/repo.git@main#egg=x", "an address"),
        ("numpy @ git+https://evil.example/repo", "an address"),
        ("numpy @ file:///etc/passwd", "an address"),
        ("numpy @ numpy.whl", "a path"),
        ("numpy-1.26.4-cp311-cp311-linux_x86_64.whl", "a path"),
        ("numpy-1.26.4.tar.gz", "a path"),
        (".", "a path"),
        ("./model", "a path"),
        ("../model", "a path"),
        ("..", "a path"),
        ("/opt/model", "a path"),
        ("~/model", "a path"),
        ("code/wheels/x", "a path"),
        ("C:\\model", "a path"),
        ("${UV_INDEX_PASSWORD}", "a variable"),
        ("numpy @ https://evil.example/${UV_INDEX_PASSWORD}/x.whl", "a variable"),
        ("numpy==${VERSION}", "a variable"),
        ("$HOME", "a variable"),
        ("numpy==1.26 \\", "goes on in the next line"),
        ("numpy=1.26", "not a requirement"),
        ("numpy pandas", "not a requirement"),
        ("numpy; python_version", "not a requirement"),
        ("numpy;" + "(" * 900 + "os_name == 'x'", "not a requirement"),
        ("numpy>=" + "9" * 900 + "x", "not a requirement"),
        ("<script>", "not a requirement"),
        ("nu\x00mpy", "not printable"),
        ("numpy\x0b--index-url", "not printable"),
        ("numpy\u2028--index-url", "not printable"),
        ("numpy # \x1b[31m", "not printable"),
        ("x" * (MOST_CHARACTERS + 1), f"{MOST_CHARACTERS} are read at most"),
        ("-r ../other.txt", "not beside it"),
        ("-r /etc/passwd", "not beside it"),
        ("-r sub/other.txt", "not beside it"),
        ("-r .hidden", "not beside it"),
        ("-c https://evil.example/c.txt", "not beside it"),
        ("--constraint=file:///etc/passwd", "not beside it"),
        ("-r other.txt --pre", "not beside it"),
        ("-r", "-r"),
        ("-r missing.txt", "No such file"),
    ],
)  # fmt: skip
def test_everything_else_is_refused_by_the_number_of_its_line(line: str, named: str) -> None:
    refused = refusal(f"pandas\n# a comment\n{line}\n")

    assert refused.startswith("requirements.txt line 3 ")
    assert named in refused
    assert "hunter2" not in refused


def test_files_beside_it_are_read_and_constraints_install_nothing() -> None:
    text = "mlflow\n-r more.txt\n-c constraints.txt\n--requirement=last.txt\n--constraint last-bounds.txt"
    files = {
        "more.txt": "numpy\n",
        "constraints.txt": "pandas<3\n-r bounds.txt",
        "bounds.txt": "scipy<2",
        "last.txt": "scipy",
        "last-bounds.txt": "orjson<4",
    }

    found = accepted(text, files)

    assert found.lines == ("mlflow", "numpy", "scipy")
    assert found.constraints == ("pandas<3", "scipy<2", "orjson<4")


def test_a_refusal_names_the_file_that_it_is_about() -> None:
    assert refusal("-r more.txt", {"more.txt": "numpy\n-e ."}).startswith("more.txt line 2 has the option -e")


def test_files_that_name_each_other_are_refused() -> None:
    assert "read already" in refusal("-r more.txt", {"more.txt": "-r requirements.txt"})


def test_more_files_than_anybody_needs_are_refused() -> None:
    files = {f"f{number}.txt": f"-r f{number + 1}.txt" for number in range(MOST_FILES + 1)}

    assert "one file too many" in refusal("-r f0.txt", files)


def test_a_file_that_is_too_long_is_refused_unread() -> None:
    refused = refusal(b"#" * (10 << 20))

    assert refused == f"requirements.txt has {10 << 20} bytes; {MOST_BYTES} are read at most"


def test_more_requirements_than_anybody_needs_are_refused() -> None:
    text = "\n".join(f"p{number}" for number in range(MOST_REQUIREMENTS + 1))

    assert refusal(text).startswith(f"requirements.txt line {MOST_REQUIREMENTS + 1} is one too many")


def test_a_requirement_counts_as_often_as_it_is_named() -> None:
    """Each is read; a file of a megabyte holds half a million."""
    refused = refusal("numpy\n" * (MOST_REQUIREMENTS + 1))

    assert refused.startswith(f"requirements.txt line {MOST_REQUIREMENTS + 1} is one too many")


def test_blanks_take_little_longer_to_read_than_other_characters() -> None:
    """A file of them would take half a minute of a processor, each time that it is looked at."""

    def seconds(line: str) -> float:
        began = time.process_time()
        accepted(f"{line}\n" * 300)
        return time.process_time() - began

    assert seconds("a" + " " * (MOST_CHARACTERS - 1)) < 20 * seconds("a" * MOST_CHARACTERS)


def test_what_is_not_text_is_refused_by_line() -> None:
    assert refusal(b"numpy\n\xff\xfe") == "requirements.txt line 2 is not UTF-8"


def test_each_line_is_there_once() -> None:
    assert accepted("numpy\nNumPy\npandas\nnumpy").lines == ("numpy", "pandas")


@given(st.text())
@example("0_")
def test_whatever_is_written_is_refused_or_plain(text: str) -> None:
    """Read again, accepted lines are the same, and nothing in them is an option, an address or a path."""
    try:
        lines = accepted(text.encode("utf-8", "surrogatepass")).lines
    except RequirementRefused:
        return
    assert_plain(lines)


PIECES = (
    *(
        "numpy",
        "pandas==2.2",
        "[x]",
        "python_version < '3.12'",
        ";",
        "==",
        ">=1",
        ",",
        "(",
        ")",
        "'",
        '"',
        ".",
    ),
    *("--index-url", "-e", "-r", "-", "=", "${A}", "$", "file:", "git+", "://", "@", "../", "/", "~", "#"),
    *(
        " ",
        "\t",
        "\n",
        "\r",
        "\\",
        "\x00",
        "\x0b",
        "\u2028",
        "\ufeff",
        "https://ada:hunter2@evil.example/x.whl",
    ),
)


@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_pieces_of_options_and_addresses_are_refused_or_plain(pieces: list[str]) -> None:
    try:
        lines = accepted("".join(pieces)).lines
    except RequirementRefused as refused:
        assert "hunter2" not in str(refused)  # noqa: PT017 # what is raised is one of two good ends
        return
    assert_plain(lines)


def assert_plain(lines: tuple[str, ...]) -> None:
    assert accepted("\n".join(lines)).lines == lines
    for line in lines:
        parsed = Requirement(line)
        assert parsed.url is None
        assert not line.startswith("-")
        assert " -" not in line
        assert not {*"\n\r\x00\\/$"} & {*line}
        assert line.isprintable()


names = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=20).map(
    lambda text: f"a{text}z"
)


@given(names, st.integers(0, 10**6), st.integers(0, 10**6))
def test_every_name_and_release_is_accepted_and_normalised(name: str, major: int, minor: int) -> None:
    line = f"{name}=={major}.{minor}"

    assert accepted(line).lines == (f"{canonicalize_name(name)}=={major}.{minor}",)
    assert package_of(line) == canonicalize_name(name)
    assert unpinned([line]) == ()


@pytest.mark.parametrize(
    ("lines", "loose"),
    [
        ((), ()),
        (("numpy==1.26.4", "pandas===2.2"), ()),
        (("numpy", "pandas==2.2.3"), ("numpy",)),
        (("numpy>=1.26", "pandas==2.*", "scipy~=1.5", "numpy"), ("numpy", "pandas", "scipy")),
        (("numpy>1,==1.26.4",), ()),
        (('pywin32==306; sys_platform == "win32"',), ()),
        (("numpy!=1.26.4",), ("numpy",)),
    ],
)
def test_which_packages_the_index_decides_about(lines: tuple[str, ...], loose: tuple[str, ...]) -> None:
    """`check` recommends to log a version with its dependencies locked where there are any."""
    assert unpinned(lines) == loose


def test_a_line_that_is_no_requirement_says_why() -> None:
    with pytest.raises(ValueError, match="has the option --pre"):
        requirement("--pre")
