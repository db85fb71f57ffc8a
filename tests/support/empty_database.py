"""A registry's database without models, as MLflow makes it: its migrations compute for a second."""

import shutil
import warnings
from pathlib import Path

import pytest
from mlflow.store.db import utils as mlflow_schema
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from tests.support.built_once import made_once

NAME = "mlflow.db"


def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file, made once in a run; to be copied."""
    return made_once("empty", _migrate, tmp_path_factory) / NAME


def beside_empty_database(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new directory with nothing but a copy in it."""
    directory = tmp_path_factory.mktemp(name)
    shutil.copy(empty_database(tmp_path_factory), directory)
    return directory


def _migrate(directory: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own mappers use what SQLAlchemy 2.1 deprecates
        mlflow_schema._initialize_tables(create_engine(f"sqlite:///{directory / NAME}", poolclass=NullPool))
