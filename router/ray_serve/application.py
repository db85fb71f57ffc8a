"""The Serve application of one version: what `import_path` of a rendered configuration file names.

It runs in Ray's processes, with the `runtime_env` of the file: the version is fetched, loaded and warmed up
when a replica starts, and requests are answered as a worker answers them.
"""

import os
from typing import Any

from msgspec import Struct, convert
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from router.core.ids import VersionId
from router.errors import LoadFailed
from router.protocol.messages import LoadSpec
from router.worker.load import load_version
from router.worker.own_modules import hide_own_modules
from router.worker.tracking import use_tracking
from router.worker.version_download import download_version
from router.worker.version_server import VersionServer

_MOST_THREADS = 32
"""Predicts side by side at most; else processors and four more, as MLflow's server has."""


class VersionArguments(Struct, frozen=True, forbid_unknown_fields=True):
    """`args` of the application, as `canary-router render` writes them."""

    model: str
    """Name of the registered model."""
    version: int
    source: str
    """Where the version's files lie, as MLflow reads it: `models:/NAME/NUMBER`, or any other address."""
    max_rows: int | None = None
    """Rows of one request; above it 413. None: any number."""
    nan_is_null: bool = False
    """Whether NaN and infinities in answers of `/invocations` are null."""
    model_config: dict[str, Any] | None = None
    """Over what the version was logged with, key by key. None: as it was logged."""
    predict_timeout_seconds: float = 60.0
    """A predict that takes longer makes its replica unhealthy, and Serve replaces it."""


class Version:
    """One replica: one version in one process."""

    def __init__(self, arguments: VersionArguments) -> None:
        """Fetch, load and warm up. Raises RuntimeError with one bounded line."""
        self._predict_timeout_seconds = arguments.predict_timeout_seconds
        version = VersionId(arguments.model, arguments.version)
        directory = download_version(version, arguments.source)
        spec = LoadSpec(
            *(version, str(directory), ()),
            batches=False,
            nan_is_null=arguments.nan_is_null,
            model_config=arguments.model_config,
        )
        # From here on as in a worker: the name `router` is the version's, and the registry is not.
        hide_own_modules()
        try:
            loaded = load_version(spec, use_tracking(None))
        except LoadFailed as failure:
            # Serve's controller gets it, where our own classes may not be installed.
            raise RuntimeError(f"{version} is not ready: {failure}") from None
        threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)) + 4)
        self._server = VersionServer(version, loaded, threads=threads, max_rows=arguments.max_rows)

    async def __call__(self, request: Request) -> Response:
        """The answer to one request below the route prefix."""
        scope = request.scope
        path = scope["path"].removeprefix(scope["root_path"])
        content_type = request.headers.get("Content-Type")
        answer = await self._server.answer(request.method, path, content_type, await request.body())
        return Response(answer.body, answer.status, headers={"Content-Type": answer.content_type})

    async def check_health(self) -> None:
        """Asked by Serve. Raises RuntimeError when a predict takes too long: its process has to end."""
        seconds = self._server.longest_seconds
        if seconds > self._predict_timeout_seconds:
            raise RuntimeError(f"a predict has not returned for {seconds:.0f} s")


def application(args: dict[str, Any]) -> Any:
    """The application with these `args`. Raises msgspec.ValidationError."""
    return serve.deployment(Version).bind(convert(args, VersionArguments))
