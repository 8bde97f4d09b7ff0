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
UNAVAILABLE = 'kube_deployment_status_replicas_unavailable{deployment="redis-bootstrap"}'
MEMBER = {"redis_cluster_state": "1x60"}  # other servers, which are no cluster, have none
EXPRESSIONS = {rule["alert"]: rule["expr"] for rule in RULES}

ALONE = {"redis_connected_slaves": "0x60", 'redis_instance_info{role="master"}': "1x60"}

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
        # The reconciler is replaced after a quarter of an hour.
        {f'{OURS}healthy{{pod="a"}}': "1 0x15 stale", f'{OURS}healthy{{pod="b"}}': "_x18 0x60"},
        {f"{OURS}healthy": "0x20 1 0x60"},
        31,
    ),
    "RedisClusterReconcilerNotRunning": (
        {f"{UNAVAILABLE}": "1x60"},
        {f"{UNAVAILABLE}": "1x60", f"{OURS}healthy": "0x60"},
        15,
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
    "RedisReplicaLinkDown": (
        {"redis_master_link_up": "0x60", **MEMBER},
        {"redis_master_link_up": "1x60", **MEMBER},
        2,
    ),
    "RedisPrimaryWithoutReplica": (
        {**ALONE, 'redis_master_link_up{pod="b"}': "1x60", **MEMBER},
        {**ALONE, **MEMBER},
        10,
    ),
    "RedisMemoryNearLimit": (
        {"redis_memory_used_bytes": "90x60", "redis_memory_max_bytes": "100x60", **MEMBER},
        {"redis_memory_used_bytes": "90x60", "redis_memory_max_bytes": "0x60", **MEMBER},
        5,
    ),
    "RedisDiskWriteFailed": (
        {"redis_aof_last_write_status": "0x60", "redis_rdb_last_bgsave_status": "1x60", **MEMBER},
        {"redis_aof_last_write_status": "1x60", "redis_rdb_last_bgsave_status": "1x60", **MEMBER},
        1,
    ),
}


def test_every_alert_has_a_case() -> None:
    """Each alert of the rules is in a unit test of promtool, so that none is untried."""
    assert set(CASES) == set(EXPRESSIONS)


def test_no_alert_is_raised_for_servers_of_others(tmp_path: Path) -> None:
    """Prometheus may scrape other servers, which are no cluster, with the same exporter."""
    for alert, (raises, _, _) in CASES.items():
        if MEMBER.keys() <= raises.keys():
            others = {name: raises[name] for name in raises.keys() - MEMBER.keys()}
            assert promtool(tmp_path, [case(alert, others, looks=(60,))]) == "", alert


@pytest.mark.parametrize("alert", CASES)
def test_alert_is_raised_when_it_must_be(tmp_path: Path, alert: str) -> None:
    """With promtool: raised for what is wrong, not before its time, and not for what is right."""
    raises, stays, minutes = CASES[alert]
    looks = (minutes - 1, minutes) if minutes else (0,)
    tests = [case(alert, raises, looks=looks, firing=minutes), case(alert, stays, looks=looks)]
    assert promtool(tmp_path, tests) == ""


def case(
    alert: str, series: dict[str, str], *, looks: tuple[int, ...], firing: int | None = None
) -> Object:
    """Return a test of promtool: these series, and the minute in which the alert is firing."""
    labels = f'alertname="{alert}",alertstate="firing"'
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f"count(ALERTS{{{labels}}}) or vector(0)",
                "eval_time": f"{look}m",
                "exp_samples": [{"labels": "{}", "value": int(look == firing)}],
            }
            for look in looks
        ],
    }


def promtool(folder: Path, tests: list[Object]) -> str:
    """Return what promtool says against the rules; nothing when all is as expected."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not here")
    (folder / "rules.yaml").write_text(
        yaml.safe_dump({"groups": [{"name": "all", "rules": RULES}]})
    )
    (folder / "tests.yaml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": tests})
    )
    done = subprocess.run(
        [program, "test", "rules", "tests.yaml"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr if done.returncode else ""


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
