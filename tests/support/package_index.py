"""A package index on this machine's loopback: releases of a few hundred bytes, and the faults of real ones.

Its pages are those of PEP 503; where `upload_times` is set it also speaks PEP 691's JSON, which says when
each file was uploaded. Wheels are made on the spot, as zip files. `gone()` closes its port, `hanging` answers
nothing, `status` answers every request alike, and `credentials` are asked for by HTTP's basic authentication.
"""

import base64
import hashlib
import html
import io
import json
import re
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

JSON = "application/vnd.pypi.simple.v1+json"
_ZIP_TIME = (2024, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class IndexFile:
    """One file of a release, as the index serves it."""

    name: str
    content: bytes
    requires_python: str
    uploaded: datetime | None

    @property
    def digest(self) -> str:
        """SHA-256 in hex."""
        return hashlib.sha256(self.content).hexdigest()


def wheel(
    name: str,
    version: str,
    *,
    requires: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
    requires_python: str = "",
    tag: str = "py3-none-any",
    extras: Mapping[str, Sequence[str]] | None = None,
) -> IndexFile:
    """A wheel that holds `files` (text by path), else one package that knows its own `__version__`."""
    module = re.sub(r"[-.]+", "_", name)
    if files is None:
        files = {f"{module}/__init__.py": f'__version__ = "{version}"\n'}
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {one}" for one in requires]
    lines += [f"Requires-Python: {requires_python}"] if requires_python else []
    for extra, wanted in (extras or {}).items():
        lines += [f"Provides-Extra: {extra}"]
        lines += [f'Requires-Dist: {one} ; extra == "{extra}"' for one in wanted]
    about = f"{module}-{version}.dist-info"
    contents = {
        **files,
        f"{about}/METADATA": "\n".join(lines) + "\n",
        f"{about}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = [f"{path},{_record_digest(text)},{len(text.encode())}" for path, text in contents.items()]
    contents[f"{about}/RECORD"] = "\n".join([*record, f"{about}/RECORD,,"]) + "\n"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in contents.items():
            archive.writestr(zipfile.ZipInfo(path, _ZIP_TIME), text)
    return IndexFile(f"{module}-{version}-{tag}.whl", packed.getvalue(), requires_python, None)


def source(name: str, version: str, setup: str) -> IndexFile:
    """A source distribution whose `setup.py` is `setup`: whoever builds it runs that."""
    module = re.sub(r"[-.]+", "_", name)
    contents = {
        "setup.py": setup,
        # An older form of metadata, which says nothing that could be relied on without running setup.py.
        "PKG-INFO": f"Metadata-Version: 1.1\nName: {name}\nVersion: {version}\n",
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path, text in contents.items():
            about = tarfile.TarInfo(f"{module}-{version}/{path}")
            about.size = len(text.encode())
            archive.addfile(about, io.BytesIO(text.encode()))
    return IndexFile(f"{module}-{version}.tar.gz", packed.getvalue(), "", None)


@dataclass
class PackageIndex:
    """Releases, and how they are served. Everything may be changed while it runs."""

    upload_times: bool = False
    """Whether it says when files were uploaded."""
    credentials: tuple[str, str] | None = None
    """Name and password that every request must carry; without them it answers 401."""
    status: int | None = None
    """Answered to every request, where set."""
    cacheable: bool = False
    """Whether clients may keep its answers, as those of public indexes."""
    hanging: bool = False
    """Connections are taken, and nothing is answered until the index closes."""
    connections: int = 0
    """Taken so far."""
    paths: list[str] = field(default_factory=list)
    """Every path that was asked for."""
    authorizations: list[str | None] = field(default_factory=list)
    """What each of them was asked with."""
    port: int = 0
    """The same after `gone`."""
    _files: dict[str, list[IndexFile]] = field(default_factory=dict)
    _closing: threading.Event = field(default_factory=threading.Event)
    _server: "_Server | None" = None
    _thread: threading.Thread | None = None

    @property
    def host(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def uri(self) -> str:
        """Its address, as index settings take it; without credentials."""
        return f"http://{self.host}/simple"

    @property
    def uri_with_credentials(self) -> str:
        """The same with those that it asks for."""
        name, password = self.credentials or ("", "")
        return f"http://{name}:{password}@{self.host}/simple"

    def add(
        self,
        name: str,
        version: str,
        *,
        requires: Sequence[str] = (),
        uploaded: datetime | None = None,
        files: Mapping[str, str] | None = None,
        requires_python: str = "",
        tag: str = "py3-none-any",
        extras: Mapping[str, Sequence[str]] | None = None,
    ) -> IndexFile:
        """Release a wheel; see `wheel`. `uploaded` is when, where the index says so."""
        made = wheel(
            name,
            version,
            requires=requires,
            files=files,
            requires_python=requires_python,
            tag=tag,
            extras=extras,
        )
        return self._release(name, made, uploaded)

    def add_source(
        self, name: str, version: str, setup: str, *, uploaded: datetime | None = None
    ) -> IndexFile:
        """Release a source distribution; see `source`."""
        return self._release(name, source(name, version, setup), uploaded)

    def add_from(self, directory: Path) -> None:
        """Release every wheel in `directory`."""
        for path in sorted(directory.glob("*.whl")):
            self._release(path.name.split("-")[0], IndexFile(path.name, path.read_bytes(), "", None), None)

    def remove(self, name: str) -> None:
        """Withdraw every release of a package."""
        self._files.pop(_normal(name), None)

    def open(self) -> None:
        """Take connections."""
        self._closing = threading.Event()
        self._server = _Server(self)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        """Refuse connections, and end those that wait."""
        self._closing.set()
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
        self._server = self._thread = None

    @contextmanager
    def gone(self) -> Iterator[None]:
        """For the block, its port is refused."""
        self.close()
        try:
            yield
        finally:
            self.open()

    def _release(self, name: str, file: IndexFile, uploaded: datetime | None) -> IndexFile:
        made = IndexFile(file.name, file.content, file.requires_python, uploaded)
        self._files.setdefault(_normal(name), []).append(made)
        return made

    def answer(self, path: str, accept: str) -> tuple[int, str, bytes]:
        """Status, content type and body of a page or a file."""
        if self.status is not None:
            return self.status, "text/plain", b"as the test wants it\n"
        parts = path.strip("/").split("/")
        match parts:
            case ["simple", project] if project in self._files:
                return self._page(project, accept)
            case ["files", name]:
                found = [one for files in self._files.values() for one in files if one.name == name]
                if found:
                    return 200, "application/octet-stream", found[-1].content
        return 404, "text/plain", b"there is none of that name\n"

    def _page(self, project: str, accept: str) -> tuple[int, str, bytes]:
        files = self._files[project]
        if self.upload_times and JSON in accept:
            return 200, JSON, json.dumps(_json_page(project, files)).encode()
        links = []
        for one in files:
            needs = (
                f' data-requires-python="{html.escape(one.requires_python)}"' if one.requires_python else ""
            )
            links.append(f'<a href="/files/{one.name}#sha256={one.digest}"{needs}>{one.name}</a><br>')
        return (
            200,
            "text/html",
            ("<!DOCTYPE html><html><body>" + "\n".join(links) + "</body></html>").encode(),
        )

    def admits(self, authorization: str | None) -> bool:
        """Whether a request with this header gets an answer."""
        if self.credentials is None:
            return True
        wanted = base64.b64encode(":".join(self.credentials).encode()).decode()
        return authorization == f"Basic {wanted}"

    def wait_closing(self) -> None:
        """Return when the index closes."""
        self._closing.wait()


@contextmanager
def package_index(*, upload_times: bool = False) -> Iterator[PackageIndex]:
    """An index without releases, for the block."""
    index = PackageIndex(upload_times=upload_times)
    index.open()
    try:
        yield index
    finally:
        index.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, index: PackageIndex) -> None:
        self._index = index
        super().__init__(("127.0.0.1", index.port), _handler_of(index))

    def process_request(self, request: Any, client_address: Any) -> None:
        self._index.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was ended in the middle of an answer is what a test is about."""


def _handler_of(index: PackageIndex) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(body_too=True)

        def do_HEAD(self) -> None:
            self._answer(body_too=False)

        def _answer(self, *, body_too: bool) -> None:
            path = self.path.partition("?")[0]
            index.paths.append(path)
            index.authorizations.append(self.headers.get("Authorization"))
            if index.hanging:
                index.wait_closing()
                self.close_connection = True
                return
            if index.admits(self.headers.get("Authorization")):
                status, kind, body = index.answer(path, self.headers.get("Accept", ""))
            else:
                status, kind, body = 401, "text/plain", b"who is it\n"
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="packages"')
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "max-age=600" if index.cacheable else "no-store")
            self.end_headers()
            if body_too:
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    return Handler


def _json_page(project: str, files: Sequence[IndexFile]) -> dict[str, Any]:
    listed = []
    for one in files:
        about: dict[str, Any] = {
            "filename": one.name,
            "url": f"/files/{one.name}",
            "hashes": {"sha256": one.digest},
            "size": len(one.content),
        }
        if one.requires_python:
            about["requires-python"] = one.requires_python
        if one.uploaded is not None:
            about["upload-time"] = f"{one.uploaded:%Y-%m-%dT%H:%M:%S.%fZ}"
        listed.append(about)
    return {"meta": {"api-version": "1.1"}, "name": project, "files": listed}


def _record_digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
