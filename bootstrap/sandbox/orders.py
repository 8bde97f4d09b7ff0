"""What can be done to the servers: each order is a method, and its docstring is its help."""

import difflib
import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

from redis.cluster import RedisCluster

from . import traffic
from .errors import ReplyError, SandboxError
from .pod import Pod
from .world import World

Order: TypeAlias = Callable[[list[str]], str]

PROGRAM = {
    "run": "Start stopped pods, as Kubernetes does, and run the program.",
    "plan": "Show what `run` would do.",
    "status": "Show the nodes and what is wrong with them.",
    "wait": "Wait until the cluster is healthy.",
}
_ARGUMENTS = {
    **dict.fromkeys(("add", "remove", "load"), "N"),
    **dict.fromkeys(("kill", "pause", "resume", "wipe", "move", "partition"), "POD..."),
    **dict.fromkeys(PROGRAM, "[OPTION...]"),
    "start": "[POD...]",
    "traffic": "[on|off]",
}
_MOST_KEYS = 1_000_000
_MOST_PODS = 100
_FEWEST_PRIMARIES = 3
_RUN_TIMEOUT_S = 60
_DROP_NOTHING, _DROP_ALL = -1, -2
_ALONE = "cluster_known_nodes:1\r\n"


class Orders:
    """Carries out orders, one at a time, from whatever thread they come.

    Args:
        world: Whose pods have been started.
        replicas: Replicas per primary that the cluster is to have.
    """

    def __init__(self, world: World, *, replicas: int) -> None:
        self._world = world
        self._replicas = replicas
        self._wanted = len(world.pods)
        self._loaded = 0
        self._paused: set[Pod] = set()
        self._cut: set[Pod] = set()
        self._traffic: traffic.Traffic | None = None
        self._lock = threading.Lock()

    def do(self, words: Sequence[str]) -> str:
        """Carry out an order and return what there is to say."""
        name, *args = words
        order: Order | None = getattr(self, f"do_{name}", None)
        if order is None:
            near = difflib.get_close_matches(name, names(), n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise SandboxError(f"there is no order {name!r}", f"{hint}`help` lists the orders")
        if args and name not in _ARGUMENTS:
            raise SandboxError(f"{name} takes no arguments", f"give `{name}` alone")
        with self._lock:
            try:
                return order(args)
            except (*traffic.ERRORS, ReplyError) as error:
                cause = str(error).partition("\n")[0]
                raise SandboxError(f"{name}: {cause}", "see `status`; `run` heals") from error

    def variables(self) -> dict[str, str]:
        """Return what points the program at this world."""
        return {
            **self._world.env(),
            "BOOTSTRAP_NODES": str(self._wanted),
            "BOOTSTRAP_REPLICAS": str(self._replicas),
            "BOOTSTRAP_TIMEOUT": str(_RUN_TIMEOUT_S),
        }

    def do_add(self, args: list[str]) -> str:
        """Start N more pods, which `run` joins."""
        self._wanted += _number(args, _MOST_PODS)
        while len(self._world.pods) < self._wanted:
            self._world.add_pod()
        return f"{self._wanted} pods wanted; `run` joins the new ones"

    def do_remove(self, args: list[str]) -> str:
        """Remove N pods: `run` moves their slots away, then they stop."""
        wanted = self._wanted - _number(args, _MOST_PODS)
        fewest = _FEWEST_PRIMARIES * (1 + self._replicas)
        if wanted < fewest:
            raise SandboxError("too few pods would be left", f"at least {fewest} are required")
        self._wanted = wanted
        return f"{wanted} pods wanted; `run` empties {_names(self._world.pods[wanted:])}"

    def do_kill(self, args: list[str]) -> str:
        """Kill the process (SIGKILL)."""
        pods = self._end(args)
        return f"killed: {_names(pods)}; replicas take over after 5 s"

    def do_start(self, args: list[str]) -> str:
        """Start stopped pods, restart paused ones."""
        pods = self._pods(args or ["all"])
        stopped = [pod.name for pod in pods if not pod.is_running or pod in self._paused]
        if not stopped:
            return ""
        self._restart(stopped, Pod.kill)
        return f"started: {', '.join(stopped)}"

    def do_pause(self, args: list[str]) -> str:
        """Suspend the process (SIGSTOP)."""
        pods = self._pods(args)
        for pod in pods:
            pod.pause()
            self._paused.add(pod)
        return f"paused: {_names(pods)}; `resume` or `run` ends it"

    def do_resume(self, args: list[str]) -> str:
        """Resume a paused process."""
        for pod in self._pods(args):
            pod.resume()
            self._paused.discard(pod)
        return ""

    def do_wipe(self, args: list[str]) -> str:
        """Delete the volume: the pod restarts without data."""
        return f"restarted without data: {_names(self._restart(args, Pod.wipe))}"

    def do_move(self, args: list[str]) -> str:
        """Restart the pod at another address."""
        pods = self._restart(args, Pod.move)
        return "\n".join(f"{pod.name} is back at {pod.address}" for pod in pods)

    def do_partition(self, args: list[str]) -> str:
        """Drop all packets that the pod receives on the cluster bus."""
        if self._world.server.engine != "valkey":
            raise SandboxError("only Valkey can drop what comes over the bus", "see --server")
        pods = self._pods(args)
        for pod in pods:
            pod.command("DEBUG", "DROP-CLUSTER-PACKET-FILTER", _DROP_ALL)
            self._cut.add(pod)
        return f"cut off: {_names(pods)}; `heal` ends it"

    def do_heal(self, _args: list[str]) -> str:
        """End all partitions."""
        while self._cut:
            self._cut.pop().command("DEBUG", "DROP-CLUSTER-PACKET-FILTER", _DROP_NOTHING)
        return "no partitions"

    def do_load(self, args: list[str]) -> str:
        """Write N keys."""
        count = _number(args, _MOST_KEYS)
        traffic.load(self._client(), self._loaded, count)
        self._loaded += count
        return f"{self._loaded} keys loaded"

    def do_traffic(self, args: list[str]) -> str:
        """Write keys continuously; show what failed."""
        if args not in ([], ["on"], ["off"]):
            raise SandboxError("traffic is on or off", "such as `traffic on`")
        if args == ["on"] and self._traffic is None:
            self._traffic = traffic.Traffic(self._client)
            return "traffic: on"
        if args == ["off"] and self._traffic is not None:
            summary, self._traffic = self._traffic.stop(), None
            return summary
        return self._traffic.summary() if self._traffic else "traffic: off"

    def do_env(self, _args: list[str]) -> str:
        """Print variables for the program in another shell."""
        return "\n".join(f"export {name}={text}" for name, text in self.variables().items())

    def do_help(self, _args: list[str]) -> str:
        """Show this; a POD is a number, a name, or `all`."""
        texts = {n: PROGRAM.get(n) or getattr(self, f"do_{n}").__doc__ for n in names()}
        rows = [(f"{name} {_ARGUMENTS.get(name, '')}", text) for name, text in texts.items()]
        return "\n".join(f"{usage:<19} {text}" for usage, text in rows)

    def do_release(self, _args: list[str]) -> str:
        """End pods that `run` has emptied, as preStop does."""
        surplus = self._world.pods[self._wanted :]
        left = [pod for pod in surplus if _ALONE in str(pod.command("CLUSTER", "INFO"))]
        for pod in left:
            self._world.remove_pod(pod.ordinal)
        return f"ended: {_names(left)}" if left else ""

    def do_exit(self, _args: list[str]) -> str:
        """Stop the servers."""
        os.kill(os.getpid(), signal.SIGTERM)
        return ""

    def _end(self, args: list[str]) -> list[Pod]:
        pods = self._pods(args)
        for pod in pods:
            pod.kill()
            self._paused.discard(pod)
            self._cut.discard(pod)
        return pods

    def _restart(self, args: list[str], change: Callable[[Pod], None]) -> list[Pod]:
        """End pods, change them, and start them, all together."""
        pods = self._end(args)
        for pod in pods:
            change(pod)
            pod.start(wait=False)
        for pod in pods:
            pod.wait_ready()
        return pods

    def _client(self) -> RedisCluster:
        return traffic.client([(pod.address, pod.port) for pod in self._world.pods])

    def _pods(self, args: list[str]) -> list[Pod]:
        pods = self._world.pods
        known = {name: pod for pod in pods for name in (pod.name, str(pod.ordinal))}
        chosen = list(known) if args == ["all"] else args
        unknown = [name for name in chosen if name not in known]
        if unknown or not chosen:
            problem = f"there is no pod {unknown[0]!r}" if unknown else "a pod is missing"
            raise SandboxError(problem, f"they are 0 to {pods[-1].ordinal}, or `all`")
        return list(dict.fromkeys(known[name] for name in chosen))


def names() -> list[str]:
    """Return the names of all orders."""
    return [name[3:] for name in vars(Orders) if name.startswith("do_")] + list(PROGRAM)


def _number(args: list[str], most: int) -> int:
    if len(args) == 1 and args[0].isdecimal() and 0 < int(args[0]) <= most:
        return int(args[0])
    raise SandboxError("one number is required", f"give one from 1 to {most}")


def _names(pods: list[Pod]) -> str:
    return ", ".join(pod.name for pod in pods)
