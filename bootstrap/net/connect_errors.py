"""What a connection that failed means, and what a person can do about it."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass

from redis import exceptions

from ..errors import NodeUnreachableError, SettingsError
from . import protocol_probe

_TLS_ALERT = "\\x15\\x03"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectErrors:
    """Where a node is asked.

    Attributes:
        name: Pod name, for messages.
        is_tls: Whether we speak TLS there.
    """

    name: str
    ip: str
    port: int
    is_tls: bool

    def explain(self, error: Exception) -> Exception:
        """Return our error for one of redis-py, the system or the TLS library."""
        for cause in _causes(error):
            if isinstance(cause, ssl.SSLCertVerificationError):
                is_old = "expired" in cause.verify_message
                return SettingsError(
                    node=self.name,
                    cause=f"{self.name}: its certificate is not valid: {cause.verify_message}",
                    remedy="give the pod a new certificate, and restart it"
                    if is_old
                    else "set BOOTSTRAP_TLS_CA to the CA that signed it; the certificate must "
                    "name the pod's DNS name",
                )
            if isinstance(cause, ssl.SSLError):
                if "ALERT" not in (cause.reason or ""):
                    return self._no_tls()
                return SettingsError(
                    node=self.name,
                    cause=f"{self.name}: its TLS server refused us: {cause.reason}",
                    remedy="where it asks for client certificates set BOOTSTRAP_TLS_CERT and "
                    "BOOTSTRAP_TLS_KEY, signed by a CA that it trusts",
                )
        if isinstance(error, exceptions.InvalidResponse):
            return self._other_server(is_tls=_TLS_ALERT in str(error))
        return NodeUnreachableError(
            node=self.name,
            cause=f"{self.name} at {self.ip} port {self.port} does not answer: {_reason(error)}",
            remedy="check that the pod runs and that a NetworkPolicy lets this one reach it"
            + ("" if self.is_tls else "; if the port speaks TLS set BOOTSTRAP_TLS=true"),
        )

    def _other_server(self, *, is_tls: bool) -> SettingsError:
        return SettingsError(
            node=self.name,
            cause=f"{self.name}: {'a TLS server' if is_tls else 'something other than Redis'} "
            f"answers on {self.ip} port {self.port}",
            remedy="set BOOTSTRAP_TLS=true" if is_tls else "check BOOTSTRAP_PORT",
        )

    async def detect_protocol_mismatch(self, error: Exception) -> SettingsError | None:
        """Return the error for a port that speaks TLS, or plain, where we speak the other."""
        if not self.is_tls:
            is_tls = _was_cut(error) and await protocol_probe.answers_tls(self.ip, self.port)
            return self._other_server(is_tls=True) if is_tls else None
        if not isinstance(error, (TimeoutError, exceptions.TimeoutError)) and not _was_cut(error):
            return None
        return self._no_tls() if await protocol_probe.answers_plain(self.ip, self.port) else None

    def _no_tls(self) -> SettingsError:
        return SettingsError(
            node=self.name,
            cause=f"{self.name}: no TLS on {self.ip} port {self.port}",
            remedy="unset BOOTSTRAP_TLS, or set BOOTSTRAP_PORT to the TLS port",
        )


def _causes(error: BaseException | None) -> list[BaseException]:
    causes = []
    while error is not None and error not in causes:
        causes.append(error)
        error = error.__cause__ or error.__context__
    return causes


def _was_cut(error: Exception) -> bool:
    """Return whether the other end hung up, rather than never answered."""
    kinds = (ConnectionResetError, BrokenPipeError)
    return any(isinstance(cause, kinds) for cause in _causes(error)) or "closed" in str(error)


def _reason(error: Exception) -> str:
    """Return the system's word for a failed connection, without redis-py's wrapping."""
    for cause in reversed(_causes(error)):
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno)
    if isinstance(error, (TimeoutError, exceptions.TimeoutError)):
        return "timed out"
    return "connection closed" if "closed" in str(error).lower() else str(error) or "timed out"
