"""Why pods have no address in DNS, as far as the records of their Service show it.

The usual causes (a pending claim, an image that is not pulled) are a guess, and what the records
show is not: it comes first. Where no name server gives an answer (SERVFAIL, timeout), `resolver`
has the cause.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from . import resolv_conf
from .pod_names import Records

NOT_YET = "no address in DNS yet"
_EXAMPLES = 3


class Reason(NamedTuple):
    """A cause and its remedy; no remedy where the usual one applies."""

    cause: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The names of the pods of a StatefulSet behind a Service.

    Attributes:
        service: Absolute name of the Service, without the last dot.
        nodes: How many pods are wanted.
        most: Ordinals from here on are ignored, which bounds what DNS can make the program do.
    """

    statefulset: str
    service: str
    nodes: int
    most: int

    def pod(self, ordinal: int) -> str:
        """Return the name of a pod."""
        return f"{self.statefulset}-{ordinal}"

    def host(self, ordinal: int) -> str:
        """Return the absolute DNS name of a pod."""
        return f"{self.pod(ordinal)}.{self.service}"

    def ordinals(self, targets: Sequence[str]) -> set[int]:
        """Return the ordinals of this StatefulSet's pods among the targets of SRV records."""
        labels = [target.partition(".")[0].rpartition("-") for target in targets]
        words = [word for name, _, word in labels if name == self.statefulset and word.isdecimal()]
        return {int(word) for word in words if word == str(int(word)) and int(word) < self.most}

    def why_absent(self, records: Records, missing: Collection[int]) -> Reason:
        """Return why the pods with these ordinals have no address."""
        targets = records.targets or ()
        if not records.addresses and not targets:
            return self._no_records()
        if self.service in targets:
            return Reason(
                f"{self.service} is not headless: its SRV record names the Service and no pod",
                "create the Service again, with `clusterIP: None`",
            )
        listed = self.ordinals(targets)
        if targets and not listed:
            labels = ", ".join(target.partition(".")[0] for target in targets[:_EXAMPLES])
            wanted = f"none of its {len(targets)} pods is called {self.statefulset}-N"
            return Reason(
                f"{self.service} has other pods: {wanted}, but {labels}",
                f"set serviceName to {self.service.partition('.')[0]} in the StatefulSet, or "
                "BOOTSTRAP_STATEFULSET and BOOTSTRAP_SERVICE to its names",
            )
        shift = len(missing)
        if listed and set(missing) == set(range(shift)) and max(listed) >= self.nodes:
            return Reason(
                f"{NOT_YET}, but {self.pod(min(listed))} to {self.pod(max(listed))} have one",
                "remove spec.ordinals.start from the StatefulSet, because ordinals must start at "
                "0; where it is not set, find out why the first pods are missing",
            )
        return Reason(NOT_YET, "")

    def _no_records(self) -> Reason:
        """Return the reason where the Service has no records at all."""
        cause = f"{NOT_YET}, nor has {self.service}"
        domain = resolv_conf.pod_domain(resolv_conf.read().search).cluster_domain
        if not domain or self.service.endswith(f".svc.{domain}"):
            return Reason(cause, "")
        return Reason(
            f"{cause}; resolv.conf says that the cluster domain is {domain}",
            f"set BOOTSTRAP_CLUSTER_DOMAIN to {domain}, or leave it out",
        )
