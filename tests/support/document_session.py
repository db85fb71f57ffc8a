"""Plays the blocks of one document in their order, as its reader would in one directory."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType

from router.demo.gateway_process import clean_environment
from router.demo.workspace import free_ports
from tests.support.document_blocks import Block, Step, shows, steps
from tests.support.gateway import NO_BALANCER

STAYS = re.compile(r"(?:\w+=\S+ )*(?:canary-router serve(?! --check)|mlflow models serve) ")
"""Commands that a reader leaves running in a terminal of their own."""
LOOKS = (
    "curl ",
    *(f"canary-router {one}" for one in ("status", "compare", "plan", "route", "history", "journal")),
)
"""Commands that change nothing: a reader whose change is not live yet types them again."""
PORTS = (8080, 8081, 5000)
STAYS_SECONDS = 60.0
LOOKS_SECONDS = 60.0
COMMAND_SECONDS = 60.0
PRINTED_SECONDS = 0.2
"""Between two looks at what a command that stays has printed so far."""
LOOK_AGAIN_SECONDS = 1.0
"""Each look is a process of its own, which takes from the gateway what it waits for."""


class Session:
    """A directory with a registry, and what was started there; `with` ends it all.

    The documents' ports stand for free ones, and the registry is polled more often than by default. The rest
    is as written.
    """

    def __init__(
        self, directory: Path, slack: float, environment: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """`environment` stands over what the session sets by itself."""
        self._directory = directory
        self._slack = slack
        self._ports = dict(zip(PORTS, free_ports(*(0 for _ in PORTS)), strict=True))
        self._running: list[subprocess.Popen[bytes]] = []
        programs = Path(sys.executable).parent
        self._environment = {
            **clean_environment(),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "110",
            "XDG_CACHE_HOME": str(directory / "cache"),
            "CANARY_ROUTER_SERVER__LISTEN": f"0.0.0.0:{self._ports[8080]}",
            "CANARY_ROUTER_SERVER__ADMIN": f"127.0.0.1:{self._ports[8081]}",
            "CANARY_ROUTER_REGISTRY__POLL_SECONDS": "0.5",
            **NO_BALANCER,
            **environment,
        }

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._running:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)  # the session we started it in
        for process in self._running:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def play(self, block: Block) -> None:
        """Save a named YAML block, run a Python block or every command of a console block."""
        if block.language == "yaml" and (name := file_name(block)):
            (self._directory / name).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            self._demand(block, Step("python", ()), self._run([sys.executable, "-c", block.text]))
        elif block.language == "console":
            for step in steps(block):
                self._play(block, step)

    def _play(self, block: Block, step: Step) -> None:
        if STAYS.match(step.command):
            self._leave_running(block, step)
        elif step.command.startswith(LOOKS):
            self._look(block, step)
        else:
            self._demand(block, step, self._run(["sh", "-c", self._here(step.command)]))

    def _run(self, arguments: list[str]) -> tuple[int, str]:
        done = subprocess.run(
            arguments,
            cwd=self._directory,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS * self._slack,
        )
        return done.returncode, self._there(done.stdout)

    def _look(self, block: Block, step: Step) -> None:
        give_up = time.monotonic() + LOOKS_SECONDS * self._slack
        while True:
            code, output = self._run(["sh", "-c", self._here(step.command)])
            if (code == 0 and shows(step.shown, output)) or time.monotonic() > give_up:
                break
            time.sleep(LOOK_AGAIN_SECONDS)
        self._demand(block, step, (code, output))

    def _leave_running(self, block: Block, step: Step) -> None:
        """Start it; on with the document when it has printed what is shown. Standard error is the log."""
        number = len(self._running)
        printed, log = (self._directory / f"{number}.{kind}" for kind in ("out", "log"))
        with printed.open("wb") as out, log.open("wb") as err:
            process = subprocess.Popen(
                ["sh", "-c", self._here(step.command)],
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self._running.append(process)
        give_up = time.monotonic() + STAYS_SECONDS * self._slack
        while not shows(step.shown, self._there(printed.read_text())):
            reported = f"{block}: $ {step.command}\n{printed.read_text()}{log.read_text()}"
            assert process.poll() is None, reported
            assert time.monotonic() < give_up, reported
            time.sleep(PRINTED_SECONDS)

    def _demand(self, block: Block, step: Step, done: tuple[int, str]) -> None:
        code, output = done
        assert code == 0, f"{block}: $ {step.command}\nexit code {code}\n{output}"
        expected = "\n".join(step.shown)
        assert shows(step.shown, output), f"{block}: $ {step.command}\n{output}\nis not\n{expected}"

    def _here(self, command: str) -> str:
        """The command with our ports for those of the documents."""
        return re.sub(r":(8080|8081)\b|(?<=-p )5000\b|:5000\b", self._replaced, command)

    def _replaced(self, found: re.Match[str]) -> str:
        text = found[0]
        return text.replace(text.lstrip(":"), str(self._ports[int(text.lstrip(":"))]))

    def _there(self, output: str) -> str:
        for written, ours in self._ports.items():
            output = output.replace(f":{ours}", f":{written}")
        return output


def file_name(block: Block) -> str:
    """`router.yaml`, for a block whose first line is `# router.yaml`; else nothing."""
    named = re.fullmatch(r"# ([\w-]+\.yaml)", block.text.partition("\n")[0])
    return named[1] if named else ""
