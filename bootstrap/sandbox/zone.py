"""The names of one headless Service, answered by the rules of Kubernetes DNS.

Follows the DNS specification of Kubernetes and CoreDNS where that goes further: the Service's
own name answers A, AAAA and SRV, a Service without endpoints does not exist, names above it do,
and every negative answer carries the zone's SOA.
"""

import ipaddress
import random
from collections.abc import Iterable
from dataclasses import dataclass

import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

_SOA = "ns.dns.{zone} hostmaster.{zone} 1700000000 7200 1800 86400 {ttl}"
_ROOT_SOA = "a.root-servers.net. nstld.verisign-grs.com. 2024010100 1800 900 604800 86400"
_SRV_PRIORITY = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A pod's record: its addresses, of either family, and its client port."""

    addresses: tuple[str, ...]
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The sections of a response; each record stands alone, so truncation can cut between two."""

    rcode: dns.rcode.Rcode
    answer: tuple[dns.rrset.RRset, ...] = ()
    authority: tuple[dns.rrset.RRset, ...] = ()
    additional: tuple[dns.rrset.RRset, ...] = ()


class Zone:
    """The records of a Service and its pods; not thread safe."""

    def __init__(self, *, service: str, zone: str, port_name: str, ttl_s: int) -> None:
        """Make a zone in which the Service has no pods yet."""
        self._origin = absolute(zone)
        self._service = absolute(service)
        self._protocol = dns.name.Name(("_tcp",)).concatenate(self._service)
        self._port = dns.name.Name((f"_{port_name}",)).concatenate(self._protocol)
        self._ttl_s = ttl_s
        self._hosts: dict[dns.name.Name, Host] = {}

    def publish(self, hostname: str, host: Host) -> None:
        """Add or replace a pod."""
        self._hosts[self._pod_name(hostname)] = host

    def unpublish(self, hostname: str) -> None:
        """Take a pod out; nothing happens where it is not in."""
        self._hosts.pop(self._pod_name(hostname), None)

    def negative(self, name: dns.name.Name, rcode: dns.rcode.Rcode) -> Answer:
        """Return NXDOMAIN or, with NOERROR, "no record of this type"."""
        if name.is_subdomain(self._origin):
            text = _SOA.format(zone=self._origin, ttl=self._ttl_s)
            return Answer(rcode=rcode, authority=(self._record(self._origin, "SOA", text),))
        return Answer(rcode=rcode, authority=(self._record(dns.name.root, "SOA", _ROOT_SOA),))

    def lookup(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> Answer:
        """Answer a question."""
        if not self._exists(name):
            return self.negative(name, dns.rcode.NXDOMAIN)
        answer: list[dns.rrset.RRset] = []
        additional: list[dns.rrset.RRset] = []
        if rdtype == dns.rdatatype.SRV and name in (self._service, self._port):
            answer, additional = self._services(name)
        elif rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
            owners = self._hosts if name == self._service else {name} & self._hosts.keys()
            answer = [record for owner in owners for record in self._addresses(name, owner, rdtype)]
        if not answer:
            return self.negative(name, dns.rcode.NOERROR)
        # CoreDNS rotates its answers: a client must not lean on their order.
        random.shuffle(answer)
        return Answer(rcode=dns.rcode.NOERROR, answer=tuple(answer), additional=tuple(additional))

    def _exists(self, name: dns.name.Name) -> bool:
        if name in (self._service, self._protocol, self._port):
            return bool(self._hosts)
        is_ancestor = self._service.is_subdomain(name) and name.is_subdomain(self._origin)
        return is_ancestor or name in self._hosts

    def _services(self, name: dns.name.Name) -> tuple[list[dns.rrset.RRset], list[dns.rrset.RRset]]:
        weight = max(1, 100 // len(self._hosts))
        services = [
            self._record(name, "SRV", f"{_SRV_PRIORITY} {weight} {host.port} {owner}")
            for owner, host in self._hosts.items()
        ]
        families = (dns.rdatatype.A, dns.rdatatype.AAAA)
        addresses = [
            record
            for owner in self._hosts
            for family in families
            for record in self._addresses(owner, owner, family)
        ]
        return services, addresses

    def _addresses(
        self, name: dns.name.Name, owner: dns.name.Name, rdtype: dns.rdatatype.RdataType
    ) -> list[dns.rrset.RRset]:
        version = 4 if rdtype == dns.rdatatype.A else 6
        return [
            self._record(name, rdtype, address)
            for address in _of_family(self._hosts[owner].addresses, version)
        ]

    def _record(
        self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType | str, text: str
    ) -> dns.rrset.RRset:
        return dns.rrset.from_text(name, self._ttl_s, dns.rdataclass.IN, rdtype, text)

    def _pod_name(self, hostname: str) -> dns.name.Name:
        return dns.name.Name((hostname,)).concatenate(self._service)


def absolute(name: str) -> dns.name.Name:
    """Return a name as an absolute one, with or without its last dot."""
    return dns.name.from_text(name, origin=dns.name.root)


def _of_family(addresses: Iterable[str], version: int) -> list[str]:
    return [text for text in addresses if ipaddress.ip_address(text).version == version]
