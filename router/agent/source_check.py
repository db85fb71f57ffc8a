"""Whether a version's files may be read from where they lie: the allow-list, and what is on this disk."""

import os

from router.agent.manifest import MODEL_FILE
from router.agent.source import VersionRefused
from router.core.artifact_source import AllowedSources, local_path


def check(uri: str, allowed: AllowedSources) -> None:
    """Raise VersionRefused, naming `uri`, before anything of it is listed or read."""
    if (refusal := allowed.refusal(uri)) is not None:
        raise VersionRefused(refusal)
    path = local_path(uri)
    if path is None:
        return
    # Links are followed by whoever copies: where they end counts, not where they stand.
    real = os.path.realpath(path)
    roots = [os.path.realpath(local_path(root) or "/") for root in allowed.local_roots]
    if roots and not any(os.path.commonpath([real, root]) == root for root in roots):
        raise VersionRefused(f"its source {uri!r} leads out of registry.artifact_roots by a symbolic link")
    # Any directory has a listing; only a version has this file.
    if not os.path.isfile(os.path.join(real, MODEL_FILE)):
        raise VersionRefused(f"there is no {MODEL_FILE} file at its source {uri!r}")
