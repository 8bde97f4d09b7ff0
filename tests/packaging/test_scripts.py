"""redis.conf and the scripts of the ConfigMap, on every server that is installed here."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootstrap.settings_checks import passwords_in
from tests.support.rendering import MANIFESTS

pytestmark = pytest.mark.redis
NAMES = (
    "redis-6.2", "redis-7.0", "redis-8.0", "redis-8.2", "redis-8.6", "valkey-8.1", "valkey-9.1",
)  # fmt: skip
POD = "redis-app-0.redis-service.shop.svc.cluster.local"
HUMAN = ("cluster-announce-human-nodename", "zone-a/node-1")
ZONE = ("availability-zone", "zone-a")
KNOWN = {
    "redis-6.2": [],
    "redis-7.0": [("cluster-announce-hostname", POD)],
    "redis-8.0": [("cluster-announce-hostname", POD), HUMAN],
    "redis-8.2": [("cluster-announce-hostname", POD), HUMAN],
    "redis-8.6": [("cluster-announce-hostname", POD), HUMAN],
    "valkey-8.1": [("cluster-announce-hostname", POD), HUMAN, ZONE],
    "valkey-9.1": [("cluster-announce-hostname", POD), HUMAN, ZONE],
}


def free_port() -> int:
    """Return a port whose bus port (10000 more) is free as well."""
    while True:
        with socket.socket() as client, socket.socket() as bus:
            client.bind(("127.0.0.1", 0))
            port = client.getsockname()[1]
            if port < 55000:
                bus.bind(("127.0.0.1", port + 10000))
                return int(port)


# redis-cli of the pod: it asks the pod's own address where the scripts say 127.0.0.1. Files beside
# it change what the scripts see: `swap` what a server answers, and with `deaf` a hand-over is
# answered with OK and not sent.
CLIENT = """#!/bin/sh
echo "$*" >>{folder}/asked
case "$*" in *"cluster failover") [ ! -f {folder}/deaf ] || {{ echo OK; exit; }} ;; esac
host=
for word do
  shift
  [ "$word" != 127.0.0.1 ] || word={address}
  [ "$host" != -h ] || [ ! -f "{folder}/swap-$word" ] || swap={folder}/swap-$word
  host=$word
  set -- "$@" "$word"
done
[ -n "${{swap:-}}" ] || exec {cli} "$@"
{cli} "$@" | sed -f "$swap"
"""


class Pod:
    """A folder that looks to the scripts as a container does."""

    def __init__(
        self, folder: Path, name: str, server: str, address: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.folder, self.conf = folder, folder / "conf"
        self.address, self.port = address, port or free_port()
        kind = name.partition("-")[0]
        home = Path(server).parent
        # A server that came without a command line is asked with another one's.
        clis = (home / "cli", *sorted(home.parent.glob(f"{kind}-*/cli")))
        cli = next((cli for cli in clis if cli.exists()), None)
        if cli is None:
            pytest.skip(f"{name} came without a command line")
        programs = {
            f"{kind}-server": f'#!/bin/sh\nexec {server} "$@"\n',
            f"{kind}-cli": CLIENT.format(folder=folder, address=address, cli=cli),
            "hostname": f"#!/bin/sh\necho {POD}\n",
            "getent": f"#!/bin/sh\ncat {folder}/dns\n",
        }
        (folder / "bin").mkdir(parents=True)
        (folder / "dns").write_text("")
        for program, text in programs.items():
            shim = folder / "bin" / program
            shim.write_text(text)
            shim.chmod(0o755)
        self.conf.mkdir()
        shutil.copy(MANIFESTS / "base/redis.conf", self.conf)
        for script in (MANIFESTS / "base/scripts").glob("*.sh"):
            shutil.copy(script, self.conf)
        (self.conf / "z-test.conf").write_text(f"port {self.port}\nbind {address}\n")
        (folder / "data").mkdir()
        self.environment = {
            "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
            "POD_NAME": "redis-app-0",
            "POD_IP": address,
            "SERVICE": "redis-service",
            "NODE_NAME": "node-1",
            "ZONE": "zone-a",
            "MEMORY_LIMIT": str(100 << 20),
            "REDIS_PORT": str(self.port),
            "REDIS_CREDENTIALS": str(folder / "auth"),
            "PRESTOP_HOLD_SECONDS": "5",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server as the container does, and wait until it is ready."""
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                ["sh", self.conf / "start.sh"],
                cwd=self.folder / "data", env=self.environment, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + 20
        while self.script("probe.sh", "started").returncode:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()

    def script(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of the scripts."""
        return subprocess.run(
            ["sh", self.conf / name, *arguments],
            env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    @contextmanager
    def running(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start one of the scripts, which writes to a log beside the folder of the scripts."""
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                ["sh", self.conf / name], env=self.environment, stdout=log, stderr=log
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def ask(self, *command: str) -> str:
        """Ask the server as the scripts do."""
        inside = f'. {self.conf}/lib.sh; here={self.conf}; here_ask "$@"'
        return subprocess.run(
            ["sh", "-c", inside, f"{self.conf}/x", *command],
            env=self.environment, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip


@pytest.fixture(params=NAMES)
def pod(
    request: pytest.FixtureRequest, installed: Mapping[str, str], tmp_path: Path
) -> Iterator[Callable[[], Pod]]:
    name: str = request.param
    if name not in installed:
        pytest.skip(f"{name} is not here")
    made = Pod(tmp_path / "pod", name, installed[name])
    made.environment["NAME"] = name
    yield lambda: made
    if made.process:
        made.process.kill()
        made.process.wait()


def test_server_starts_with_what_it_knows(pod: Callable[[], Pod]) -> None:
    """The server starts with the address and the place that its pod has."""
    one = pod()
    one.start()
    for option, value in KNOWN[one.environment["NAME"]]:
        assert one.ask("config", "get", option).split() == [option, value]
    assert one.ask("config", "get", "maxmemory").split()[1] == str((100 << 20) * 3 // 5)
    assert "cluster_enabled:1" in one.ask("info", "cluster")
    assert one.process is not None
    shell = Path(f"/proc/{one.process.pid}/cmdline").read_bytes()
    assert b"start.sh" not in shell  # the server took the shell's place, and gets its signals


@pytest.mark.parametrize("line", ["maxmemory 50mb", "\tMAXMEMORY\t50mb"])
def test_maxmemory_of_a_file_takes_precedence(pod: Callable[[], Pod], line: str) -> None:
    """Servers accept tabs and capitals in it, too."""
    one = pod()
    (one.conf / "more.conf").write_text(f"{line}\n")
    one.start()
    assert one.ask("config", "get", "maxmemory").split()[1] == str(50 << 20)


def test_pod_without_slots_goes_at_once(pod: Callable[[], Pod]) -> None:
    """The preStop hook does not hold a pod that owns no slots."""
    one = pod()
    one.start()
    (one.folder / "asked").unlink()
    done = one.script("prestop.sh")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    asked = (one.folder / "asked").read_text()
    assert asked.count("cluster nodes") == 1  # its role is read once, and it goes
    assert one.ask("config", "get", "replica-priority").split()[1] == "0"


def test_pod_with_slots_is_held(pod: Callable[[], Pod]) -> None:
    """The preStop hook holds a pod that still owns slots, and says when it gives up."""
    one = pod()
    one.start()
    assert one.ask("cluster", "addslots", "1", "2", "3").strip() == "OK"
    begun = time.monotonic()
    done = one.script("prestop.sh")
    assert time.monotonic() - begun > 4
    assert "with the slots it owns" in done.stdout


def test_either_of_two_passwords_will_do(pod: Callable[[], Pod]) -> None:
    """While passwords change, the file has the new and the old one, a server maybe only one."""
    one = pod()
    (one.folder / "auth").mkdir()
    (one.folder / "auth/bootstrap-password").write_text("new\nold")
    users = one.folder / "users.acl"
    users.write_text("user default off\nuser bootstrap on >old ~* -@all +ping +cluster\n")
    (one.conf / "auth.conf").write_text(f"aclfile {users}\n")
    one.start()
    assert "myself" in one.ask("cluster", "nodes")


def test_unanswering_server_is_not_ready(pod: Callable[[], Pod]) -> None:
    """The readiness probe fails where the server does not answer."""
    one = pod()
    for wanted in ("started", "ready", "alive"):
        done = one.script("probe.sh", wanted)
        assert done.returncode == 1
        assert "refused" in done.stdout


def test_pods_that_do_not_answer_do_not_delay_a_probe(tmp_path: Path) -> None:
    """Seven of eight addresses are silent, and the last one is a member, within the time limit."""
    programs = {
        "redis-cli": """
host=; while [ $# -gt 0 ]; do if [ "$1" = -h ]; then host=$2; fi; last=$1; shift; done
case $host in
  127.0.0.1) if [ "$last" = server ]; then echo uptime_in_seconds:60; else echo PONG; fi ;;
  10.0.0.8) echo cluster_known_nodes:6 ;;
  *) exec sleep 60 ;;
esac
""",
        "getent": "for i in 1 2 3 4 5 6 7 8; do echo 10.0.0.$i STREAM; done\n",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SERVICE": "redis-service"}
    done = subprocess.run(
        ["sh", f"{MANIFESTS}/base/scripts/probe.sh", "ready"],
        env=environment, capture_output=True, text=True, check=False, timeout=10,
    )  # fmt: skip
    assert done.returncode == 1
    assert "not a member of the cluster yet" in done.stdout


@pytest.mark.parametrize("first", ["", "\ufeff"], ids=["plain", "marked"])
@pytest.mark.parametrize("shell", [["sh"], ["busybox", "sh"]], ids=" ".join)
def test_passwords_are_read_as_the_program_reads_them(
    first: str, shell: list[str], tmp_path: Path
) -> None:
    """Spaces at the ends are kept; a line end, also that of Windows, is none of a password's."""
    shim = tmp_path / "redis-cli"
    shim.write_text(f'#!/bin/sh\necho "[$REDISCLI_AUTH]" >>{tmp_path}/tried\necho NOAUTH\n')
    shim.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "REDIS_CREDENTIALS": str(tmp_path)}
    if shutil.which(shell[0]) is None:
        pytest.skip(f"there is no {shell[0]}")
    text = f"{first} lead\n{first}trail \r\n\nback\\slash\n*\nlast"
    (tmp_path / "bootstrap-password").write_text(text, newline="")
    inside = f". {MANIFESTS}/base/scripts/lib.sh; here_ask ping"
    subprocess.run([*shell, "-c", inside], env=environment, check=True, capture_output=True)
    tried = (tmp_path / "tried").read_text().splitlines()
    assert tried == [f"[{password}]" for password in passwords_in(text)]


def test_password_file_without_a_password_is_not_no_password(tmp_path: Path) -> None:
    """The server is not asked without AUTH."""
    shim = tmp_path / "redis-cli"
    shim.write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\necho PONG\n")
    shim.chmod(0o755)
    (tmp_path / "bootstrap-password").write_text("\n")
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "REDIS_CREDENTIALS": str(tmp_path)}
    inside = f". {MANIFESTS}/base/scripts/lib.sh; here_ask ping"
    done = subprocess.run(
        ["sh", "-c", inside], env=environment, check=True, capture_output=True, text=True
    )
    assert "there is no password" in done.stdout
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize(
    ("tls", "expected", "absent"),
    [
        (False, "--cluster-announce-port 30103", "tls-port"),
        (True, "--cluster-announce-tls-port 30103", "--cluster-announce-port"),
    ],
)
def test_external_member_announces_the_port_that_clients_use(
    tmp_path: Path, *, tls: bool, expected: str, absent: str
) -> None:
    """The member announces no name that only the inside of the cluster can resolve."""
    for file in ("start.sh", "lib.sh"):
        shutil.copy(MANIFESTS / "base/scripts" / file, tmp_path)
    if tls:
        (tmp_path / "tls.conf").touch()
    for name, text in {
        "redis-server": 'case $1 in --version) echo "Redis server v=8.6.0" ;; *) echo "$@" ;; esac',
        "hostname": f"echo {POD.replace('-0', '-3')}",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "POD_NAME": "redis-app-3",
        "POD_IP": "10.0.0.1",
        "ANNOUNCE_IP": "192.0.2.1",
        "ANNOUNCE_PORT_BASE": "30100",
        "ANNOUNCE_BUS_PORT_BASE": "30200",
    }
    done = subprocess.run(
        ["sh", tmp_path / "start.sh"], env=environment, capture_output=True, text=True, check=True
    )
    assert "--cluster-announce-ip 192.0.2.1" in done.stdout
    assert "--cluster-announce-bus-port 30203" in done.stdout
    assert expected in done.stdout
    assert absent not in done.stdout
    assert "preferred-endpoint-type" not in done.stdout


PROGRAMS = {
    "redis-app-0": "redis-bootstrap",
    "eu-redis-app-7": "eu-redis-bootstrap",
    "redis-app-eu-0": "redis-bootstrap-eu",
    "eu-redis-app-blue-2-10": "eu-redis-bootstrap-blue-2",
    "shop-redis-cluster-0": "redis-bootstrap",  # pods of other manifests, with `job-only`
}


def test_held_pod_names_the_program_of_its_own_cluster(tmp_path: Path) -> None:
    """The hint of the preStop hook follows the namePrefix and the nameSuffix."""
    for file in ("prestop.sh", "lib.sh"):
        shutil.copy(MANIFESTS / "base/scripts" / file, tmp_path)
    own, other = "a" * 40, "b" * 40
    primaries = [f"{own} 10.0.0.1:6379@16379 {{}}master - 0 0 1 connected 0-9",
                 f"{other} 10.0.0.2:6379@16379 {{}}master - 0 0 2 connected 10-16383"]  # fmt: skip
    (tmp_path / "own").write_text("\n".join(primaries).format("myself,", ""))
    replies = [*primaries, "replica-priority", "100", "role:master\n"]
    (tmp_path / "other").write_text("\n".join(replies).format("", "myself,"))
    reply = f"case $* in *10.0.0.2*) cat {tmp_path}/other ;; *nodes*) cat {tmp_path}/own ;; esac"
    for name, text in {
        "redis-cli": reply,
        "getent": "printf '10.0.0.1 STREAM x\n10.0.0.2 STREAM x\n'",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    hooks = {}
    for pod in PROGRAMS:
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "POD_NAME": pod, "POD_IP": "10.0.0.1",
                       "SERVICE": "redis-service", "PRESTOP_HOLD_SECONDS": "4"}  # fmt: skip
        hooks[pod] = subprocess.Popen(
            ["sh", tmp_path / "prestop.sh"], env=environment, stdout=subprocess.PIPE, text=True
        )
    said = {pod: hook.communicate(timeout=60)[0] for pod, hook in hooks.items()}
    for pod, program in PROGRAMS.items():
        assert f"shrink, {program} moves the slots away" in said[pod]
        assert said[pod].rpartition("kubectl logs deployment/")[2].split()[0] == program


SOME = ("redis-6.2", "redis-7.0", "redis-8.6", "valkey-9.1")


class Three:
    """Three pods on addresses of their own: a primary with slots, its replica, another one."""

    def __init__(self, folder: Path, name: str, server: str) -> None:
        port, net = free_port(), f"127.{os.getpid() % 200 + 20}.{next(NUMBERS)}"
        self.pods = [Pod(folder / str(n), name, server, f"{net}.{n + 1}", port) for n in range(3)]
        self.primary, self.replica, self.other = self.pods
        self.publish(*self.pods)

    def publish(self, *pods: Pod) -> None:
        """Let DNS name these pods, and no other ones."""
        names = "".join(f"{pod.address} STREAM redis-service\n" for pod in pods)
        for pod in self.pods:
            (pod.folder / "dns").write_text(names)

    def form(self) -> None:
        """Start the servers and make them one cluster."""
        for pod in self.pods:
            pod.start()
        self.primary.ask("cluster", "addslots", "1", "2", "3")
        for pod in (self.replica, self.other):
            pod.ask("cluster", "meet", self.primary.address, str(self.primary.port))
        self.until(lambda: all(self.knows(pod) == 3 for pod in self.pods))
        self.replica.ask("cluster", "replicate", self.primary.ask("cluster", "myid").strip())
        self.until(lambda: "master_link_status:up" in self.replica.ask("info", "replication"))
        self.until(lambda: all(" slave " in pod.ask("cluster", "nodes").replace(
            "myself,slave", "slave") for pod in self.pods))  # fmt: skip

    @staticmethod
    def knows(pod: Pod) -> int:
        """Return how many members this one knows and is connected to."""
        lines = pod.ask("cluster", "nodes").splitlines()
        return sum(" connected" in line and "handshake" not in line for line in lines)

    @staticmethod
    def until(condition: Callable[[], bool], seconds: float = 30) -> None:
        """Poll until it is so."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.1)


NUMBERS = iter(range(1, 250))


@pytest.fixture(params=SOME)
def three(
    request: pytest.FixtureRequest, installed: Mapping[str, str], tmp_path: Path
) -> Iterator[Three]:
    name: str = request.param
    if name not in installed:
        pytest.skip(f"{name} is not here")
    made = Three(tmp_path, name, installed[name])
    for pod in made.pods:
        pod.environment["NAME"] = name
        pod.environment["PRESTOP_HOLD_SECONDS"] = "25"
    yield made
    for pod in made.pods:
        if pod.process:
            pod.process.kill()
            pod.process.wait()


def role(pod: Pod) -> str:
    return pod.ask("role").split()[0]


def test_primary_hands_over_and_goes(three: Three) -> None:
    """A primary that is restarted hands over to a replica that is in sync."""
    three.form()
    done = three.primary.script("prestop.sh")
    assert f"handed over to the pod at {three.replica.address}" in done.stdout
    assert "other primaries" not in done.stdout
    assert (role(three.primary), role(three.replica)) == ("slave", "master")


def test_hand_over_waits_until_every_member_knows_the_replica(three: Three) -> None:
    """A member that has its former address would not vote for it."""
    three.form()
    swap = three.primary.folder / f"swap-{three.other.address}"
    swap.write_text(f"s/{three.replica.address}:/127.0.0.9:/\n")
    with three.primary.running("prestop.sh") as hook:
        log = three.primary.folder / "prestop.sh.log"
        three.until(lambda: "could not win a vote yet" in log.read_text())
        assert f"{three.other.address} does not see it" in log.read_text()
        assert "cluster failover" not in (three.primary.folder / "asked").read_text()
        assert role(three.primary) == "master"
        swap.unlink()
        assert hook.wait(30) == 0
    assert "handed over" in log.read_text()


@pytest.mark.parametrize("is_first", [True, False])
def test_primaries_that_go_together_take_turns(three: Three, *, is_first: bool) -> None:
    """Of elections at the same time some are lost, and such a shard takes no writes for seconds."""
    three.form()
    three.other.ask("cluster", "addslots", "4")
    three.other.ask("config", "set", "replica-priority", "0")
    ids = [pod.ask("cluster", "myid") for pod in (three.primary, three.other)]
    owners = lambda: three.primary.ask("cluster", "nodes").count("connected 4")  # noqa: E731
    three.until(lambda: owners() == 1)
    turn = 0 if ids[0] < ids[1] else 2
    # A clock that only sleeping moves, in its turn or out of it. The pod waits two seconds before.
    now = move_clock_by_sleeping(three.primary)
    now.write_text(str(1000 - 2 + turn + (0 if is_first else 1)))
    done = three.primary.script("prestop.sh")
    assert (
        "other primaries are going too; this one hands over in 3 s" in done.stdout
    ) is not is_first
    assert f"handed over to the pod at {three.replica.address}" in done.stdout


def test_member_that_does_not_answer_does_not_hold_a_hand_over(three: Three) -> None:
    """A hand-over needs a majority of votes, not the vote of every member."""
    three.form()
    assert three.other.process is not None
    three.other.process.kill()
    three.other.process.wait()
    assert "handed over" in three.primary.script("prestop.sh").stdout


def test_failed_hand_over_is_not_repeated_at_once(three: Three) -> None:
    """A voter refuses the next vote for two node time-outs, and each attempt pauses writes."""
    three.form()
    three.primary.ask("config", "set", "cluster-node-timeout", "60000")
    (three.primary.folder / "deaf").touch()
    three.primary.environment["PRESTOP_HOLD_SECONDS"] = "14"
    done = three.primary.script("prestop.sh")
    assert "did not take over in time" in done.stdout
    assert "after two node time-outs" in done.stdout
    assert (three.primary.folder / "asked").read_text().count("cluster failover") == 1


def test_hook_asks_nobody_whom_dns_does_not_name(three: Three) -> None:
    """Whoever reaches the bus port can become a member, and must not be sent the password."""
    three.form()
    three.publish(three.primary)
    three.primary.environment["PRESTOP_HOLD_SECONDS"] = "5"
    done = three.primary.script("prestop.sh")
    assert "with the slots it owns" in done.stdout
    asked = (three.primary.folder / "asked").read_text()
    assert three.replica.address not in asked
    assert three.other.address not in asked
    assert role(three.primary) == "master"


def test_hook_asks_nobody_while_dns_is_silent(three: Three) -> None:
    """An address of an earlier answer may be another process's: it is not sent the password."""
    three.form()
    three.replica.ask("config", "set", "replica-priority", "0")
    now = move_clock_by_sleeping(three.primary)
    three.primary.environment["PRESTOP_HOLD_SECONDS"] = "600"
    asked = three.primary.folder / "asked"

    def has_asked_others() -> bool:
        return three.other.address in asked.read_text()

    with three.primary.running("prestop.sh") as hook:
        three.until(has_asked_others)
        three.publish()
        silent_at = int(now.read_text() or 0)
        # A survey that was under way has ended after the second of these.
        three.until(lambda: int(now.read_text() or 0) > silent_at + 2)
        before = asked.read_text().count(three.other.address)
        three.until(lambda: int(now.read_text() or 0) > silent_at + 12)
        assert asked.read_text().count(three.other.address) == before
        assert hook.poll() is None


def test_pods_that_all_go_do_not_hand_over_to_each_other(three: Three) -> None:
    """Where all pods are deleted, none waits for another one that is deleted as well."""
    three.form()
    three.replica.ask("config", "set", "replica-priority", "0")
    three.primary.environment["PRESTOP_HOLD_SECONDS"] = "5"
    done = three.primary.script("prestop.sh")
    assert "no replica that is in sync and stays" in done.stdout
    assert "cluster failover" not in (three.primary.folder / "asked").read_text()


def move_clock_by_sleeping(pod: Pod) -> Path:
    """Let only sleep move the clock of a pod's scripts, and fast; return the file with the time."""
    now = pod.folder / "now"
    now.write_text("1000")
    programs = {
        "date": f"#!/bin/sh\ncat {now}\n",
        "sleep": "#!/bin/sh\nn=${1%.*}; [ $n != 0 ] || n=1\n"
        f"echo $(($(cat {now}) + n)) >{now}\nexec /bin/sleep 0.1\n",
    }
    for name, text in programs.items():
        (pod.folder / "bin" / name).write_text(text)
        (pod.folder / "bin" / name).chmod(0o755)
    return now


def test_pod_waits_for_members_that_a_cache_does_not_name_yet(three: Three) -> None:
    """Pods that were deleted together are back within seconds, and in DNS when caches let go."""
    three.form()
    three.publish(three.primary)
    now = move_clock_by_sleeping(three.primary)
    three.primary.environment["PRESTOP_HOLD_SECONDS"] = "600"
    with three.primary.running("prestop.sh") as hook:
        log = three.primary.folder / "prestop.sh.log"
        # Long after a pod goes that knows of no other one.
        three.until(lambda: int(now.read_text() or 0) > 1060)
        assert hook.poll() is None, log.read_text()
        three.publish(*three.pods)
        assert hook.wait(30) == 0
    assert "handed over" in log.read_text()
    assert "every pod is going" not in log.read_text()


def test_members_that_said_that_they_go_are_not_waited_for(three: Three) -> None:
    """Where a cluster is deleted its Service is, too, so that DNS names nobody any more."""
    three.form()
    for pod in (three.replica, three.other):
        pod.ask("config", "set", "replica-priority", "0")
    now = move_clock_by_sleeping(three.primary)
    three.primary.environment["PRESTOP_HOLD_SECONDS"] = "600"
    with three.primary.running("prestop.sh") as hook:
        three.until(lambda: int(now.read_text() or 0) > 1010)
        three.publish()
        assert hook.wait(60) == 0
    log = (three.primary.folder / "prestop.sh.log").read_text()
    assert "every pod is going; this one goes with its 3 slots" in log
    assert int(now.read_text()) < 1060


def test_pod_goes_when_all_others_are_gone(three: Three) -> None:
    """Nobody comes back where a cluster is deleted."""
    three.form()
    for pod in (three.replica, three.other):
        assert pod.process is not None
        pod.process.kill()
        pod.process.wait()
    now = move_clock_by_sleeping(three.primary)
    three.primary.environment["PRESTOP_HOLD_SECONDS"] = "600"
    done = three.primary.script("prestop.sh")
    assert "every pod is going; this one goes with its 3 slots" in done.stdout
    assert int(now.read_text()) < 1060


def test_pod_that_is_no_member_is_not_ready_beside_a_cluster(three: Three) -> None:
    """Such a pod would show an empty cluster to clients, but nothing waits for it for ever."""
    for pod in three.pods:
        pod.start()
    blank = three.other

    def ready(*, uptime: int) -> bool:
        (blank.folder / f"swap-{blank.address}").write_text(
            f"s/^uptime_in_seconds:.*/uptime_in_seconds:{uptime}/\n"
        )
        done = blank.script("probe.sh", "ready")
        assert bool(done.returncode) == ("not a member of the cluster yet" in done.stdout)
        return not done.returncode

    # Nobody is a member: there is no cluster to wait for, once members had time to be made.
    assert [ready(uptime=up) for up in (3, 30, 700)] == [False, True, True]
    three.replica.ask("cluster", "meet", three.primary.address, str(three.primary.port))
    three.until(lambda: three.knows(three.primary) == 2)
    assert [ready(uptime=up) for up in (3, 30, 700)] == [False, False, True]
    for wanted in ("started", "alive"):
        assert blank.script("probe.sh", wanted).returncode == 0
    assert three.primary.script("probe.sh", "ready").returncode == 0
    blank.ask("cluster", "meet", three.primary.address, str(three.primary.port))
    three.until(lambda: three.knows(blank) == 3)
    assert ready(uptime=3)
