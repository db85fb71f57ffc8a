"""Which places a version's files may come from. Pure: an address in, a refusal or nothing out."""

from collections.abc import Sequence
from dataclasses import dataclass
from posixpath import normpath
from urllib.parse import SplitResult, unquote, urlsplit

STORES = ("mlflow-artifacts", "s3", "gs", "wasbs", "abfss", "dbfs", "hdfs", "viewfs")
"""Allowed unless the configuration says otherwise: stores that the gateway's own credentials open."""
# Left out: local files, and what names any host it likes, such as http, ftp, r2 and b2.

_MOST_UNQUOTING = 5
_WEB = ("http", "https")
_PROXIED = "/api/2.0/mlflow-artifacts/artifacts"


@dataclass(frozen=True, slots=True)
class AllowedSources:
    """An allow-list of schemes and roots; what neither allows is refused."""

    schemes: Sequence[str] = STORES
    """Lower-case schemes, without `file`, for which `roots` stands."""
    roots: Sequence[str] = ()
    """Absolute directories, or addresses such as `s3://bucket/models`, below which a source may lie."""
    any_local: bool = False
    """True where the registry itself is local files: whoever writes it writes this disk anyway."""
    tracking_uri: str = ""
    """The server whose own artifact proxy may be asked."""

    def refusal(self, uri: str) -> str | None:
        """Why the files of a version must not be read from `uri`; None when they may be."""
        parts = _split(uri)
        if parts is None:
            return f"its source {uri!r} is not a plain address: it has `..`, a backslash or the like"
        scheme = parts.scheme.lower()
        if scheme in ("", "file"):
            return self._local_refusal(uri, parts)
        if any(_is_below(parts, root) for root in self.roots):
            return None
        if scheme in _WEB and self._is_proxy(parts):
            return None
        if scheme not in self.schemes:
            return (
                f"its source {uri!r} has the scheme {scheme}, which registry.artifact_schemes does not name"
            )
        if scheme == "mlflow-artifacts" and parts.netloc and not self._is_tracking_server(parts):
            return (
                f"its source {uri!r} names another server than the tracking server;"
                " registry.artifact_roots may name it"
            )
        return None

    def _local_refusal(self, uri: str, parts: SplitResult) -> str | None:
        if parts.netloc not in ("", "localhost"):
            return f"its source {uri!r} is a file of another host"
        if not parts.path.startswith("/"):
            return f"its source {uri!r} is not an absolute path"
        if self.any_local and not self.local_roots:
            return None
        if any(_is_below(parts, root) for root in self.local_roots):
            return None
        return f"its source {uri!r} is a local path that is not below any of registry.artifact_roots"

    @property
    def local_roots(self) -> tuple[str, ...]:
        """Those of `roots` that are directories of this machine."""
        return tuple(root for root in self.roots if urlsplit(root).scheme in ("", "file"))

    def _is_tracking_server(self, parts: SplitResult) -> bool:
        return parts.netloc.lower() == urlsplit(self.tracking_uri).netloc.rpartition("@")[2].lower()

    def _is_proxy(self, parts: SplitResult) -> bool:
        """Whether it is the long form of `mlflow-artifacts:` on the tracking server."""
        tracking = urlsplit(self.tracking_uri)
        if "mlflow-artifacts" not in self.schemes or parts.scheme.lower() != tracking.scheme.lower():
            return False
        proxied = tracking.path.rstrip("/") + _PROXIED
        return self._is_tracking_server(parts) and (parts.path + "/").startswith(proxied + "/")


def local_path(uri: str) -> str | None:
    """The path that a source of this machine names; None for a source that lies elsewhere."""
    parts = urlsplit(uri, allow_fragments=False)
    if parts.scheme not in ("", "file"):
        return None
    return unquote(parts.path) if parts.scheme else uri


def _split(uri: str) -> SplitResult | None:
    """The address in parts; None for one that may be read in two ways, or that climbs."""
    plain = uri
    for _ in range(_MOST_UNQUOTING):
        plain, before = unquote(plain), plain
        if plain == before:
            break
    else:
        return None
    if (
        not plain.isprintable()
        or "\\" in plain
        or ".." in plain.replace("?", "/").replace("#", "/").split("/")
    ):
        return None
    try:
        return urlsplit(uri, allow_fragments=False)
    except ValueError:
        return None


def _is_below(parts: SplitResult, root: str) -> bool:
    """Whether an address without `..` lies at or below `root`."""
    above = urlsplit(root, allow_fragments=False)
    if (parts.scheme.lower() or "file") != (above.scheme.lower() or "file"):
        return False
    if _host(parts) != _host(above):
        return False
    at, root_path = _tidy(parts.path), _tidy(above.path)
    return at == root_path or at.startswith(root_path.rstrip("/") + "/")


def _host(parts: SplitResult) -> str:
    host = parts.netloc.lower()
    return "" if parts.scheme.lower() == "file" and host == "localhost" else host


def _tidy(path: str) -> str:
    return "/" + normpath(unquote(path) or "/").lstrip("/")
