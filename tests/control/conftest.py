"""Models in front of a fake world, as under the tests of serving."""

from tests.serving.conftest import (  # noqa: F401 - fixtures, by name
    dispatcher,
    facts,
    in_force,
    models,
    serving,
    world,
)
