"""What the Helm chart asks of a gateway, and sends to it, is there."""

from aiohttp import web

from router.web.apps import admin_app, traffic_app
from tests.deploy.chart import EVERYTHING, container_of, named, objects
from tests.web.conftest import Site


def paths(app: web.Application, method: str) -> set[str]:
    return {
        route.resource.canonical for route in app.router.routes() if route.method == method and route.resource
    }


async def test_probes_and_prometheus_ask_for_paths_of_the_listeners(site: Site) -> None:
    found = objects(EVERYTHING)
    container = container_of(found)
    asked = {
        container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    (endpoint,) = named(found, "ServiceMonitor")["spec"]["endpoints"]

    assert asked <= paths(traffic_app(site.gateway, observable=False), "GET")
    assert endpoint["path"] in paths(traffic_app(site.gateway, observable=True), "GET")
    assert endpoint["path"] in paths(admin_app(site.gateway), "GET")


async def test_the_route_from_outside_has_every_path_of_predictions_and_none_of_observation(
    site: Site,
) -> None:
    """The page, metrics and state say more than callers need to know."""
    (rule,) = named(objects(EVERYTHING), "HTTPRoute")["spec"]["rules"]
    prefixes = [match["path"]["value"] for match in rule["matches"]]

    def routed(path: str) -> bool:
        return any(path == prefix or path.startswith(f"{prefix}/") for prefix in prefixes)

    without, whole = (traffic_app(site.gateway, observable=observable) for observable in (False, True))
    product = {path for method in ("GET", "POST") for path in paths(without, method)}
    observation = paths(whole, "GET") - product
    assert {path for path in product if not routed(path)} == {"/livez", "/readyz"}
    assert len(observation) > 5
    assert not [path for path in observation if routed(path)]
