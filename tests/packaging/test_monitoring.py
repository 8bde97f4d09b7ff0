"""Alerts as Prometheus raises them, and metrics that exist."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from bootstrap.commands.metrics import rendered
from bootstrap.core.topology import DesiredTopology
from bootstrap.loop.health import Health
from tests.support.rendering import MANIFESTS, Object

FOLDER = MANIFESTS / "components/monitoring"
OURS = "redis_cluster_bootstrap_"
RULES: list[Object] = yaml.safe_load((FOLDER / "prometheus-rule.yaml").read_text())["spec"][
    "groups"
][0]["rules"]
EXPRESSIONS = {rule["alert"]: rule["expr"] for rule in RULES}

# Series that raise the alert, series that do not, and after how many minutes it is raised.
CASES: dict[str, tuple[dict[str, str], dict[str, str], int]] = {
    "RedisClusterNotHealthy": ({f"{OURS}healthy": "0x60"}, {f"{OURS}healthy": "0x8 1x52"}, 10),
    "RedisClusterNeedsDecision": (
        {f'{OURS}state{{state="refused"}}': "1x60"},
        {f'{OURS}state{{state="converging"}}': "1x60"},
        1,
    ),
    "RedisClusterSlotsNotCovered": (
        {f"{OURS}slots_owned": "10923x60", f"{OURS}slots": "16384x60"},
        {f"{OURS}slots_owned": "16384x60", f"{OURS}slots": "16384x60"},
        1,
    ),
    "RedisClusterNotObserved": (
        {f"{OURS}last_healthy_timestamp_seconds": "0x60"},
        {f"{OURS}last_healthy_timestamp_seconds": "0+60x60"},
        31,
    ),
    "RedisClusterPodsBeyondSize": (
        {f'{OURS}findings{{code="pods_surplus"}}': "1x60"},
        {f'{OURS}findings{{code="slots_uneven"}}': "1x60"},
        2,
    ),
    "RedisClusterReconcilerPaused": (
        {'kube_deployment_spec_replicas{deployment="eu-redis-bootstrap"}': "0x90"},
        {'kube_deployment_spec_replicas{deployment="web"}': "0x90"},
        60,
    ),
    "RedisClusterJobFailed": (
        {'kube_job_failed{job_name="redis-bootstrap-fk8h",condition="true"}': "1x60"},
        {'kube_job_failed{job_name="redis-bootstrap-fk8h",condition="false"}': "1x60"},
        0,
    ),
    "RedisPodHeld": (
        {'kube_pod_deletion_timestamp{pod="redis-app-7"}': "0x60"},
        {'kube_pod_deletion_timestamp{pod="web-7"}': "0x60"},
        6,
    ),
    "RedisClusterStateFail": ({"redis_cluster_state": "0x60"}, {"redis_cluster_state": "1x60"}, 1),
    "RedisReplicaLinkDown": ({"redis_master_link_up": "0x60"}, {"redis_master_link_up": "1x60"}, 2),
    "RedisPrimaryWithoutReplica": (
        {"redis_connected_slaves": "0x60", 'redis_instance_info{role="master"}': "1x60"},
        {"redis_connected_slaves": "0x60", 'redis_instance_info{role="slave"}': "1x60"},
        10,
    ),
    "RedisMemoryNearLimit": (
        {"redis_memory_used_bytes": "90x60", "redis_memory_max_bytes": "100x60"},
        {"redis_memory_used_bytes": "90x60", "redis_memory_max_bytes": "0x60"},
        5,
    ),
    "RedisDiskWriteFailed": (
        {"redis_aof_last_write_status": "0x60", "redis_rdb_last_bgsave_status": "1x60"},
        {"redis_aof_last_write_status": "1x60", "redis_rdb_last_bgsave_status": "1x60"},
        1,
    ),
}


def test_every_alert_has_a_case() -> None:
    """Each alert of the rules is in a unit test of promtool, so that none is untried."""
    assert set(CASES) == set(EXPRESSIONS)


@pytest.mark.parametrize("alert", CASES)
def test_alert_is_raised_when_it_must_be(tmp_path: Path, alert: str) -> None:
    """With promtool: raised for what is wrong, not before its time, and not for what is right."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not here")
    raises, stays, minutes = CASES[alert]

    def case(series: dict[str, str], *firing: int) -> Object:
        labels = f'alertname="{alert}",alertstate="firing"'
        looks = [minutes - 1, minutes] if minutes else [0]
        return {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [
                {
                    "expr": f"count(ALERTS{{{labels}}}) or vector(0)",
                    "eval_time": f"{look}m",
                    "exp_samples": [{"labels": "{}", "value": int(look in firing)}],
                }
                for look in looks
            ],
        }

    (tmp_path / "rules.yaml").write_text(
        yaml.safe_dump({"groups": [{"name": "all", "rules": RULES}]})
    )
    tests = {"rule_files": ["rules.yaml"], "tests": [case(raises, minutes), case(stays)]}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(tests))
    done = subprocess.run(
        [promtool, "test", "rules", "tests.yaml"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


# What redis_exporter serves, as far as it is used here, with its labels: the maps of gauges and
# counters in its exporter.go, instance_info and db_keys in its info.go, and each field of CLUSTER
# INFO, where "ok" is 1 and "fail" is 0.
EXPORTER: dict[str, set[str]] = {
    "redis_aof_last_write_status": set(),
    "redis_cluster_state": set(),
    "redis_commands_processed_total": set(),
    "redis_connected_clients": set(),
    "redis_connected_slaves": set(),
    "redis_db_keys": {"db"},
    "redis_instance_info": {"role"},
    "redis_master_link_up": {"master_host", "master_port"},
    "redis_memory_max_bytes": set(),
    "redis_memory_used_bytes": set(),
    "redis_rdb_last_bgsave_status": set(),
}
# What Prometheus adds to every series of a pod, the last one by podTargetLabels.
TARGET = {"namespace", "pod", "app_kubernetes_io_instance"}
PANELS: list[Object] = json.loads(
    yaml.safe_load((FOLDER / "redis-dashboard.yaml").read_text())["data"]["redis-cluster.json"]
)["panels"]
QUERIES = {target["expr"]: target["legendFormat"] for p in PANELS for target in p["targets"]}


@pytest.fixture(scope="module")
def served() -> dict[str, set[str]]:
    """All metrics with their labels: those that the reconciler serves, and the exporter's."""
    health = Health(desired=DesiredTopology(nodes=6, replicas=1), fresh_s=1.0)
    health.healthy_at, health.observed_at = 1.0, None
    health.runs["healthy"] = health.findings["slot_open"] = 1
    text = rendered(health)
    ours = {
        name: set(re.findall(rf'^{name}{{(\w+)="', text, re.MULTILINE))
        for name in re.findall(rf"^# TYPE ({OURS}\w+)", text, re.MULTILINE)
    }
    return ours | EXPORTER


def metrics_in(*queries: str) -> set[str]:
    """Return the metrics that queries name."""
    return set(re.findall(r"\bredis_\w+", " ".join(queries)))


def test_metrics_exist(served: dict[str, set[str]]) -> None:
    """Alerts and panels name only what the reconciler and the exporter serve."""
    assert len(QUERIES) > len(PANELS)
    named = metrics_in(*EXPRESSIONS.values(), *QUERIES)
    assert named <= served.keys(), named - served.keys()
    assert EXPORTER.keys() <= named


def test_metrics_of_other_exporters_are_those_of_kubernetes() -> None:
    """What is neither the reconciler's nor redis_exporter's comes from kube-state-metrics."""
    named = set(re.findall(r"\b(\w+)\{", " ".join([*EXPRESSIONS.values(), *QUERIES])))
    assert all(name.startswith(("redis_", "kube_")) for name in named)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_panel_has_a_unit_and_legends(panel: Object, served: dict[str, set[str]]) -> None:
    """A panel names its unit, and each of its series by words or by labels that the series has."""
    assert panel["fieldConfig"]["defaults"]["unit"]
    legends = [target["legendFormat"] for target in panel["targets"]]
    assert all(legends)
    assert len(set(legends)) == len(legends)
    for target in panel["targets"]:
        known = TARGET.union(*(served[name] for name in metrics_in(target["expr"])))
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= known


@pytest.mark.parametrize("query", QUERIES)
def test_panel_shows_one_cluster(query: str) -> None:
    """Every series of a panel is that of the namespace and the cluster that were chosen."""
    selectors = re.findall(r"\bredis_\w+(\{.*?\})?", query)
    chosen = 'namespace="$namespace",app_kubernetes_io_instance="$cluster"'
    assert all(chosen in selector for selector in selectors)


def test_panels_do_not_overlap() -> None:
    """No panel covers another one, and each is within the 24 columns of Grafana."""
    places = [panel["gridPos"] for panel in PANELS]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
