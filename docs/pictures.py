"""Draws the pictures of the documents: `python -m docs.pictures` writes them, a test compares."""
# ruff: noqa: INP001 - a program in a folder of documents

from collections.abc import Callable, Mapping
from pathlib import Path

from docs.svg import Picture

FOLDER = Path(__file__).resolve().parent


def loop() -> str:
    """Return the loop of a run."""
    picture = Picture(
        880, 330,
        title="The loop of a run",
        description="Observe all pods, plan, apply with the lock, and observe again. Two healthy "
        "passes end with exit code 0, a refusal or missing access with 3 or 2, the deadline or a "
        "signal with 5 or 143.",
    )  # fmt: skip
    picture.arrow((190, 70), (230, 70), (230, 135), (269, 135))
    picture.arrow((190, 225), (230, 225), (230, 165), (269, 165))
    picture.arrow((420, 150), (489, 150))
    picture.arrow((565, 190), (565, 270), (531, 270))
    picture.arrow((380, 270), (345, 270), (345, 191))
    picture.arrow((455, 300), (455, 316), (105, 316), (105, 291))
    picture.arrow((640, 130), (680, 130), (680, 68), (719, 68))
    picture.arrow((640, 150), (719, 150))
    picture.arrow((640, 170), (680, 170), (680, 232), (719, 232))
    picture.box((20, 40, 170, 60), "name servers", "which pods, where")
    picture.box((20, 200, 170, 90), "every pod", "its view of all nodes,", "slots, roles, links")
    picture.box((270, 110, 150, 80), "observe", "all pods at once", kind="blue")
    picture.box(
        (490, 110, 150, 80), "plan", "findings, refusals,", "the next safe stage", kind="blue"
    )
    picture.box((380, 240, 150, 60), "apply", "with the lock", kind="blue")
    picture.box((720, 40, 140, 56), "exit 0", "two healthy passes", kind="green")
    picture.box((720, 122, 140, 56), "exit 3, 2", "refused, no access", kind="amber")
    picture.box((720, 204, 140, 56), "exit 5, 143", "late, or stopped", kind="amber")
    picture.words((573, 235), ["actions"])
    picture.words((337, 235), ["observe again"], anchor="end")
    return picture.svg()


def kubernetes() -> str:
    """Return the objects of the manifests, and who talks to whom."""
    picture = Picture(
        880, 530,
        title="The objects of the manifests, and who talks to whom",
        description="Applications connect to the Service redis-access-service, and are redirected "
        "to the pod that owns a slot. The Job and the Deployment of the program find the pods by "
        "the DNS names of the headless Service redis-service, connect to each of them on port "
        "6379, and read their settings from one ConfigMap. The pods of the StatefulSet replicate "
        "to each other, talk on the bus port 16379, keep their data on volumes, and read "
        "redis.conf and scripts from another ConfigMap.",
    )  # fmt: skip
    picture.rectangle((250, 150, 340, 350), kind="area", radius=10)
    picture.text((420, 174), "StatefulSet redis-app", size=15, bold=True, anchor="middle")
    picture.words((420, 194), ["its replicas: is the size of the cluster"], anchor="middle")
    for column in range(3):
        x = 262 + column * 108
        for row, role in enumerate(("primary", "replica")):
            area = (x, 212 + row * 116, 100, 58)
            picture.box(area, f"redis-app-{column + 3 * row}", role, kind="blue", size=13)
        picture.arrow((x + 50, 270), (x + 50, 327))
    picture.words((370, 303), ["replication"], anchor="middle")
    picture.words(
        (420, 412),
        [
            "port 16379: all pods to each other, the bus",
            "a volume for each pod: redis-data-redis-app-N",
            "kubelet: probes, and the preStop hook",
            "PodDisruptionBudget redis-app:",
            "one pod at a time is drained",
        ],
        anchor="middle",
    )
    picture.box((20, 40, 180, 70), "applications", "cluster clients", kind="green")
    picture.box(
        (20, 200, 180, 90), "Service", "redis-access-service", "port 6379 of ready pods",
    )  # fmt: skip
    picture.box((20, 390, 180, 90), "ConfigMap", "redis-conf-HASH", "redis.conf and scripts")
    picture.arrow((110, 110), (110, 199))
    picture.words((102, 160), ["first"], anchor="end")
    picture.arrow((200, 245), (249, 245))
    picture.arrow((200, 75), (275, 75), (275, 149))
    picture.words((207, 46), ["then to the owner", "of the slot"])
    picture.arrow((200, 435), (249, 435), dashed=True)
    picture.box(
        (330, 26, 280, 76), "headless Service", "redis-service",
        "a DNS name for each pod, ready or not",
    )  # fmt: skip
    picture.arrow((475, 102), (475, 149))
    picture.rectangle((660, 130, 208, 250), kind="area", radius=10)
    picture.text((764, 154), "this program", size=15, bold=True, anchor="middle")
    picture.box(
        (672, 168, 184, 84), "Job", "redis-bootstrap-HASH", "one run, then it ends", kind="blue"
    )
    picture.box(
        (672, 266, 184, 102), "Deployment", "redis-bootstrap", "runs continuously; ready",
        "while all is healthy", kind="blue",
    )  # fmt: skip
    picture.arrow((764, 130), (764, 64), (611, 64))
    picture.words((620, 54), ["which pods, where"])
    picture.arrow((660, 255), (591, 255))
    picture.words((625, 246), ["6379"], anchor="middle")
    picture.box((672, 420, 184, 80), "ConfigMap", "redis-bootstrap-HASH", "settings of both")
    picture.arrow((764, 420), (764, 381), dashed=True)
    return picture.svg()


def life() -> str:
    """Return the life of a pod, up to and through its preStop hook."""
    picture = Picture(
        880, 470,
        title="The life of a pod",
        description="A pod starts, becomes a member, and is ready. When it is deleted, its preStop "
        "hook runs first: a replica, or a primary without slots, may go. A primary with slots "
        "hands them to a replica that is in sync and stays. Without such a replica it is held "
        "until one is back or the program has moved its slots away, at most 59 minutes, or half a "
        "minute when every pod goes. Then it gets SIGTERM, and its data stays on its volume.",
    )  # fmt: skip
    picture.box((20, 30, 175, 84), "starts", "start.sh, then the server", "loads its data")
    picture.box(
        (235, 30, 205, 84), "not ready", "not a member yet: clients", "would see an empty cluster",
        kind="amber",
    )  # fmt: skip
    picture.box((500, 30, 125, 84), "ready", "answers, and is", "a member", kind="green")
    picture.box((695, 30, 170, 84), "preStop hook", "marks itself as going,", "reads its role")
    picture.arrow((195, 72), (234, 72))
    picture.arrow((440, 72), (499, 72))
    picture.words((470, 62), ["MEET"], anchor="middle")
    picture.arrow((625, 72), (694, 72))
    picture.words((659, 45), ["deleted,", "drained,"], anchor="middle")
    picture.words((659, 92), ["updated"], anchor="middle")
    picture.line((780, 114), (780, 150), (145, 150))
    for x in (145, 455, 750):
        picture.arrow((x, 150), (x, 189))
    picture.box(
        (20, 190, 250, 104), "is held", "primary with slots, no replica",
        "that is in sync and stays;",
        "its log says what it waits for", kind="amber",
    )  # fmt: skip
    picture.box(
        (345, 190, 220, 104), "hands over", "primary with slots, and such",
        "a replica: CLUSTER FAILOVER,",
        "then it is a replica itself", kind="blue",
    )  # fmt: skip
    picture.box(
        (640, 190, 220, 104), "may go", "replica in sync: after 3 s",
        "primary without slots: at once",
        kind="green",
    )  # fmt: skip
    picture.arrow((270, 242), (344, 242))
    picture.words((307, 217), ["a replica", "is back"], anchor="middle")
    picture.arrow((565, 242), (639, 242))
    picture.arrow((200, 294), (200, 330), (700, 330), (700, 295))
    picture.words((450, 323), ["the program has moved its slots away"], anchor="middle")
    picture.arrow((790, 294), (790, 369))
    picture.box(
        (345, 370, 515, 80), "SIGTERM", "the server stops; its data stays on its volume. It starts",
        "again with the same name and volume, if it is still wanted",
    )  # fmt: skip
    picture.arrow((80, 294), (80, 410), (344, 410))
    picture.words(
        (92, 358),
        [
            "the time limit, 59 minutes, is over, or",
            "30 s where every pod goes:",
            "it goes with its slots",
        ],
    )
    return picture.svg()


PICTURES: Mapping[str, Callable[[], str]] = {
    "loop.svg": loop,
    "kubernetes.svg": kubernetes,
    "life-of-a-pod.svg": life,
}


def main() -> None:
    """Write all pictures."""
    for name, draw in PICTURES.items():
        (FOLDER / name).write_text(draw())


if __name__ == "__main__":
    main()
