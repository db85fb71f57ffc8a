"""Why the agent's processes can not do what they were asked, one class per condition.

RegistryRefused    what is there is not a registry this MLflow may read; someone has to act
RegistryBroken     it can not be read just now
RegistryReplaced   the file is not the one that was opened
VersionRefused     where its files lie is not read
VersionAbsent      it is not registered whole, or its files are not where they should be
DownloadRefused    what lies there is not taken
DirectoryRefused   the cache directory can not be trusted or used
CopyRefused        a copy in the cache is not what was recorded
└─ CopyMissing     it, or a part of it, is not there
RecordRefused      a record of last good versions can not be trusted
"""


class RegistryRefused(Exception):
    """Someone has to act: what the address names is not a registry this MLflow may read."""


class RegistryBroken(Exception):
    """It may work again by itself, such as a locked or unreadable database."""


class RegistryReplaced(Exception):
    """The database file is not the one that was opened."""


class VersionRefused(Exception):
    """The registry names something for this version that is not downloaded."""


class VersionAbsent(Exception):
    """No rule forbids this version: it is not registered whole, or its files are not at its source."""


class DownloadRefused(Exception):
    """What lies at the source is not a version, or not one that can be taken."""


class DirectoryRefused(Exception):
    """The cache directory cannot be trusted or used."""


class CopyRefused(Exception):
    """A copy in the cache is not what was recorded."""


class CopyMissing(CopyRefused):
    """A copy in the cache is gone, in whole or in part, or no record names it any more."""


class RecordRefused(Exception):
    """What lies there is not a record of ours."""


UNKNOWN = "RESOURCE_DOES_NOT_EXIST"
"""MLflow's code for a registered model, or a version, that the registry does not have."""
_REFUSALS = ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "INVALID_PARAMETER_VALUE")


def kind_of(error: Exception) -> str:
    """What an error of a registry, ours or MLflow's, means: `replaced`, `refused`, `unknown_model`, else
    `unavailable`."""
    from mlflow.exceptions import MlflowException  # here, not above: it reads the environment at import

    if isinstance(error, RegistryReplaced):
        return "replaced"
    if isinstance(error, RegistryRefused):
        return "refused"
    if not isinstance(error, MlflowException):
        return "unavailable"
    if error.error_code == UNKNOWN:
        return "unknown_model"  # a 404 that is not MLflow's own has another code
    return "refused" if error.error_code in _REFUSALS else "unavailable"
