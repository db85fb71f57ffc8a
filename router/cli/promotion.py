"""`canary-router promote` and `rollback`: move aliases of the registry with the operator's credentials."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from router.cli.gateways import Answer, Gateways, Refusal, Reply, gateways_of, settings_unless_named
from router.cli.levers import EXIT_DONE, EXIT_REFUSED, EXIT_UNREACHABLE, who_says
from router.cli.split import find_model
from router.core.redaction import redact_line, redact_uri
from router.errors import (
    ConfigRefused,
    GatewaysUnreachable,
    PromotionRefused,
    RegistryError,
    RegistryRefused,
    RegistryUnavailable,
)
from router.promotion.gateway_view import GatewayView, views_of
from router.promotion.ports import (
    VERB_SECONDS,
    Command,
    Documents,
    NoDocument,
    Registry,
    RoleNames,
    is_stage,
)
from router.promotion.promote import Promotion, promote
from router.promotion.records import LONGEST_NAME
from router.promotion.rollback import rollback
from router.settings import RegistrySettings, Settings

_LONGEST_LINE = 2000
_ADDRESS_VARIABLES = ("MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI")
_HINT = "with --url http://HOST:PORT, and --registry URI, none is needed"


@dataclass(frozen=True, slots=True)
class MoveOptions:
    """What both commands take."""

    config_path: Path
    urls: Sequence[str]
    """Gateways; none: those of the configuration."""
    registry: str | None
    """None: the configuration's."""
    by: str
    reason: str
    wait_seconds: float | None
    """None: nobody waits."""

    @classmethod
    def of(
        cls,
        config_path: Path,
        urls: Sequence[str],
        registry: str | None,
        by: str | None,
        reason: str,
        wait_seconds: float | None,
    ) -> "MoveOptions":
        """Raises a usage error for a reason, or a name, that can not be recorded."""
        by = who_says(reason, by)
        if len(by) > LONGEST_NAME:
            raise click.UsageError(f"--by has {len(by)} characters, {LONGEST_NAME} at most")
        return cls(config_path, urls, registry, by, reason, wait_seconds)


def promote_canary(options: MoveOptions, model: str, *, force: bool, keep_canary: bool, yes: bool) -> int:
    """Make MODEL's canary production; returns 0 done, 1 refused, 3 unreachable."""
    move = _Move(options, model)
    if keep_canary and is_stage(move.names.canary):
        raise click.UsageError(
            f"--keep-canary: the canary of {model} is what is in {move.names.canary}, which a version leaves"
            " when it becomes production"
        )
    promotion, terminal = Promotion(force=force, keep_canary=keep_canary), _Terminal(yes=yes)
    return move.run(
        lambda registry: promote(registry, move.gateways, move.command, promotion, terminal), terminal
    )


def roll_back(options: MoveOptions, model: str, to: int | None) -> int:
    """Have production go back to a version; returns 0 done, 1 refused, 3 unreachable."""
    move = _Move(options, model)
    terminal = _Terminal(yes=False)
    return move.run(
        lambda registry: rollback(registry, move.gateways, move.command, terminal, to=to), terminal
    )


def open_registry(uri: str, tracking_uri: str) -> Registry:
    """To be written with the operator's credentials. Raises RegistryError."""
    # Read by MLflow at import, which takes seconds: not before everything else is known to be right.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from router.promotion.registry import MlflowRegistry

    return MlflowRegistry(uri, tracking_uri)


class _Move:
    """One command: whom it asks, and how what it raises is shown."""

    def __init__(self, options: MoveOptions, model: str) -> None:
        """Raises ConfigRefused, or a usage error for what is no address, and where the roles' names are not
        known."""
        self._options = options
        self._settings = settings_unless_named(options.config_path, options.urls, _HINT)
        self.gateways = _AllGateways(gateways_of(self._settings, options.urls))
        self.names = _role_names(self._settings, self.gateways, model, asked=bool(options.urls))
        self.command = Command(model, self.names, options.by, options.reason, options.wait_seconds)

    def run(self, act: Callable[[Registry], None], terminal: "_Terminal") -> int:
        """The exit code."""
        try:
            act(open_registry(*self._addresses()))
        except GatewaysUnreachable as error:
            return terminal.fail(error, EXIT_UNREACHABLE)
        except PromotionRefused as error:
            return terminal.fail(error, EXIT_REFUSED)
        except RegistryUnavailable as error:
            return terminal.fail(f"{error}{self._registry_hint()}", EXIT_UNREACHABLE)
        except RegistryError as error:
            hint = self._registry_hint() if isinstance(error, RegistryRefused) else ""
            return terminal.fail(f"{error}{hint}", EXIT_REFUSED)
        terminal.report("done" if self._options.wait_seconds is not None else "written, and not waited for")
        return EXIT_DONE

    def _addresses(self) -> tuple[str, str]:
        if (given := self._options.registry) is not None:
            return given, given
        if self._settings is not None:
            return self._settings.registry.addresses(os.environ)
        if not any(map(os.environ.get, _ADDRESS_VARIABLES)):
            raise click.UsageError(
                f"without a valid configuration name the registry: --registry, or {_ADDRESS_VARIABLES[0]}"
            )
        return RegistrySettings().addresses(os.environ)

    def _registry_hint(self) -> str:
        hints = []
        if self._options.registry is None:
            hints.append("that is where the gateway finds it: --registry names it as this machine does")
        if self._settings is not None and self._settings.registry.credentials():
            hints.append("it was asked with MLflow's own variables, not with the gateway's credential files")
        return "".join(f"; {hint}" for hint in hints)


class _AllGateways:
    """Implements `router.promotion.ports.Gateways`."""

    def __init__(self, gateways: Gateways) -> None:
        self._gateways = gateways

    def get(self, path: str) -> Documents:
        return _documents(self._gateways.get(path, "models"))

    def post(self, path: str, body: Mapping[str, Any], *, timeout_seconds: float = VERB_SECONDS) -> Documents:
        try:
            return _documents(self._gateways.post(path, body, timeout_seconds=timeout_seconds))
        except ConfigRefused as refused:
            # A token's file that is only on the gateway's machine. The verbs help; nothing depends on them.
            why = "; ".join(refused.problems)
            return {
                redact_uri(gateway): NoDocument(f"{redact_uri(gateway)} was not asked: {why}", None)
                for gateway in self._gateways.addresses
            }


def _documents(replies: Sequence[Reply]) -> Documents:
    return {redact_uri(reply.gateway): _document(reply) for reply in replies}


def _document(reply: Reply) -> Mapping[str, Any] | NoDocument:
    if isinstance(reply, Answer):
        return reply.document
    if isinstance(reply, Refusal):
        return NoDocument(f"{redact_uri(reply.gateway)} refuses: {reply.why}", reply.status)
    return NoDocument(reply.why, None)


class _Terminal:
    """Implements `router.promotion.ports.Operator`."""

    def __init__(self, *, yes: bool) -> None:
        self._yes = yes

    def report(self, line: str) -> None:
        click.echo(redact_line(line, _LONGEST_LINE))  # it may hold what a version or a gateway says

    def confirm(self, question: str) -> bool:
        return self._yes or (sys.stdin.isatty() and click.confirm(question))

    def fail(self, sentence: object, code: int) -> int:
        """Show why the command ends, and return its exit code."""
        click.echo(redact_line(str(sentence), _LONGEST_LINE), err=True)
        return code


def _role_names(settings: Settings | None, gateways: _AllGateways, model: str, *, asked: bool) -> RoleNames:
    """By the configuration; where that has no such model, and gateways were named, by what these say."""
    if settings is not None and (model in settings.models or not asked):
        wanted = find_model(settings, model)
        names = RoleNames.of(wanted.aliases, wanted.previous_name)
    else:
        names = _names_of_gateways(gateways, model)
    if names.previous in (names.production, *names.canaries.values()):
        raise click.UsageError(f"@{names.previous} is an alias of a role already: it can not be overwritten")
    return names


def _names_of_gateways(gateways: _AllGateways, model: str) -> RoleNames:
    why = []
    for view in views_of(gateways, model).values():
        if isinstance(view, GatewayView):
            return RoleNames.of(view.names, view.previous_name)
        why.append(view.why)
    raise click.UsageError(
        f"what the registry calls the roles of {model} is not known: the configuration does not say it, and"
        f" {'; '.join(why)}"
    )
