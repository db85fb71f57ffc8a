"""The fork server: imports once, runs one thread, forks on request.

The gateway starts it as `python -m router.processes.forkserver_main CONTROL LIFELINE NAME [MODULE …]`: two
descriptors, what `ps` calls it, and modules to import beside MLflow's own. Over CONTROL, a SEQPACKET socket,
a request is `{"id": …, "role": …, "modules": […]}`, the modules to be imported before the fork, with two
descriptors, the child's socket and the read end of its lifeline, and a third where the gateway reads what it
prints. The answer is `{"id": …, "pid": …, "between": …}`, the numbers of the child and of its first parent,
with the child's pidfd; or `{"id": …, "error": …}`. A child runs `main(socket)` of its role's module.

`python -m router.processes.forkserver_main child ROLE SOCKET LIFELINE [OUTPUT]` is one such child by itself,
without a fork server.

In the environment of a version this package is not installed: `router.processes.child.ChildPython` starts it
there by other means, for the role of workers alone, with the same arguments.
"""

import atexit
import fcntl
import importlib
import importlib.util
import json
import os
import platform
import select
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from router.processes.child_logging import log_cause, redirect_output
from router.processes.gc_tuning import collector_off, freeze_imports
from router.processes.installed_packages import read_quickly
from router.processes.process_state import (
    ignore_stop_signals,
    replace_main_module,
    restore_in_what_is_started,
    write_for_this_user_alone,
)

ROLES = {
    "worker": "router.worker.main",
    "agent": "router.agent.agent_main",
    "fetch": "router.agent.fetch_main",
    "environment": "router.environments.build_main",
    "describe": "router.worker.description_main",
    "scores": "router.worker.answered_scores",
}
IMPORTS = {
    "worker": (
        *("mlflow.pyfunc", "mlflow.pyfunc.scoring_server", "pandas", "numpy", "orjson", "threadpoolctl"),
    ),
    # For each download: half a second of a processor, which a swap would take from the requests beside it.
    "fetch": (
        *("router.agent.store", "router.agent.source", "router.agent.download"),
        *("mlflow.store.model_registry.sqlalchemy_store", "mlflow.store.tracking.sqlalchemy_store"),
    ),
}
"""By role, what is imported before the first fork, beside the role's own module."""
_NOOP_MODEL = f"""flavors:
  python_function:
    loader_module: router.worker.noop_model
    python_version: {platform.python_version()}
"""


def die_with_parent(lifeline: int, *, group: bool) -> None:
    """Have this process killed as soon as the write end of `lifeline` is gone, even while it is busy in C.

    With `group`, so is all that it started and that stayed in the process group it leads.
    """
    if sys.platform != "linux":  # no choice of signal: a thread has to look, which a predict in C can delay
        threading.Thread(target=_watch, args=(lifeline,), daemon=True).start()
        return
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpid() if group else os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(lifeline, 0)
    if poll.poll(0):  # the gateway was gone before the signal was asked for
        os._exit(1)


def _watch(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(1)


def set_process_name(name: str) -> None:
    """What `ps` and `top` call this process; at most 15 characters."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name)


def warm(modules: Sequence[str], roles: Collection[str]) -> None:
    """Import what children in `roles` need, and fill what MLflow fills on its first load; starts no thread.

    `modules` are imported as well, where they are there.
    """
    imports = [name for role in roles for name in IMPORTS.get(role, ())]
    for name in (*imports, *(ROLES[role] for role in roles)):
        if _is_installed(name):
            importlib.import_module(name)
    preload(modules)
    import mlflow.pyfunc
    import mlflow.tracing
    import threadpoolctl
    from mlflow.exceptions import MlflowException
    from mlflow.utils import requirements_utils

    from router.worker.environment_check import installed_versions

    installed_versions()
    mlflow.tracing.disable()  # as in most workers; what it imports takes 25 ms, once
    threadpoolctl.threadpool_info()  # finds the libraries whose threads each child will set: 15 ms, once
    with _temporary_directory() as directory, read_quickly(requirements_utils.importlib_metadata):
        # The first load builds MLflow's map of installed packages, which every child inherits.
        Path(directory, "MLmodel").write_text(_NOOP_MODEL)
        Path(directory, "requirements.txt").write_text("mlflow\n")
        with suppress(MlflowException):  # MLFLOW_ALLOW_MODEL_CODE_EXECUTION=false: each version will fail so
            mlflow.pyfunc.load_model(directory)
    freeze()


def _temporary_directory() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="canary-router-")
    except FileNotFoundError:  # as Python reports that it found no directory which it can write to
        sys.exit(
            "there is no place for temporary files: set TMPDIR to a directory that this user can write to"
        )


def preload(modules: Sequence[str]) -> None:
    """Import what can be imported of `modules`."""
    for name in modules:
        # A library that is not installed, or is broken, is no loss here: its versions will fail, and say why.
        try:
            if _is_installed(name):
                importlib.import_module(name)
        except Exception:  # noqa: BLE001 - an import runs whatever the library does
            traceback.print_exc()


def freeze() -> None:
    """Share what is in memory now with later forks. Raises RuntimeError where that is not possible."""
    freeze_imports()
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise RuntimeError(f"{threads} threads after the imports: a fork would copy the locks they hold")


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # nor is its parent
        return False


def serve(control: socket.socket, modules: Sequence[str], umask: int) -> None:
    """Fork one child per request, until the other side of `control` is gone.

    `modules` are imported; what children start gets `umask`.
    """
    shared = set(modules)
    control.send(json.dumps({"ready": True}).encode())
    while True:
        try:
            message, fds, _, _ = socket.recv_fds(control, 4096, 3, socket.MSG_CMSG_CLOEXEC)
        except ConnectionError:
            return
        if not message:
            return
        request = json.loads(message)
        if not shared.issuperset(request["modules"]):
            shared.update(request["modules"])
            with collector_off():
                preload(request["modules"])
                freeze()
        try:
            _fork(control, request, fds, umask)
        except OSError as error:  # no memory or no process slot now; the gateway tries again later
            reply(control, {"id": request["id"], "error": f"fork: {error}"})
        finally:
            for fd in fds:
                os.close(fd)


def _fork(control: socket.socket, request: dict[str, Any], fds: Sequence[int], umask: int) -> None:
    # Twice, so that the child's parent becomes the gateway (a child subreaper): it alone reads exit statuses,
    # whatever happens to this process.
    between = os.fork()
    if between:
        os.waitpid(between, 0)
        return
    try:
        child = os.fork()
        if not child:
            control.close()
            run_child(request["role"], umask, *fds)
        reply(control, {"id": request["id"], "pid": child, "between": os.getpid()}, [os.pidfd_open(child)])
    except OSError as error:
        reply(control, {"id": request["id"], "error": f"fork: {error}"})
    finally:
        os._exit(0)


def reply(control: socket.socket, message: dict[str, object], fds: Sequence[int] = ()) -> None:
    """Answer the gateway; nothing happens when it is gone."""
    with suppress(ConnectionError):  # the gateway is gone: its lifelines end whatever was started
        socket.send_fds(control, [json.dumps(message).encode()], fds)


def run_child(role: str, umask: int, sock: int, lifeline: int, output: int | None = None) -> NoReturn:
    """Run one child in this process until its work is done, then exit.

    What it prints goes to `output`; what it starts gets `umask`.
    """
    code = 1
    try:
        if output is not None:
            redirect_output(output)
        # A group of its own: a Ctrl-C of the terminal does not reach what a version starts, and the gateway
        # ends the whole group. When started by `spawn` it leads one already.
        os.setpgid(0, 0)
        die_with_parent(lifeline, group=True)
        set_process_name(f"router-{role}")
        restore_in_what_is_started(umask)
        replace_main_module()
        importlib.import_module(ROLES[role]).main(socket.socket(fileno=sock))
        code = 0
    except BaseException as error:  # noqa: BLE001 - nothing may return into the fork server's own stack
        traceback.print_exc()
        log_cause(error)
    finally:
        end(code)


def end(code: int) -> NoReturn:
    """Leave without tearing the interpreter down, but after what libraries registered for the end."""
    try:
        atexit._run_exitfuncs()  # noqa: SLF001 - as multiprocessing does; os._exit runs none of them
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def main(arguments: Sequence[str], roles: Collection[str] = tuple(ROLES)) -> None:
    """Run the fork server, which imports what children in `roles` need, or one child by itself."""
    ignore_stop_signals()
    umask = write_for_this_user_alone()
    if arguments[0] == "child":
        run_child(arguments[1], umask, *map(int, arguments[2:]))
    set_process_name(arguments[2])
    control = socket.socket(fileno=int(arguments[0]))
    die_with_parent(int(arguments[1]), group=False)  # a child that was just forked is still of its group
    with collector_off():
        warm(arguments[3:], roles)
    serve(control, arguments[3:], umask)


if __name__ == "__main__":
    main(sys.argv[1:])
