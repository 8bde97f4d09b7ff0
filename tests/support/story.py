"""What the end-to-end tests work with: a namespace, an overlay, kubectl, and a second opinion.

The second opinion never asks the program: it reads `CLUSTER NODES` and `CLUSTER INFO` in every
pod with the server's own command line and compares what they say.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.rendering import IMAGE, IMAGE_TAG

ROOT = Path(__file__).resolve().parents[2]
SERVER_IMAGE = os.environ.get("E2E_SERVER_IMAGE", "")
ALL_SLOTS = 16384
JOBS = "app.kubernetes.io/component=bootstrap"
MEMBERS = "app=redis,appCluster=redis-cluster"
CA = {"key": "ca.crt", "path": "ca.crt"}
CONTAINER = "/spec/template/spec/containers/0"
ENV = f"{CONTAINER}/env/-"
Object = dict[str, Any]


def kubectl(*arguments: str | Path, stdin: str | None = None, check: bool = True) -> str:
    """Run kubectl and return what it printed."""
    done = subprocess.run(
        ["kubectl", *map(str, arguments)], input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 or not check, f"kubectl {arguments}: {done.stdout}{done.stderr}"
    return done.stdout + (done.stderr if done.returncode else "")


@dataclass(frozen=True)
class Member:
    """One line of CLUSTER NODES."""

    node_id: str
    address: str
    flags: frozenset[str]
    primary: str
    slots: int
    open_slots: int

    @property
    def is_primary(self) -> bool:
        """Return whether it owns slots or may."""
        return "master" in self.flags


def parse_member(line: str) -> Member:
    """Read one line of CLUSTER NODES."""
    words = line.split()
    closed = [word for word in words[8:] if not word.startswith("[")]
    slots = 0
    for word in closed:
        first, _, last = word.partition("-")
        slots += int(last or first) - int(first) + 1
    flags = frozenset(words[2].split(",")) - {"myself"}
    open_slots = len(words) - 8 - len(closed)
    return Member(words[0], words[1].split(",")[0], flags, words[3], slots, open_slots)


@dataclass
class Story:
    """One namespace and the overlay that is applied to it."""

    namespace: str
    folder: Path
    replicas: int = 6
    fields: Object = field(default_factory=dict)
    patches: list[Object] = field(default_factory=list)
    base: str = "../manifests/base"
    small: list[Object] = field(default_factory=lambda: SMALL)
    prefix: str = ""  # the namePrefix of another cluster in the namespace
    copies: int = 1  # replicas per primary

    def k(self, *arguments: str | Path, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl in this namespace."""
        return kubectl("-n", self.namespace, *arguments, stdin=stdin, check=check)

    # --- what a user does

    def apply(self, *options: str, **changes: object) -> dict[str, str]:
        """Edit the overlay, `kubectl apply -k` it, and return what kubectl said of each object."""
        for name, value in changes.items():
            setattr(self, name, value)
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [self.base],
            "replicas": [{"name": "redis-app", "count": self.replicas}],
            "patches": [*self.small, *self.patches],
            **({"namePrefix": self.prefix} if self.prefix else {}),
            **self.fields,
        }
        images = kustomization.get("images", [])
        if SERVER_IMAGE and all(each["name"] != "redis" for each in images):
            name, _, tag = SERVER_IMAGE.rpartition(":")
            server = {"name": "redis", "newName": name, "newTag": tag}
            kustomization["images"] = [*images, server]
        self.mine.mkdir(exist_ok=True)
        (self.mine / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        said = self.k("apply", "-k", self.mine, *options)
        return dict(line.rsplit(" ", 1) for line in said.splitlines())

    @property
    def mine(self) -> Path:
        """Return the directory of the overlay."""
        return self.folder / f"{self.prefix}mine"

    def rendered(self, kind: str) -> Object:
        """Return the first object of a kind in the overlay."""
        rendered = yaml.safe_load_all(kubectl("kustomize", self.mine))
        return next(one for one in rendered if one["kind"] == kind)

    def run_again(self, name: str = "redis-bootstrap-now") -> str:
        """Run the Job once more, under another name."""
        job = self.rendered("Job")
        job["metadata"]["name"] = name
        self.k("create", "-f", "-", stdin=yaml.safe_dump(job))
        return name

    def fill(self, keys: int) -> None:
        """Write so many keys, as the user that applications have."""
        pairs = f'i=0; while [ $i -lt {keys} ]; do echo "set data:$i $i"; i=$((i+1)); done'
        with_tls = "[ ! -f /etc/redis/tls.conf ] || set -- --tls --cacert /etc/redis-tls/ca.crt"
        password = self.password()
        with_auth = f"export REDISCLI_AUTH={password}" if password else ":"
        client = 'redis-cli -c --no-auth-warning "$@" | sort | uniq -c'
        script = f"{with_tls}; {with_auth}; ({pairs}) | {client}"
        self.k("exec", self.member(0), "-c", "redis", "--", "sh", "-c", script)
        assert self.keys() == keys

    def password(self) -> str:
        """Return the password of applications; nothing without components/auth."""
        name = f"{self.prefix}redis-auth"
        secret = self.k("get", "secret", name, "-o", "json", "--ignore-not-found")
        return base64.b64decode(json.loads(secret)["data"]["password"]).decode() if secret else ""

    # --- what a user waits for

    def job(self) -> str:
        """Return the name of the Job that this overlay made."""
        return str(self.rendered("Job")["metadata"]["name"])

    def wait_for_job(self, name: str = "", *, seconds: int = 180) -> Object:
        """Wait until a Job ends one way or the other, and return its termination message."""
        name = name or self.job()
        ended = "--for=jsonpath={.status.conditions[0].status}=True"
        self.k("wait", f"job/{name}", ended, f"--timeout={seconds}s")
        return self.last_words(name)

    def wait_for_failure(self) -> str:
        """Wait until the Job fails, and return why, as `kubectl describe job` shows it."""
        self.k("wait", f"job/{self.job()}", "--for=condition=Failed", "--timeout=180s")
        conditions = json.loads(self.k("get", "job", self.job(), "-o", "json"))["status"]
        return next(str(c["reason"]) for c in conditions["conditions"] if c["type"] == "Failed")

    def last_words(self, name: str = "") -> Object:
        """Return the termination message of the Job's newest pod."""
        pods = json.loads(
            self.k("get", "pods", "-l", f"job-name={name or self.job()}", "-o", "json")
        )
        pods["items"].sort(key=lambda pod: pod["metadata"]["creationTimestamp"])
        message = pods["items"][-1]["status"]["containerStatuses"][0]["state"]["terminated"]
        last: Object = json.loads(message["message"])
        return last

    def wait_until(
        self, what: Callable[[], object], *, seconds: float = 120, description: str = ""
    ) -> float:
        """Look again and again until it is so, and return the seconds that it took."""
        begun = time.monotonic()
        while not what():
            assert time.monotonic() - begun < seconds, f"not in {seconds} s: {description or what}"
            time.sleep(0.5)
        return time.monotonic() - begun

    def wait_until_ready(self, *, seconds: float = 300) -> float:
        """Wait until nothing is missing and the reconciler says so; return the seconds of both."""
        begun = time.monotonic()
        self.wait_until_healthy(seconds=seconds)
        self.k("rollout", "status", f"deployment/{self.prefix}redis-bootstrap", "--timeout=90s")
        return time.monotonic() - begun

    def wait_until_healthy(self, *, seconds: float = 120) -> float:
        """Wait until nothing is missing, and return the seconds that it took."""
        begun = time.monotonic()
        while missing := self.missing():
            assert time.monotonic() - begun < seconds, f"not healthy in {seconds} s: {missing}"
            time.sleep(0.5)
        return time.monotonic() - begun

    def diagnosis(self) -> str:
        """Say what a person would look at when something is wrong."""
        looks = (
            ("get", "pods,jobs", "-o", "wide"),
            ("get", "events", "--sort-by=.lastTimestamp", "--field-selector=type!=Normal"),
            ("logs", "-l", JOBS, "--tail=12", "--prefix"),
            ("logs", "-l", "redis-client", "--tail=20"),
            ("logs", f"deployment/{self.prefix}redis-bootstrap", "--tail=30"),
            ("exec", self.member(0), "-c", "redis", "--", "redis-cli", "cluster", "nodes"),
        )
        return "\n".join(self.k(*look, check=False)[-8000:] for look in looks)

    # --- the second opinion

    def member(self, ordinal: int) -> str:
        """Return the name of a pod."""
        return f"{self.prefix}redis-app-{ordinal}"

    def pods(self, selector: str = "") -> list[Object]:
        """Return the pods, leaving ones too; by default the members."""
        selector = selector or f"app=redis,appCluster={self.prefix}redis-cluster"
        return list(json.loads(self.k("get", "pods", "-l", selector, "-o", "json"))["items"])

    def uids(self, selector: str = "") -> dict[str, str]:
        """Return what tells each pod from the next one of its name."""
        return {p["metadata"]["name"]: p["metadata"]["uid"] for p in self.pods(selector)}

    def endpoints(self, service: str) -> list[Object]:
        """Return what a Service resolves to, ready or not."""
        label = f"kubernetes.io/service-name={service}"
        slices = json.loads(self.k("get", "endpointslices", "-l", label, "-o", "json"))["items"]
        return [endpoint for one in slices for endpoint in one.get("endpoints") or []]

    def is_gone_or_held(self, *pods: str) -> bool:
        """Return whether each has left, or is held in preStop and says what is to be done."""
        names = self.uids()
        logs = [self.k("logs", pod, "--tail=200", check=False) for pod in pods if pod in names]
        return all("kubectl apply -k" in log for log in logs)

    def cli(self, pod: str, *command: str, check: bool = True) -> str:
        """Run redis-cli in a pod, with the words that its scripts use for passwords and TLS."""
        inside = 'here=/etc/redis; . /etc/redis/lib.sh; here=/etc/redis; here_ask "$@"'
        inside = f'if [ -f /etc/redis/lib.sh ]; then {inside}; else redis-cli "$@"; fi'
        return self.k(
            "exec", pod, "-c", "redis", "--", "sh", "-c", inside, "sh", *command, check=check
        )

    def views(self) -> dict[str, list[Member]]:
        """Return CLUSTER NODES of every pod; empty for one that does not answer."""

        def view(pod: str) -> list[Member]:
            for _ in range(3):  # a busy machine resets a connection now and then
                listing = self.cli(pod, "cluster", "nodes", check=False)
                if lines := [line for line in listing.splitlines() if "connected" in line]:
                    return [parse_member(line) for line in lines]
            return []

        names = [pod["metadata"]["name"] for pod in self.pods()]
        with ThreadPoolExecutor(max_workers=4) as pool:
            return dict(zip(names, pool.map(view, names), strict=True))

    def missing(self) -> str:
        """Say what is missing on any pod's own view; nothing when the cluster is healthy."""
        views = self.views()
        expected = {self.member(n) for n in range(self.replicas)}
        if set(views) != expected:
            return f"pods {sorted(views)}"
        first = views[self.member(0)]
        for pod, view in views.items():
            if len(view) != self.replicas:
                return f"{pod} knows {len(view)} members"
            if bad := [m for m in view if m.flags - {"master", "slave", "nofailover"}]:
                return f"{pod} sees {bad}"
            if shape(view) != shape(first):
                return f"{pod} disagrees with {self.member(0)}"
            if any(m.open_slots for m in view):
                return f"{pod} has open slots"
            if "cluster_state:ok" not in self.cli(pod, "cluster", "info", check=False):
                return f"{pod} does not say cluster_state:ok"
        primaries = [m for m in first if m.is_primary]
        if len(primaries) != self.replicas // (1 + self.copies):
            return f"{len(primaries)} primaries"
        each = Counter(m.primary for m in first if not m.is_primary)
        if any(each[m.node_id] != self.copies for m in primaries):
            return f"replicas per primary: {dict(each)}"
        shares = [m.slots for m in primaries]
        if sum(shares) != ALL_SLOTS or max(shares) - min(shares) > 1:
            return f"slots {shares}"
        for pod in views:
            replication = self.cli(pod, "info", "replication", check=False)
            if "role:master" not in replication and "master_link_status:up" not in replication:
                return f"{pod} is not in sync"
        return ""

    def keys(self) -> int:
        """Count the keys of the whole cluster, with INFO: the program's user has no DBSIZE."""
        primaries = [p for p, view in self.views().items() if is_primary_of_its_view(self, p, view)]
        spaces = [self.cli(pod, "info", "keyspace") for pod in primaries]
        return sum(int(n) for space in spaces for n in re.findall(r":keys=(\d+)", space))

    # --- an application that writes

    @contextmanager
    def writer(
        self, name: str = "writer", *, host: str = "", password: str = ""
    ) -> Iterator[Object]:
        """Write throughout the block; afterwards the yielded dictionary says how it went."""
        result: Object = {}
        host = host or f"{self.prefix}redis-access-service"
        script = (ROOT / "tests/support/writer.py").read_text()
        self.k("create", "configmap", name, f"--from-literal=writer.py={script}")
        with_tls = self.k("get", "secret", "redis-tls", "-o", "name", "--ignore-not-found")
        sources: list[Object] = [{"configMap": {"name": name}}]
        if with_tls:
            sources.append({"secret": {"name": "redis-tls", "items": [CA]}})
        command = ["/app/bin/python", "/w/writer.py", host, name, password or self.password()]
        self.k("apply", "-f", "-", stdin=yaml.safe_dump(self.pod(name, command, files=sources)))
        self.wait_until(
            lambda: "writing" in self.k("logs", name, check=False), description="writer"
        )
        yield result
        stop = "import os,signal; os.kill(1, signal.SIGTERM)"
        self.k("exec", name, "--", "/app/bin/python", "-c", stop)
        self.k("wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s")
        result.update(json.loads(self.k("logs", name).splitlines()[-1]))
        self.k("delete", "pod", name, "--wait=false")
        self.k("delete", "configmap", name)

    def pod(self, name: str, command: Sequence[str], *, files: Sequence[Object] = ()) -> Object:
        """Return a pod that runs another command in this project's image, with files in /w."""
        context = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        container: Object = {
            "name": "main",
            "image": image(),
            "command": list(command),
            "securityContext": context,
            "volumeMounts": [{"name": "files", "mountPath": "/w"}] if files else [],
        }
        volumes = [{"name": "files", "projected": {"sources": list(files)}}] if files else []
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"redis-client": "true"}},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 1,
                "securityContext": {
                    "runAsNonRoot": True,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [container],
                "volumes": volumes,
            },
        }


def is_primary_of_its_view(story: Story, pod: str, view: list[Member]) -> bool:
    """Return whether the pod itself is a primary."""
    my_id = story.cli(pod, "cluster", "myid").strip()
    return any(m.node_id == my_id and m.is_primary for m in view)


def shape(view: list[Member]) -> set[tuple[object, ...]]:
    """Return what all views must agree about."""
    return {(m.node_id, m.address, m.is_primary, m.primary, m.slots) for m in view}


def nothing_noticed(noticed: Object, begun: float) -> None:
    """What a client must not notice of what is done to the cluster."""
    tell(seconds=time.monotonic() - begun, **noticed)
    assert noticed["acknowledged"] > 0
    assert noticed["lost"] == 0
    assert noticed["failed"] == 0, noticed["errors"]


def gone_and_back(story: Story) -> float:
    """Kill all pods at once; return the seconds from the last new address to a healthy cluster."""
    old = set(story.uids().values())
    story.k("delete", "pods", "-l", MEMBERS, "--force", "--grace-period=0")

    def all_have_addresses() -> bool:
        now = {one["targetRef"]["uid"] for one in story.endpoints("redis-service")}
        return len(now) == story.replicas and not now & old

    story.wait_until(all_have_addresses, description="the last pod in DNS")
    return story.wait_until_healthy(seconds=180)


def survives_an_outage(story: Story) -> None:
    """Kill all pods at once: they come back on new addresses, healthy, with every key."""
    begun, before = time.monotonic(), story.keys()
    from_last_address = gone_and_back(story)
    tell(seconds=time.monotonic() - begun, from_last_address_s=from_last_address)
    story.k("rollout", "status", "statefulset/redis-app", "--timeout=60s")
    assert story.keys() == before


def tell(**figures: object) -> None:
    """Print what was measured in a line of JSON; no test asserts how fast a machine is."""
    rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in figures.items()}
    print(f"\n{json.dumps(rounded)}")


def script(name: str, *arguments: str) -> str:
    """Run a script of the project, and return what it printed."""
    command = [str(ROOT / "scripts" / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def image() -> str:
    """Return the image of this project as the manifests name it."""
    return f"{IMAGE}:{IMAGE_TAG}"


def patch(kind: str, name: str, *operations: Mapping[str, object]) -> Object:
    """Return a patch for an overlay."""
    return {"target": {"kind": kind, "name": name}, "patch": yaml.safe_dump(list(operations))}


def replace(path: str, value: object) -> Object:
    """Return one operation of a patch."""
    return {"op": "replace", "path": path, "value": value}


def with_env(name: str, value: str) -> Object:
    """Return a patch that sets a variable of the Job."""
    operation = {"op": "add", "path": ENV, "value": {"name": name, "value": value}}
    return patch("Job", "redis-bootstrap", operation)


def gives_up_soon() -> list[Object]:
    """Return patches with which the Job runs once, for eight seconds."""
    once = patch("Job", "redis-bootstrap", replace("/spec/backoffLimit", 0))
    return [with_env("BOOTSTRAP_TIMEOUT", "8"), once]


# Many tests share a small machine, and a node port can be had only once.
SMALL: list[Object] = [
    patch(
        "StatefulSet",
        "redis-app",
        replace(
            f"{CONTAINER}/resources",
            {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        ),
    ),
]


OPEN: list[Story] = []  # what a failing test shows


@contextmanager
def story(name: str, folder: Path, **changes: object) -> Iterator[Story]:
    """Give a test a namespace that admits only restricted pods, and clear it away afterwards."""
    namespace = f"e2e-{name}"
    kubectl("delete", "namespace", namespace, "--ignore-not-found")
    kubectl("create", "namespace", namespace)
    kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    shutil.copytree(ROOT / "manifests", folder / "manifests")
    one = Story(namespace, folder)
    for field_name, value in changes.items():
        setattr(one, field_name, value)
    OPEN.append(one)
    try:
        yield one
    finally:
        OPEN.remove(one)
        one.k("delete", "statefulset,job,deployment", "--all", "--cascade=orphan", check=False)
        one.k("delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false", check=False)
        kubectl("delete", "namespace", namespace, "--wait=false")
