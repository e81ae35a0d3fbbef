"""The operator's settings as the chart sets them: every one, and with the defaults of the operator itself."""

import dataclasses

import pytest
import yaml

from darkroom_api.names import OPERATOR_LABEL, OPERATORS_NAMESPACE
from darkroom_operator.settings import Settings, read_settings

PROGRESS = "darkroom-operator-progress"


def test_the_operator_knows_every_setting_and_the_chart_sets_every_one(chart):
    known = {f"DARKROOM_{field.name.upper()}" for field in dataclasses.fields(Settings)}
    assert set(chart.environment({})) == known | {"DARKROOM_LOG_LEVEL"}


def test_the_charts_defaults_are_the_operators(chart):
    found = read_settings(chart.environment({}))
    assert found == Settings(
        pod_name="pod-1",
        pod_namespace="darkroom-system",
        pod_ip="10.0.0.7",
        progress_url=f"http://{PROGRESS}.darkroom-system.svc:8080",
        progress_service=PROGRESS,
    )


def test_pods_are_told_where_the_service_is(chart):
    settings = read_settings(chart.environment({"operator": {"port": 8123}}))
    assert settings.progress_url == f"http://{PROGRESS}.darkroom-system.svc:8123"
    service = chart.find("Service", {"operator": {"port": 8123}}, name=settings.progress_service)
    assert service["spec"]["ports"][0]["port"] == settings.port


def test_without_progress_nothing_of_it_is_left(chart):
    environment = chart.environment({"progress": {"enabled": False}})
    assert environment["DARKROOM_PROGRESS_SERVICE"] == environment["DARKROOM_PROGRESS_URL"] == ""
    assert "DARKROOM_POD_IP" not in environment
    rules = [one.get("rules", ()) for one in chart.render({"progress": {"enabled": False}})]
    assert "endpointslices" not in str(rules)


@pytest.mark.parametrize(
    ("namespaces", "published"), [([], ""), (["team-b", "team-a"], "team-b,team-a")]
)
def test_what_is_watched_is_published_for_every_user(chart, namespaces, published):
    values = {"watchNamespaces": namespaces, "operator": {"leaseName": "blue"}}
    found = chart.find("ConfigMap", values)
    metadata = found["metadata"]
    assert metadata["namespace"] == OPERATORS_NAMESPACE
    assert metadata["name"] == "darkroom-darkroom-system-darkroom-operator"
    assert metadata["labels"][OPERATOR_LABEL] == "darkroom-system"
    version = yaml.safe_load((chart.folder / "Chart.yaml").read_text())["appVersion"]
    assert found["data"] == {
        "namespaces": published,
        "operator": "darkroom-system/blue",
        "version": version,
    }
    assert read_settings(chart.environment(values)).identity == found["data"]["operator"]
