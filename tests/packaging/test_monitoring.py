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


def test_metrics_of_the_program_exist() -> None:
    """Alerts and panels name only what the reconciler serves."""
    health = Health(desired=DesiredTopology(nodes=6, replicas=1), fresh_s=1.0)
    health.healthy_at, health.observed_at = 1.0, None
    health.runs["healthy"] = health.findings["slot_open"] = 1
    served = set(re.findall(rf"^# TYPE ({OURS}\w+)", rendered(health), re.MULTILINE))
    dashboard = yaml.safe_load((FOLDER / "redis-dashboard.yaml").read_text())["data"]
    panels = json.loads(dashboard["redis-cluster.json"])["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    named = re.findall(rf"{OURS}\w+", " ".join([*EXPRESSIONS.values(), *queries]))
    assert len(queries) > len(panels)
    assert set(named) <= served, set(named) - served
