"""What a worker is asked to load: one version, as its model's settings say."""

from msgspec.structs import replace

from router.core.ids import VersionId
from router.core.scores import OutputSpec
from router.processes.processors import processors
from router.protocol.messages import LoadSpec
from router.settings import ModelSettings

_MOST_THREADS = 32


def load_spec(
    version: VersionId,
    directory: str,
    settings: ModelSettings,
    production_scores: tuple[OutputSpec, ...] | None = None,
) -> LoadSpec:
    """What a worker needs to load `version`, whose files are in `directory`, as its model's settings say.

    `production_scores`: what production counts of its own accord; None for production itself.
    """
    tracking, scores = settings.tracking, settings.scores.outputs
    return LoadSpec(
        version,
        directory,
        scores,
        batches=settings.batching,
        rtol=settings.batching_rtol,
        cpu_threads=settings.cpu_threads,
        threads=settings.threads or min(_MOST_THREADS, processors() + 4),
        nan_is_null=settings.nan,
        tracking=tracking.destination() if tracking else None,
        model_config=settings.configuration,
        production_scores=production_scores if scores is None else None,
        writable=settings.writable,
        environment_variables=tuple(settings.environment_variables),
        own_environment=settings.environment == "own",
    )


def without_production(spec: LoadSpec) -> LoadSpec:
    """`spec` without what depends on another version."""
    return replace(spec, production_scores=None)
