"""The key `gate` of a registered model: what its versions have to pass before they get traffic."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from router.core.gate_metadata import DESCRIPTION, HOLDOUT, KINDS, check_required
from router.core.ids import PRODUCTION, Alias
from router.settings.fields import STRICT, Text, as_float, each_once

Hours = Annotated[float, Field(allow_inf_nan=False, gt=0, le=87_600), as_float]
Required = Annotated[
    Text,
    AfterValidator(check_required),
    Field(json_schema_extra={"pattern": rf"^({DESCRIPTION}|{HOLDOUT}|({'|'.join(KINDS)})\..+)$"}),
]


class GateSettings(BaseModel):
    """What the gate is asked for. It never stands in the way of production: of a start, or of a rollback."""

    model_config = STRICT

    canary: Literal["off", "required"] = "off"
    """required: a version gets no requests as a canary, or under a further alias, before the registry has a
    record on it that `canary-router gate` passed it. It is loaded meanwhile."""
    production: Literal["off", "report"] = "off"
    """report: a version that serves as production and never passed is reported, and served all the same."""
    max_age_hours: Hours = 168.0
    """How old a record may be when a canary is let through by it. Of production it may have any age."""
    require: Annotated[list[Required], Field(max_length=50), AfterValidator(each_once)] = Field(default=[])
    """What has to be known of a version besides: params.NAME, tags.NAME or metrics.NAME of it, of its run or
    of its LoggedModel, or description; with holdout, that it passed on a hold-out."""
    key_file: Text | None = None
    """File with the key by which records have to be signed, 16 to 4096 bytes. Unset: signatures are not
    looked at, and whoever may write the registry's tags may write a record."""

    def asks_for(self, alias: Alias) -> bool:
        """Whether what serves as `alias` is looked at. A canary is also for what may become production."""
        reported = self.production == "report"
        return reported if alias == PRODUCTION else reported or self.canary == "required"

    @property
    def key_path(self) -> Path | None:
        """Where the key is; None: there is none."""
        return Path(self.key_file).expanduser().absolute() if self.key_file else None
