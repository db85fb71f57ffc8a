"""Why a registry cannot be used, as the agent's processes tell it."""


class RegistryRefused(Exception):
    """Someone has to act: what the address names is no registry this MLflow may read."""


class RegistryBroken(Exception):
    """It may work again by itself, such as a locked or unreadable database."""


class RegistryReplaced(Exception):
    """The database file is another one than the one that was opened."""
