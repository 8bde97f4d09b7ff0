"""Settings are completed and compared with each other before anything is contacted."""

import ssl
import subprocess
from pathlib import Path

import pytest

from bootstrap import settings, settings_checks
from bootstrap.errors import ExitCode, SettingsError
from bootstrap.net import resolv_conf as resolv
from bootstrap.settings import Settings
from tests.support.certificates import Certificate, make_ca, make_leaf

SECRET = "s3cret-phrase"
SIX = {"nodes": "6"}
DEFAULT = "default.svc.cluster.local"


@pytest.fixture(autouse=True)
def _without_resolv_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on resolv.conf of this machine."""
    monkeypatch.setattr(resolv, "RESOLV_CONF", tmp_path / "resolv.conf")


def load(**texts: str) -> Settings:
    return settings_checks.load(texts)


def faults(**texts: str) -> str:
    """Return what is wrong with settings."""
    with pytest.raises(SettingsError) as caught:
        load(**texts)
    assert caught.value.exit_code is ExitCode.SETTINGS
    assert caught.value.remedy == "fix the settings and run again"
    return caught.value.cause


def test_defaults_complete_the_settings() -> None:
    """With nothing but the number of pods the settings are those of the manifests."""
    loaded = load(nodes="6")
    assert (loaded.nodes, loaded.replicas, loaded.port) == (6, 1, 6379)
    assert loaded.service == "redis-service.default.svc.cluster.local"
    assert loaded.cluster == "redis-app.redis-service.default.svc.cluster.local"
    assert (loaded.passwords, loaded.username, loaded.tls_context) == ((), None, None)
    assert (loaded.timeout_s, loaded.rebalance, loaded.allow_data_loss) == (600.0, True, False)
    assert (loaded.http_listen[1], loaded.interval_s) == (9102, 5.0)


def test_empty_texts_mean_the_default() -> None:
    """A variable that a manifest leaves empty is the same as none."""
    empty = {option.name: "" for option in settings.OPTIONS["run"]}
    assert settings_checks.load({**empty, "nodes": "6"}) == load(nodes="6")


def test_endpoints_take_the_port_and_the_number_of_pods() -> None:
    """Endpoints without a port have the one of the settings; all of them are wanted by default."""
    loaded = load(endpoints="redis-0,redis-1:7000,[fd00::2]", replicas="0", port="6380")
    assert loaded.endpoints == (("redis-0", 6380), ("redis-1", 7000), ("fd00::2", 6380))
    assert (loaded.nodes, loaded.service, loaded.cluster) == (3, "", "redis-0")
    assert load(nodes="6", nameservers="10.0.0.10,::1").nameservers == (
        ("10.0.0.10", 53),
        ("::1", 53),
    )


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({}, "NODES is required: the number of pods of the StatefulSet"),
        ({"nodes": "x"}, "NODES must be a whole number, not 'x'"),
        ({"replicas": "-1", "nodes": "5"}, "REPLICAS must be from 0 to 16384, not -1"),
        ({"endpoints": "a..b,b,c"}, "ENDPOINTS names 'a..b', which is not host or host:port"),
        ({"endpoints": "a,b,A.", "replicas": "0"}, "ENDPOINTS names a:6379 twice"),
        (
            {"endpoints": "a,b,c", "nodes": "4"},
            "NODES is 4, but BOOTSTRAP_ENDPOINTS names 3 hosts",
        ),
        (
            {**SIX, "nameservers": "::1,[0:0:0:0:0:0:0:1]:53"},
            "NAMESERVERS names ::1:53 twice",
        ),
        ({"nodes": "16385"}, "NODES must be from 1 to 16384, not 16385"),
        ({**SIX, "replicas": "16385"}, "REPLICAS must be from 0 to 16384, not 16385"),
        ({"nodes": "6_0"}, "NODES must be a whole number, not '6_0'"),
        (
            {**SIX, "timeout": "1_0"},
            "TIMEOUT must be a finite number of seconds above 0, not '1_0'",
        ),
        ({"endpoints": " "}, "ENDPOINTS must name at least one host, not ' '"),
        ({**SIX, "endpoints": ","}, "ENDPOINTS must name at least one host, not ','"),
        ({**SIX, "nameservers": ","}, "NAMESERVERS must name at least one host, not ','"),
        (
            {**SIX, "username": "app"},
            "USERNAME needs BOOTSTRAP_PASSWORD or BOOTSTRAP_PASSWORD_FILE",
        ),
        ({**SIX, "password": "\n\n"}, "PASSWORD is blank"),
        ({**SIX, "password": "x\udcff"}, "PASSWORD is not UTF-8 text"),
        ({**SIX, "tls_ca": "/ca.crt"}, "TLS_CA is set, but BOOTSTRAP_TLS is not true"),
        ({**SIX, "tls_ca": "/x", "tls": "maybe"}, "TLS must be true or false, not 'maybe'"),
        (
            {**SIX, "password_file": "/nowhere"},
            "PASSWORD_FILE names '/nowhere', which cannot be read: No such file or directory",
        ),
        (
            {**SIX, "password_file": "a\0b"},
            "PASSWORD_FILE names 'a\\x00b', which cannot be read: embedded null byte",
        ),
    ],
)
def test_a_fault_is_reported_alone(texts: dict[str, str], message: str) -> None:
    """What follows from a fault that is reported already is not reported as another one."""
    assert faults(**texts) == f"BOOTSTRAP_{message}"


@pytest.mark.parametrize(
    ("nodes", "replicas", "message"),
    [
        ("5", "1", "5 nodes with 1 replica per primary allow only 2 primaries"),
        ("3", "1", "3 nodes with 1 replica per primary allow only 1 primary"),
    ],
)
def test_too_few_pods_are_a_fault(nodes: str, replicas: str, message: str) -> None:
    """A cluster has at least three primaries; the fault says which numbers would do."""
    least = 3 * (int(replicas) + 1)
    assert faults(nodes=nodes, replicas=replicas) == (
        f"{message}, but at least 3 are required: set BOOTSTRAP_NODES to {least} or more, or "
        "BOOTSTRAP_REPLICAS lower"
    )


def test_the_number_of_another_object_is_a_fault_that_says_so() -> None:
    """`replicas:` of a kustomization that names the reconciler sets this number, too."""
    assert faults(nodes="2", replicas="0").endswith(
        "set BOOTSTRAP_NODES to 3 or more, or BOOTSTRAP_REPLICAS lower "
        "(in a kustomization, replicas: must name the StatefulSet)"
    )


def test_a_long_name_of_a_statefulset_is_a_fault() -> None:
    """Kubernetes accepts such a StatefulSet, and never creates a pod for it."""
    assert load(nodes="6", statefulset="a" * 52).statefulset == "a" * 52
    assert faults(nodes="6", statefulset="a" * 53) == (
        "BOOTSTRAP_STATEFULSET has 53 characters, but Kubernetes creates no pods for a "
        "StatefulSet whose name is longer than 52"
    )
    assert load(endpoints="a,b,c", replicas="0", statefulset="a" * 53).nodes == 3


def test_all_faults_are_reported_together() -> None:
    """One sentence names every faulty setting."""
    bad = {
        "nodes": "none", "replicas": "-1", "statefulset": "redis.app", "service": "redis_service",
        "namespace": "de fault", "cluster_domain": "cluster..local", "port": "0",
        "nameservers": "coredns", "endpoints": "a..b", "username": "\udcff",
        "password_file": "/nonexistent", "tls": "perhaps", "timeout": "-1",
        "allow_data_loss": "perhaps", "rebalance": "perhaps", "exit_code": "perhaps",
        "watch": "perhaps", "interval": "0", "http_listen": "nowhere", "output": "yaml",
        "log_level": "loud", "log_format": "xml",
    }  # fmt: skip
    named = {problem.split()[0] for problem in faults(**bad).split("; ")}
    # Where endpoints are given the names of Kubernetes objects are not used.
    unused = {"statefulset", "service", "namespace", "cluster_domain"}
    assert named >= {f"BOOTSTRAP_{name.upper()}" for name in bad.keys() - unused}
    del bad["endpoints"]
    named = {problem.split()[0] for problem in faults(**bad).split("; ")}
    assert named == {f"BOOTSTRAP_{name.upper()}" for name in bad}


def test_a_name_longer_than_dns_allows_is_a_fault() -> None:
    """The longest name that the settings make has to fit into a question to a name server."""
    message = faults(nodes="6", cluster_domain=".".join("a" * 120))
    assert "make names of 277 characters, but DNS allows 253: redis-app-5.redis-service." in message


@pytest.mark.parametrize(
    ("resolv_conf", "service"),
    [
        (b"search shop.svc.corp.local svc.corp.local corp.local\n", "shop.svc.corp.local"),
        (b"nameserver 10.0.0.10\nsearch shop.svc.k8s.example.org\n", "shop.svc.k8s.example.org"),
        (b"search shop.svc.cluster.local. other.example.\n", "shop.svc.cluster.local"),
        (b"search example.org\n", DEFAULT),
        (b"", DEFAULT),
        (b"# g\xe9n\xe9r\xe9\nsearch shop.svc.corp\n", "shop.svc.corp"),
        (b"search a.svc.old\nsearch shop.svc.corp svc.corp\n", "shop.svc.corp"),
        (b"search a.svc.old\nsearch \n", "a.svc.old"),
        (b"search a.svc.old\ndomain shop.svc.corp\n", "shop.svc.corp"),
        (b"domain shop.svc.corp b.svc.corp\n", "shop.svc.corp"),
        (b"search\tshop.svc.corp\t svc.corp\r\n", "shop.svc.corp"),
        (b"search other.example shop.svc.corp", "shop.svc.corp"),
        (b"#search shop.svc.corp\n", DEFAULT),
        (b"; search shop.svc.corp\n", DEFAULT),
        (b" search shop.svc.corp\n", DEFAULT),
        (b"searching shop.svc.corp\n", DEFAULT),
    ],
)  # fmt: skip
def test_namespace_and_domain_come_from_the_search_list(
    resolv_conf: bytes, service: str, tmp_path: Path
) -> None:
    """resolv.conf is read as glibc reads it: the last `search` or `domain` counts, bytes do not."""
    (tmp_path / "resolv.conf").write_bytes(resolv_conf)
    assert load(nodes="6").service == f"redis-service.{service}"
    given = load(nodes="6", namespace="mine", cluster_domain="my.zone.")
    assert given.service == "redis-service.mine.svc.my.zone"


@pytest.mark.parametrize(
    ("text", "passwords"),
    [
        ("one", ("one",)),
        ("one\n", ("one",)),
        ("one\r\n", ("one",)),
        ("old\r\nnew\r\n", ("old", "new")),
        ("old\n\nnew", ("old", "new")),
        ("\ufeffone\n", ("one",)),
        (" spaced \n", (" spaced ",)),
        ("", ()),
        ("\n", ()),
    ],
)
def test_passwords_stand_one_per_line(
    text: str, passwords: tuple[str, ...], tmp_path: Path
) -> None:
    """A trailing newline and a byte order mark are dropped, in a variable and in a file."""
    assert settings_checks.passwords_in(text) == passwords
    path = tmp_path / "password"
    path.write_text(text, newline="")
    if passwords:
        assert load(nodes="6", password=text).passwords == passwords
        assert load(nodes="6", password="other", password_file=str(path)).passwords == passwords
    else:
        message = f"BOOTSTRAP_PASSWORD_FILE names '{path}', which has no password"
        assert faults(nodes="6", password_file=str(path)) == message


def test_a_password_file_must_be_text(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are a fault, and the fault does not repeat them."""
    path = tmp_path / "password"
    path.write_bytes(SECRET.encode("utf-16"))
    message = faults(nodes="6", password_file=str(path), username="app")
    assert message == f"BOOTSTRAP_PASSWORD_FILE names '{path}', which is not UTF-8 text"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_ca(tmp_path_factory.mktemp("ca"), "ca")


@pytest.fixture(scope="module")
def leaf(ca: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_leaf(tmp_path_factory.mktemp("leaf"), ca, "client", "client.example")


def tls_faults(ca: Path, cert: Path, key: Path) -> str:
    return faults(nodes="6", tls="true", tls_ca=str(ca), tls_cert=str(cert), tls_key=str(key))


def test_tls_verifies_chain_and_name(ca: Certificate, leaf: Certificate) -> None:
    """The context verifies chain and name; only the extensions of RFC 5280 are not required."""
    files = {"tls_ca": str(ca.cert), "tls_cert": str(leaf.cert), "tls_key": str(leaf.key)}
    context = load(nodes="6", tls="true", **files).tls_context
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert load(nodes="6", tls="true").tls_context is not None


def test_certificate_and_key_go_together(ca: Certificate, leaf: Certificate) -> None:
    """One of the two without the other is a fault that names the missing one."""
    given = {"nodes": "6", "tls": "true", "tls_ca": str(ca.cert)}
    assert faults(**given, tls_cert=str(leaf.cert)) == "BOOTSTRAP_TLS_CERT needs BOOTSTRAP_TLS_KEY"
    assert faults(**given, tls_key=str(leaf.key)) == "BOOTSTRAP_TLS_KEY needs BOOTSTRAP_TLS_CERT"


def test_an_encrypted_key_is_named(ca: Certificate, leaf: Certificate, tmp_path: Path) -> None:
    """A key with a passphrase is reported as encrypted, in both formats of OpenSSL."""
    passphrase = ("-passout", f"pass:{SECRET}")
    for name, more in (("pkcs8", ()), ("traditional", ("-traditional",))):
        key = tmp_path / name
        subprocess.run(
            ["openssl", "pkey", "-in", leaf.key, "-out", key, "-aes256", *passphrase, *more],
            check=True,
            capture_output=True,
        )
        message = tls_faults(ca.cert, leaf.cert, key)
        assert message.startswith(f"BOOTSTRAP_TLS_KEY names '{key}', whose key is encrypted")
        assert ";" not in message


def test_files_that_are_no_pem_are_named(
    ca: Certificate, leaf: Certificate, tmp_path: Path
) -> None:
    """Each of the three files is reported for itself."""
    other = tmp_path / "other"
    other.write_text("not a certificate")
    assert (
        tls_faults(other, leaf.cert, leaf.key)
        == f"BOOTSTRAP_TLS_CA names '{other}', which is not a PEM file"
    )
    message = tls_faults(other, other, other)
    assert [problem.split()[0] for problem in message.split("; ")] == [
        "BOOTSTRAP_TLS_CA",
        "BOOTSTRAP_TLS_CERT",
        "BOOTSTRAP_TLS_KEY",
    ]
    assert tls_faults(ca.cert, leaf.key, leaf.cert) == (
        f"BOOTSTRAP_TLS_CERT names '{leaf.key}', which holds no certificate; "
        f"BOOTSTRAP_TLS_KEY names '{leaf.cert}', which holds no private key"
    )


def test_damaged_pem_is_named(ca: Certificate, leaf: Certificate, tmp_path: Path) -> None:
    """The file that OpenSSL cannot read is the one that is reported."""

    def damaged(path: Path) -> Path:
        copy = tmp_path / f"damaged-{path.name}"
        lines = path.read_text().splitlines()
        copy.write_text("\n".join([lines[0], "!!!!", *lines[2:]]))
        return copy

    for option, files in (
        ("BOOTSTRAP_TLS_CA", (damaged(ca.cert), leaf.cert, leaf.key)),
        ("BOOTSTRAP_TLS_CERT", (ca.cert, damaged(leaf.cert), leaf.key)),
        ("BOOTSTRAP_TLS_KEY", (ca.cert, leaf.cert, damaged(leaf.key))),
    ):
        message = tls_faults(*files)
        assert message.startswith(f"{option} names "), message
        assert "which is not valid PEM: " in message


def test_a_key_of_another_certificate_is_named(ca: Certificate, leaf: Certificate) -> None:
    """A key that does not belong to the certificate is reported as that."""
    message = tls_faults(ca.cert, leaf.cert, ca.key)
    assert (
        message
        == f"BOOTSTRAP_TLS_KEY names a key that does not match the certificate '{leaf.cert}'"
    )


def test_unread_variables_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that no option reads are most often misspelled."""
    monkeypatch.setenv("BOOTSTRAP_REPLICA", "2")
    monkeypatch.setenv("BOOTSTRAP_WATCH", "true")
    monkeypatch.setenv("PATH_BOOTSTRAP_", "x")
    assert settings_checks.unread_variables() == ["BOOTSTRAP_REPLICA"]
