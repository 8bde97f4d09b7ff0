"""Why pods have no address, out of the records of their Service."""

from pathlib import Path

import pytest

from bootstrap.net import resolv_conf as resolv
from bootstrap.net.dns_causes import NOT_YET, Names
from bootstrap.net.pod_names import Records

SERVICE = "redis-service.default.svc.cluster.local"
NAMES = Names(statefulset="redis-app", service=SERVICE, nodes=6, most=1000)


def _records(*labels: str) -> Records:
    return Records(addresses=len(labels), targets=tuple(f"{label}.{SERVICE}" for label in labels))


@pytest.fixture(autouse=True)
def resolv_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A resolv.conf as the kubelet writes it."""
    path = tmp_path / "resolv.conf"
    path.write_text(
        "nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local cluster.local\n"
    )
    monkeypatch.setattr(resolv, "RESOLV_CONF", path)
    return path


def test_a_pod_that_is_not_there_yet_has_the_usual_causes() -> None:
    """One pod is missing among others: nothing in DNS says why."""
    reason = NAMES.why_absent(_records("redis-app-0", "redis-app-2"), {1, 3, 4, 5})
    assert reason == (NOT_YET, "")


def test_the_name_that_was_asked_is_in_the_cause() -> None:
    """Without any record the Service's own name is what a person must compare."""
    reason = NAMES.why_absent(Records(), set(range(6)))
    assert SERVICE in reason.cause
    assert not reason.remedy


def test_another_cluster_domain_is_named_with_that_of_resolv_conf(resolv_conf: Path) -> None:
    """A wrong BOOTSTRAP_CLUSTER_DOMAIN is shown beside the one that the pod has."""
    resolv_conf.write_text("search default.svc.corp.internal svc.corp.internal\n")
    reason = NAMES.why_absent(Records(), set(range(6)))
    assert SERVICE in reason.cause
    assert "corp.internal" in reason.cause
    assert "BOOTSTRAP_CLUSTER_DOMAIN to corp.internal" in reason.remedy


def test_a_service_with_a_cluster_address_is_not_headless() -> None:
    """The SRV record of such a Service names the Service itself."""
    reason = NAMES.why_absent(Records(addresses=1, targets=(SERVICE,)), set(range(6)))
    assert "not headless" in reason.cause
    assert "clusterIP: None" in reason.remedy


def test_pods_of_another_name_are_named() -> None:
    """A StatefulSet whose serviceName is another Service has pods without names here."""
    labels = ("10-244-0-7", "10-244-0-8", "10-244-0-9", "10-244-0-10")
    reason = NAMES.why_absent(_records(*labels), set(range(6)))
    assert "redis-app-N" in reason.cause
    assert "10-244-0-7" in reason.cause
    assert "serviceName" in reason.remedy


def test_ordinals_from_another_start_are_named() -> None:
    """With spec.ordinals.start the first pods never come."""
    labels = [f"redis-app-{ordinal}" for ordinal in range(2, 8)]
    reason = NAMES.why_absent(_records(*labels), {0, 1})
    assert "redis-app-2 to redis-app-7" in reason.cause
    assert "spec.ordinals.start" in reason.remedy


def test_a_missing_first_pod_alone_is_no_shifted_start() -> None:
    """Where no pod beyond the wanted ones is there, the usual causes apply."""
    reason = NAMES.why_absent(_records("redis-app-1", "redis-app-2"), {0, 3, 4, 5})
    assert reason == (NOT_YET, "")


def test_only_names_that_a_statefulset_makes_count() -> None:
    """Other pods, leading zeros and numbers beyond all bounds are none of its pods."""
    labels = ("redis-app-0", "redis-app-01", "redis-app-x", "other-1", "redis-app-99999", "a")
    assert NAMES.ordinals([f"{label}.{SERVICE}" for label in labels]) == {0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"# g\xe9n\xe9r\xe9\nnameserver 10.0.0.10\n", (["10.0.0.10"], [])),
        (b"search a.example\nsearch b.example c.example\n", ([], ["b.example", "c.example"])),
        (b"search a.example\ndomain b.example\n", ([], ["b.example"])),
        (b"nameserver\t10.0.0.1\r\nnameserver fe80::1%lo\nnameserver x\n\n", None),
    ],
)
def test_resolv_conf_is_read_as_glibc_reads_it(
    resolv_conf: Path, text: bytes, expected: tuple[list[str], list[str]] | None
) -> None:
    """Bytes that are not UTF-8 do no harm, and the last search or domain line counts."""
    resolv_conf.write_bytes(text)
    assert resolv.read() == (expected or (["10.0.0.1", "fe80::1%lo"], []))
