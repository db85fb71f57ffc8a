"""uv, which resolves and builds: how it is found, started and understood.

It gets an environment of its own: nothing of the user's configuration, caches, credentials or home is read.
Which index it asks it reads from a pipe, never from arguments, which every user of a machine can read, or a
file, which may stay.
"""

import errno
import importlib
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from router.core.package_index import secrets_in
from router.core.redaction import MASK, redact_line
from router.environments.disk_errors import disk_failure
from router.environments.index_configuration import index_configuration
from router.errors import DiskFull, EnvironmentFailed, EnvironmentRefused, IndexUnreachable

RETRIES = 2
"""After the first try of a request, where the operator says nothing else; uv waits longer before each."""
LONGEST_SENTENCE = 1000
_MOST_ERRORS = 1 << 20
_DIRECTORIES = {"HOME": "home", "UV_CACHE_DIR": "cache", "TMPDIR": "tmp"}
_SETTLED = {
    "LANG": "C.UTF-8",
    "NO_COLOR": "1",
    "UV_KEYRING_PROVIDER": "disabled",
    "UV_NO_PROGRESS": "1",
    "UV_NO_WRAP": "1",
    "UV_PYTHON_DOWNLOADS": "never",
}
_PASSED = ("PATH", "LD_LIBRARY_PATH")
_NO_SOLUTION = "No solution found"
_UNSOLVABLE = re.compile(rf"{_NO_SOLUTION}|included as a URL dependency|Couldn't parse requirement")
_URL_ADVICE = re.compile(r" Consider adding `[^`]*` to your dependencies or constraints file\.?")
"""It would be refused."""
_CREDENTIALS_REFUSED = re.compile(r"valid authentication credentials|40[13] (?:Unauthorized|Forbidden)")
_NO_WHEEL = re.compile(r"no usable wheels|building from source is disabled|no wheels with a matching")
_NO_ANSWER = re.compile(
    r"(?i)failed to fetch|failed to download|error sending request|error decoding response body|timed out"
    r"|HTTP status (?:server|client) error|dns error|connect error|peer certificate|request failed after"
    r"|`--find-links` URL|connection closed|error reading a body"
)
_CONFIGURATION = re.compile(r"Failed to parse: `?/dev/fd/")
_NO_SPACE = re.compile(r"(?i)no space left on device|disk quota exceeded")
_NOISE = re.compile(r"(?:warning:|DEBUG|TRACE|Resolved |Prepared |Installed |Using |Audited |[+-] )")
_MARKS = re.compile(r"^(?:error:|cause:|hint:|[×╰├│─▶>\s]+)\s*")
_OURS = {
    # What uv advises are its options; here is what an operator sets for the same.
    "with the `--system-certs` command-line flag": "by UV_SYSTEM_CERTS=true",
    "use `--index-strategy unsafe-best-match`": "set UV_INDEX_STRATEGY=unsafe-best-match",
    " (i.e., with `--no-build`)": "",
    " Consider using `exclude-newer-package` to override the cutoff for this package.": "",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """How a run of uv ended, and what it wrote."""

    status: int
    """Its exit status; negative: the signal that ended it."""
    output: str
    errors: str
    """Without credentials, and bounded."""


class Uv:
    """Runs uv on this machine, in directories below one of ours."""

    def __init__(self, home: Path, variables: Mapping[str, str]) -> None:
        """`home`: where all that uv keeps lies, made when it is needed, for this user alone. It has to be on
        the file system of the environments. `variables`: of `core.package_index.index_variables`."""
        self._home = home
        self._configuration, self._variables = index_configuration(variables)
        self._secrets = secrets_in(variables)

    @property
    def work(self) -> Path:
        """A directory for files that uv is to read, and the one that it runs in; made for us alone."""
        work = self._home / "work"
        work.mkdir(mode=0o700, parents=True, exist_ok=True)
        return work

    def run(self, *arguments: str, input: str = "") -> str:  # noqa: A002 # as `subprocess` calls it
        """What uv printed. Credentials are not for `arguments`: others on this machine can read them.

        Raises IndexUnreachable, EnvironmentRefused where another try would end alike, and EnvironmentFailed;
        each quotes uv, without credentials.
        """
        answer = self.ask(*arguments, input=input)
        if answer.status:
            raise self.failure(answer)
        return answer.output

    def ask(self, *arguments: str, input: str = "") -> Answer:  # noqa: A002 # as `subprocess` calls it
        """Run it, whatever comes of that. Raises EnvironmentRefused without uv, else EnvironmentFailed, of it
        DiskFull."""
        try:
            with _readable(self._configuration) as descriptor:
                ran = subprocess.run(  # noqa: S603 # our arguments
                    [find_uv(), "--config-file", f"/dev/fd/{descriptor}", *arguments],
                    cwd=self.work,
                    env=self._environment(),
                    input=input.encode(),
                    capture_output=True,
                    check=False,
                    pass_fds=[descriptor],
                )
        except OSError as error:
            raise disk_failure(error, "uv can not be started") from error
        errors = ran.stderr[:_MOST_ERRORS].decode(errors="replace")
        return Answer(ran.returncode, ran.stdout.decode(errors="replace"), self._masked(errors))

    def failure(self, answer: Answer) -> EnvironmentFailed:
        """What is wrong, by what uv wrote before it ended with another status than 0."""
        said = _sentence(answer.errors)
        if answer.status < 0:
            return EnvironmentFailed(f"uv was ended by signal {-answer.status}")
        if _CONFIGURATION.search(answer.errors):
            # Its words quote a line of ours, with the address.
            why = redact_line(answer.errors.strip().rpartition("\n")[2], LONGEST_SENTENCE)
            return EnvironmentFailed(f"the address of a package index can not be used: {why}")
        if _NO_SPACE.search(answer.errors):
            return DiskFull(f"the disk is full: {said}")
        if _CREDENTIALS_REFUSED.search(answer.errors):
            return IndexUnreachable(f"the package index refused the credentials it was asked with: {said}")
        if _UNSOLVABLE.search(answer.errors):
            return EnvironmentRefused(f"what it requires can not be installed: {said}{_hint(answer.errors)}")
        if _NO_ANSWER.search(answer.errors):
            return IndexUnreachable(f"the package index gave no answer that can be used: {said}")
        return EnvironmentFailed(f"uv ended with status {answer.status}: {said or 'it wrote nothing'}")

    def _environment(self) -> dict[str, str]:
        environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
        for name, directory in _DIRECTORIES.items():
            path = self._home / directory
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            environment[name] = str(path)
        return {**environment, "UV_HTTP_RETRIES": str(RETRIES), **self._variables, **_SETTLED}

    def _masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text


@contextmanager
def _readable(text: str) -> Iterator[int]:
    """A descriptor from which another process reads `text`, once. Raises OSError where no pipe holds it."""
    content = text.encode(errors="surrogateescape")
    reader, writer = os.pipe()
    try:
        with os.fdopen(writer, "wb", buffering=0) as file:
            os.set_blocking(writer, False)
            if file.write(content) != len(content):  # nobody reads yet
                raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        yield reader
    finally:
        os.close(reader)


def find_uv() -> str:
    """Absolute path of uv. Raises EnvironmentRefused, naming what has to be installed."""
    try:
        # By its name alone: environments of versions, whose code this is a part of, have no uv.
        return str(importlib.import_module("uv").find_uv_bin())
    except (ImportError, FileNotFoundError):
        raise EnvironmentRefused(
            "uv is not installed, which builds the environments of versions:"
            " install mlflow-canary-router[environments]"
        ) from None


def _hint(errors: str) -> str:
    return ". Wheels alone are installed (environments.only_binary)" if _NO_WHEEL.search(errors) else ""


def _sentence(errors: str) -> str:
    lines = [line.strip() for line in errors.splitlines()]
    kept = [_MARKS.sub("", line) for line in lines if line and not _NOISE.match(line)]
    text = " ".join(line for line in kept if not line.startswith(_NO_SOLUTION))
    for theirs, ours in _OURS.items():
        text = text.replace(theirs, ours)
    return redact_line(_URL_ADVICE.sub("", text), LONGEST_SENTENCE).rstrip(". ")
