"""What the dashboard's panels and the alerts say, asked of the Prometheus that a Grafana would ask."""

from dataclasses import dataclass

from tests.deploy.conftest import Prometheus
from tests.deploy.dashboard import PANELS, filled_in


@dataclass(frozen=True)
class Board:
    """The shipped dashboard."""

    prometheus: Prometheus
    seconds: int = 60
    """How far its rates look back."""

    def shown(self, panel: str, letter: str = "A", by: str = "alias") -> dict[str, float]:
        """The values of one query of a panel, by one of their labels."""
        [found] = (one for one in PANELS if one["title"] == panel)
        [query] = (target["expr"] for target in found["targets"] if target["refId"] == letter)
        query = query.replace("$__rate_interval", f"{self.seconds}s")
        answer = self.prometheus.query(filled_in(query))
        assert answer["status"] == "success", answer
        return {one["metric"][by]: float(one["value"][1]) for one in answer["data"]["result"]}

    def versions(self) -> dict[str, int]:
        """By alias, in the panel that says what serves now."""
        answer = self.prometheus.query(filled_in("count by (alias, version) (canary_router_model_info)"))
        return {one["metric"]["alias"]: int(one["metric"]["version"]) for one in answer["data"]["result"]}

    def alerts(self, version: int) -> dict[str, str]:
        """Alerts about one version, by name: pending or firing."""
        return {
            one["labels"]["alertname"]: one["state"]
            for one in self.prometheus.alerts()
            if one["labels"].get("version") == str(version)
        }

    def others(self) -> set[str]:
        """Names of alerts that are about no canary."""
        return {
            one["labels"]["alertname"]
            for one in self.prometheus.alerts()
            if one["labels"].get("alias") != "canary"
        }
