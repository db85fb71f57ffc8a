"""The child that holds one version: first frame LoadSpec, then requests, until the gateway is gone."""

import logging
import os
import socket
import tempfile

import numpy as np
from msgspec import structs

from router.errors import LoadFailed
from router.processes.child_logging import flush, log_event
from router.processes.gc_tuning import freeze_heap
from router.protocol.channel import Channel
from router.protocol.cpu_threads import learns_cpu_threads
from router.protocol.messages import LoadSpec, failed_header, load_spec, loaded_header, ready_header
from router.worker.load import load_version
from router.worker.own_files import copy_for_this_worker
from router.worker.own_modules import hide_own_modules
from router.worker.predict_threads import use_threads
from router.worker.request_loop import RequestLoop
from router.worker.tracking import use_tracking

_DOING = {"load": "load", "warmup": "warm up"}


def main(sock: socket.socket) -> None:
    """Hold the version named in the first frame. Returns when the other side of `sock` is gone."""
    np.random.seed()  # a fork copies the global generator: without this, all workers draw the same numbers
    channel = Channel(sock)
    try:
        _hold(channel)
    except ConnectionError:  # the gateway went away while we answered
        return


def _hold(channel: Channel) -> None:
    if (first := channel.receive()) is None:
        return
    spec, call = load_spec(first.header), first.header.get("id")
    cpu_threads = spec.cpu_threads or 1
    os.environ.update(first.header["environment"])
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(cpu_threads)  # for libraries that the version brings
    hide_own_modules()
    try:
        _enter(first.header["working_directory"])
        _write_temporary_files_to(first.header["temporary_directory"])
        spec = _with_own_files(spec, first.header["own_copy"])
        note = use_tracking(spec.tracking)
        loaded = load_version(spec, note, on_loaded=lambda: channel.send(loaded_header()))
    except LoadFailed as failure:
        log_event(f"{spec.version} failed to {_DOING[failure.phase]}", error=failure.__cause__)
        channel.send({**failed_header(failure), "id": call})
        return
    use_threads(cpu_threads)
    # What MLflow warns about on a request, it warns about on every one, naming the caller's columns.
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    freeze_heap()
    flush()  # what was printed before READY can hold no request, and is shown
    channel.send({**ready_header(loaded.info), "id": call})
    loop = RequestLoop(
        *(channel, loaded.scorer, loaded.info.batching, loaded.trial, spec.threads, loaded.check),
        cpu_threads=cpu_threads,
    )
    if learns_cpu_threads(spec):
        loop.learn_cpu_threads()
    loop.run()


def _enter(working_directory: str | None) -> None:
    if working_directory is not None:
        try:
            os.chdir(working_directory)
        except OSError as error:
            raise LoadFailed(f"its working directory is not there: {error.strerror}", phase="load") from error


def _write_temporary_files_to(directory: str | None) -> None:
    if directory is not None:
        # joblib would take /dev/shm, where what a killed process leaves takes memory.
        os.environ["TMPDIR"] = os.environ["JOBLIB_TEMP_FOLDER"] = directory
        tempfile.tempdir = None  # it remembers where the fork server's are


def _with_own_files(spec: LoadSpec, own_copy: str | None) -> LoadSpec:
    if own_copy is None:
        return spec
    try:
        copy_for_this_worker(spec.directory, own_copy)
    except OSError as error:
        reason = error.strerror or str(error)
        raise LoadFailed(f"it can not have a copy of its own: {reason}", phase="load") from error
    return structs.replace(spec, directory=own_copy)
