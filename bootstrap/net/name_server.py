"""One name server: how it is asked, and what is known of it.

Names are absolute. Replies come by UDP, by TCP where they are too long for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode

DNS_PORT = 53
# Larger datagrams may be fragmented, and fragments are lost (DNS Flag Day 2020).
EDNS_BYTES = 1232
_EDNS_REFUSED = (dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS)


@dataclass(slots=True, eq=False, kw_only=True)
class NameServer:
    """One name server, and what is known of it.

    Attributes:
        uses_edns: Whether the next question offers EDNS.
        is_proven: Whether it has answered a question that offered EDNS.
    """

    ip: str
    port: int
    uses_edns: bool = True
    is_proven: bool = False

    def __str__(self) -> str:
        """Return the address, with the port where it is not the usual one."""
        return self.ip if self.port == DNS_PORT else host_port(self.ip, self.port)

    async def ask(self, name: str, kind: str, flags: int, timeout_s: float) -> dns.message.Message:
        """Return the reply to one question.

        Some servers answer FORMERR or NOTIMP to EDNS, or nothing at all (RFC 6891, 6.2.2): they are
        asked without it.

        Raises:
            dns.exception.Timeout: There was none in time.
            dns.query.UnexpectedSource: The only reply came from another address.
        """
        offered = self.uses_edns
        try:
            reply = await self._exchange(name, kind, flags, timeout_s, edns=offered)
        except dns.exception.Timeout:
            if not self.is_proven:
                # Set, not toggled: two questions at once may meet the same silence.
                self.uses_edns = not offered
            raise
        if not offered or self.is_proven:
            return reply
        if reply.rcode() in _EDNS_REFUSED:
            plain = await self._exchange(name, kind, flags, timeout_s, edns=False)
            self.uses_edns = plain.rcode() == reply.rcode()
            return plain
        self.is_proven = True
        return reply

    async def _exchange(
        self, name: str, kind: str, flags: int, timeout_s: float, *, edns: bool
    ) -> dns.message.Message:
        query = dns.message.make_query(
            dns.name.from_text(f"{name}."),
            kind,
            use_edns=0 if edns else False,
            ednsflags=flags & dns.flags.DO,
            payload=EDNS_BYTES,
            flags=int(dns.flags.RD) | (flags & dns.flags.CD),
        )
        send = partial(
            dns.asyncquery.udp_with_fallback,
            query,
            self.ip,
            timeout=timeout_s,
            port=self.port,
            ignore_errors=True,
        )
        try:
            return (await send())[0]
        except dns.query.UnexpectedSource as stray:
            # It may be forged, so the true reply still has its chance.
            try:
                return (await send(ignore_unexpected=True))[0]
            except dns.exception.Timeout:
                raise stray from None


def host_port(host: str, port: int) -> str:
    """Return `host:port`, with brackets around IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
