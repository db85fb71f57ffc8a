"""What a team writes by hand: FastAPI before a pyfunc and uvicorn, one version: `… PORT MODEL_URI`."""

import sys
from typing import Any

import mlflow
import pandas as pd
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Split(BaseModel):
    """A table by columns and rows."""

    columns: list[str]
    data: list[list[Any]]


class Rows(BaseModel):
    """One request."""

    dataframe_split: Split


def main(port: str, model_uri: str) -> None:
    """Serve until ended."""
    app, version = FastAPI(), mlflow.pyfunc.load_model(model_uri)

    @app.get("/ping")
    def ping() -> str:
        return ""

    # Not `async`: FastAPI calls it in a thread, and a predict holds nobody else's answer up.
    @app.post("/invocations")
    def predict(rows: Rows) -> dict[str, Any]:
        table = pd.DataFrame(rows.dataframe_split.data, columns=rows.dataframe_split.columns)
        return {"predictions": version.predict(table).tolist()}

    uvicorn.run(app, host="127.0.0.1", port=int(port), access_log=False, log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
