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
