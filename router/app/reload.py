"""What a reload does: every part that follows the settings, and the certificates of both listeners."""

from dataclasses import dataclass

from router.adapters.addresses.loader import VersionAddresses
from router.adapters.log.child_log import ChildLog
from router.adapters.log.format import configure_logging
from router.control.caps import CapControl
from router.control.config_watch import ConfigWatch, Reloaded
from router.control.periodic import PeriodicTask
from router.processes.disk import in_disk_thread
from router.serving.load_gate import LoadLimits
from router.serving.models import ModelSet
from router.settings import ServerSettings, Settings
from router.web.listeners import Certificate


@dataclass(frozen=True, slots=True)
class SettingsFollowers:
    """The parts of a gateway that follow its settings; whatever reads them at each use is not among them."""

    child_log: ChildLog
    load_limits: LoadLimits
    addresses: VersionAddresses
    caps: CapControl
    models: ModelSet
    alias_loop: PeriodicTask

    def apply(self, settings: Settings) -> None:
        """Put `settings` in force."""
        configure_logging(settings.log.level, settings.log.format)
        self.child_log.shown = settings.log.model_output
        self.load_limits.follow(settings.registry)
        self.addresses.follow(settings)  # before the models, whose versions are fetched by it
        self.caps.follow(settings.models)  # first: a model that comes back may find no cap that is too old
        self.models.apply(settings.models)
        self.alias_loop.trigger()


@dataclass(frozen=True, slots=True)
class Certificates:
    """Those of the traffic and of the admin listener; None where a listener speaks plain HTTP."""

    traffic: Certificate | None
    admin: Certificate | None

    @classmethod
    def of(cls, server: ServerSettings) -> "Certificates":
        """As `server` names them. Raises ConfigRefused when one can not be used."""
        return cls(
            Certificate("server.tls", server.tls) if server.tls else None,
            Certificate("server.admin_tls", server.admin_tls) if server.admin_tls else None,
        )


class OperatorReload:
    """A reload that an operator asked for: the configuration, and the certificates in their files."""

    def __init__(self, config: ConfigWatch, certificates: Certificates) -> None:
        self._config = config
        self._certificates = certificates

    async def __call__(self) -> Reloaded:
        """Read all of it now. Raises ConfigRefused, and then nothing has changed."""
        both = (self._certificates.traffic, self._certificates.admin)
        fresh = [(one, await in_disk_thread(one.read)) for one in both if one]
        reloaded = await self._config.reload(operator=True)
        for certificate, context in fresh:
            certificate.use(context)
        return reloaded
