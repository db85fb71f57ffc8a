"""A cluster's API as far as `lookup` of Helm asks it: which kinds there are, and one object by its name."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from tests.deploy.chart import NAMESPACE, Object, helm_python

_KINDS = {
    "/api/v1": [("secrets", "Secret")],
    "/apis/apps/v1": [("deployments", "Deployment")],
}
"""What is looked up, by the path of its group."""
_KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: tests
clusters: [{{name: tests, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
contexts: [{{name: tests, context: {{cluster: tests, user: tests}}}}]
users: [{{name: tests, user: {{}}}}]
"""


@contextmanager
def cluster_with(objects: Sequence[Object]) -> Iterator[Any]:
    """Helm's access to a cluster with these objects in the release's namespace; nothing else is found."""
    answers: dict[str, Object] = {}
    for group, kinds in _KINDS.items():
        resources = [
            {"name": plural, "kind": kind, "namespaced": True, "verbs": ["get"]} for plural, kind in kinds
        ]
        version = group.removeprefix("/apis/").removeprefix("/api/")
        answers[group] = {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
        for plural, kind in kinds:
            for one in (each for each in objects if each["kind"] == kind):
                name = one["metadata"]["name"]
                answers[f"{group}/namespaces/{NAMESPACE}/{plural}/{name}"] = one

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path.partition("?")[0])
            missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound"}
            body = json.dumps(found or {**missing, "code": 404}).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing: standard error is for what tests look at."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        config = _KUBECONFIG.format(port=server.server_port)
        try:
            with helm_python.Config(kubeconfig_content=config, namespace=NAMESPACE) as access:
                yield access
        finally:
            server.shutdown()
            thread.join()
