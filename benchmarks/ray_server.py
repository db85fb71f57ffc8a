"""Ray Serve by HTTP, one replica with a pyfunc, as documented: `… PORT MODEL_URI DIRECTORY_OF_RAY`."""

import signal
import sys
from typing import Any

import mlflow
import pandas as pd
import ray
from ray import serve
from starlette.requests import Request

_CPUS = 2
"""Ray counts them itself else, and waits for more than a pinned machine has."""
_STORE_BYTES = 100 << 20
"""Of shared memory; nothing here uses it."""


@serve.deployment
class Version:
    """Answers `/ping` and predictions."""

    def __init__(self, model_uri: str) -> None:
        self._version = mlflow.pyfunc.load_model(model_uri)

    async def __call__(self, request: Request) -> Any:
        """A table by columns and rows in, predictions out."""
        if request.method == "GET":
            return ""
        rows = (await request.json())["dataframe_split"]
        table = pd.DataFrame(rows["data"], columns=rows["columns"])
        return {"predictions": self._version.predict(table).tolist()}


def main(port: str, model_uri: str, directory: str) -> None:
    """Serve until ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        ray.init(
            num_cpus=_CPUS, object_store_memory=_STORE_BYTES, include_dashboard=False, _temp_dir=directory
        )
        serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
        serve.run(Version.bind(model_uri), route_prefix="/")
        signal.pause()
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
