"""What an operator may say: frozen, strict models of the configuration, named as in the YAML file.

Every key carries its meaning, unit and default, and whether a change of it is hot, cold or re-buckets.
"""

from router.settings.changes import Change, changes
from router.settings.environments import EnvironmentsSettings
from router.settings.fields import Reload, is_loopback
from router.settings.gateway import (
    LogSettings,
    ModelOutput,
    RegistryPlaces,
    RegistrySettings,
    ServerSettings,
    Settings,
    SettingsInForce,
    TlsSettings,
    schema_json,
    state_directories,
    state_directory,
)
from router.settings.model import ModelSettings
from router.settings.outbound import FleetSettings, PeerAddress, ReceiverSettings

__all__ = [
    "Change",
    "EnvironmentsSettings",
    "FleetSettings",
    "LogSettings",
    "ModelOutput",
    "ModelSettings",
    "PeerAddress",
    "ReceiverSettings",
    "RegistryPlaces",
    "RegistrySettings",
    "Reload",
    "ServerSettings",
    "Settings",
    "SettingsInForce",
    "TlsSettings",
    "changes",
    "is_loopback",
    "schema_json",
    "state_directories",
    "state_directory",
]
