"""What differs between two configurations, and when each difference may take effect."""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel

from router.settings.fields import Reload, reload_of
from router.settings.gateway import Settings
from router.settings.model import ModelSettings


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between the configuration in force and a new one."""

    path: str
    """Dotted, such as `models.sentiment.split`."""
    reload: Reload
    what: str
    """What happened to it, to be read after the path: `changed`, `added`, `removed`…"""

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def changes(old: Settings, new: Settings) -> list[Change]:
    """Every key whose value differs, in the order of the new file; removed models last."""
    return list(_all(old, new))


def _all(old: Settings, new: Settings) -> Iterator[Change]:
    yield from _fields("server", old.server, new.server)
    yield from _fields("registry", old.registry, new.registry)
    yield from _fields("log", old.log, new.log)
    yield from _fields("fleet", old.fleet, new.fleet)
    yield from _fields("environments", old.environments, new.environments)
    if old.notify != new.notify:
        yield Change("notify", reload_of(Settings.model_fields["notify"].metadata), "changed")
    before, after = next(iter(old.models)), next(iter(new.models))
    if before != after:
        yield Change(
            "models", Reload.REBUCKETING, f"{after} instead of {before} would answer at /invocations"
        )
    for name, model in new.models.items():
        path = f"models.{name}"
        if name in old.models:
            yield from _model(path, old.models[name], model)
        elif "split" in model.model_fields_set:
            yield Change(path, Reload.HOT, "added")
        else:
            yield Change(path, Reload.REBUCKETING, "added without a split of its own")
    for name in old.models:
        if name not in new.models:
            yield Change(f"models.{name}", Reload.REBUCKETING, "removed")


def _model(path: str, old: ModelSettings, new: ModelSettings) -> Iterator[Change]:
    # A file cut after `key` still is a valid one, with the default split that nobody wrote.
    if "split" in old.model_fields_set and "split" not in new.model_fields_set:
        yield Change(f"{path}.split", Reload.REBUCKETING, "no longer written")
        old = old.model_copy(update={"split": new.split})
    yield from _fields(path, old, new)


def _fields(path: str, old: BaseModel, new: BaseModel) -> Iterator[Change]:
    for name, field in type(new).model_fields.items():
        if getattr(old, name) != getattr(new, name):
            yield Change(f"{path}.{field.alias or name}", reload_of(field.metadata), "changed")
