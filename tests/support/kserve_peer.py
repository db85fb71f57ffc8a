"""Serves one saved version by KServe's own model server, as somebody's custom predictor does.

Run by a Python that has KServe and MLflow: `python kserve_peer.py DIRECTORY NAME HOST PORT`. KServe listens
on all addresses, and here on HOST alone, so that several run beside each other.
"""

import asyncio
import sys
from typing import Any

import kserve.model_server
import mlflow.pyfunc
from kserve import InferRequest, InferResponse, Model, ModelServer
from kserve.protocol.rest.server import RESTServer
from kserve.utils.utils import get_predict_response

directory, name, host, port = sys.argv[1:]


class Version(Model):  # type: ignore[misc]
    """A version of MLflow's."""

    def load(self) -> bool:
        self.version = mlflow.pyfunc.load_model(directory)
        self.ready = True
        return True

    async def predict(self, payload: InferRequest, *_: Any, **__: Any) -> InferResponse:
        predicted = await asyncio.to_thread(self.version.predict, payload.as_dataframe())
        return get_predict_response(payload, predicted, self.name)


class OnOneAddress(RESTServer):  # type: ignore[misc]
    """Leaves the port free at other addresses."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.config.host = host


kserve.model_server.RESTServer = OnOneAddress
version = Version(name)
version.load()
ModelServer(http_port=int(port), enable_grpc=False).start([version])
