"""What a connection that failed means, and what a person can do about it."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from redis import exceptions

from ..core.parsing import printable
from ..errors import BootstrapError, NodeUnreachableError, SettingsError, WrongNameError
from . import protocol_probe
from .replies import ReplyError

_TLS_ALERT = "\\x15\\x03"
_NEW_CERTIFICATE = "give the pod a new certificate and restart it"
# Words of OpenSSL's X509_verify_cert_error_string; any other failure is about the CA or the name.
_CERTIFICATE_REMEDIES = {
    "has expired": _NEW_CERTIFICATE,
    "not yet valid": "check the clocks of this pod and of the one that signed; otherwise wait, or "
    + _NEW_CERTIFICATE,
    "certificate purpose": "give the pod a certificate whose extended key usage has serverAuth",
    "mismatch": "give the pod a certificate that names its DNS name",
    "too weak": "give the pod a certificate with a stronger key and signature",
    "too small": "give the pod a certificate with a stronger key and signature",
}
_CLIENT_CERTIFICATE = (
    "set BOOTSTRAP_TLS_CERT and BOOTSTRAP_TLS_KEY to a certificate signed by a CA that it trusts"
)
# Alerts (RFC 8446, 6.2) as OpenSSL names them, by a part of the name.
_ALERT_REMEDIES = {
    "PROTOCOL_VERSION": "allow TLS 1.2 or 1.3 in `tls-protocols` of its redis.conf",
    "CERTIFICATE_EXPIRED": "renew the certificate in BOOTSTRAP_TLS_CERT",
    "UNSUPPORTED_CERTIFICATE": "set BOOTSTRAP_TLS_CERT to a certificate whose extended key usage "
    "has clientAuth",
    "CERTIFICATE": _CLIENT_CERTIFICATE,
    "UNKNOWN_CA": _CLIENT_CERTIFICATE,
    "UNRECOGNIZED_NAME": "give the pod a certificate that names its DNS name",
    "HANDSHAKE_FAILURE": "allow ciphers in `tls-ciphers` of its redis.conf that this program has; "
    "if it asks for a client certificate, " + _CLIENT_CERTIFICATE,
}
_OLD_TLS = frozenset({"UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE", "VERSION_TOO_LOW"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectErrors:
    """Explains the failures of connections to one address of a pod."""

    name: str
    ip: str
    port: int
    is_tls: bool

    async def diagnose(self, error: Exception, *, is_first: bool) -> BootstrapError:
        """Return the declared error for one of redis-py, the system or the TLS library.

        `is_first`: no reply was understood at this address yet; the protocol may be the wrong one.
        """
        if is_first and (mismatch := await self._detect_protocol_mismatch(error)):
            return mismatch
        if not self.is_tls and was_cut(error):
            # What a server says before it hangs up is lost when our command arrives afterwards:
            # the kernel answers that with a reset, which drops what was not read yet.
            sentence = await protocol_probe.greeting(self.ip, self.port)
            if sentence.startswith("DENIED"):
                return ReplyError(sentence, node=self.name, command="").login_failed()
            if sentence:
                return self._unreachable(printable(sentence))
        return self.explain(error)

    def explain(self, error: Exception) -> BootstrapError:
        """Return the declared error for a failure, without connecting again."""
        for cause in _causes(error):
            if isinstance(cause, ssl.SSLCertVerificationError):
                message = cause.verify_message
                kind = WrongNameError if "mismatch" in message else SettingsError
                return kind(
                    node=self.name,
                    cause=f"the certificate of {self.name} is not valid: {printable(message)}",
                    remedy=_first(_CERTIFICATE_REMEDIES, message)
                    or "set BOOTSTRAP_TLS_CA to the CA that signed it",
                )
            if isinstance(cause, ssl.SSLError):
                return self._handshake(cause.reason or "")
        if isinstance(error, exceptions.InvalidResponse):
            return self._other_server(is_tls=_TLS_ALERT in str(error))
        return self._unreachable(_reason(error))

    def _handshake(self, reason: str) -> BootstrapError:
        if reason in _OLD_TLS or "ALERT" in reason:
            known = "PROTOCOL_VERSION" if reason in _OLD_TLS else reason
            return self._settings_error(
                f"{self.name} rejected the TLS handshake: {printable(reason)}",
                _first(_ALERT_REMEDIES, known) or "see the log of the pod",
            )
        if "EOF" in reason:
            return self._unreachable("the connection was closed during the TLS handshake")
        return self._no_tls()

    def _unreachable(self, reason: str) -> NodeUnreachableError:
        return NodeUnreachableError(
            node=self.name,
            cause=f"{self.name} at {self.ip} port {self.port} does not answer: {reason}",
            remedy="check that the pod is running and that no NetworkPolicy blocks this connection"
            + ("" if self.is_tls else "; if the port speaks TLS set BOOTSTRAP_TLS=true"),
        )

    async def _detect_protocol_mismatch(self, error: Exception) -> SettingsError | None:
        """Return the error for a port that speaks TLS where we speak plain, or the reverse."""
        if not self.is_tls:
            is_tls = was_cut(error) and await protocol_probe.answers_tls(self.ip, self.port)
            return self._other_server(is_tls=True) if is_tls else None
        if not _is_timeout(error) and not was_cut(error):
            return None
        return self._no_tls() if await protocol_probe.answers_plain(self.ip, self.port) else None

    def _other_server(self, *, is_tls: bool) -> SettingsError:
        return self._settings_error(
            f"{self.name}: {'a TLS server' if is_tls else 'something other than Redis'} "
            f"answers on {self.ip} port {self.port}",
            "set BOOTSTRAP_TLS=true" if is_tls else "check BOOTSTRAP_PORT",
        )

    def _no_tls(self) -> SettingsError:
        return self._settings_error(
            f"{self.name}: no TLS on {self.ip} port {self.port}",
            "unset BOOTSTRAP_TLS, or set BOOTSTRAP_PORT to the TLS port",
        )

    def _settings_error(self, cause: str, remedy: str) -> SettingsError:
        return SettingsError(node=self.name, cause=cause, remedy=remedy)


def _first(remedies: Mapping[str, str], words: str) -> str:
    """Return the remedy whose key is a part of a message; the first one where several are."""
    return next((remedy for part, remedy in remedies.items() if part in words), "")


def _causes(error: BaseException | None) -> list[BaseException]:
    causes = []
    while error is not None and error not in causes:
        causes.append(error)
        error = error.__cause__ or error.__context__
    return causes


def _is_timeout(error: Exception) -> bool:
    kinds = (TimeoutError, exceptions.TimeoutError)
    return any(isinstance(cause, kinds) for cause in _causes(error))


def was_cut(error: Exception) -> bool:
    """Return whether the other end closed the connection, rather than never answered."""
    kinds = (ConnectionResetError, BrokenPipeError)
    return any(isinstance(cause, kinds) for cause in _causes(error)) or "closed" in str(error)


def _reason(error: Exception) -> str:
    """Return the system's word for a failed connection, without redis-py's wrapping."""
    for cause in reversed(_causes(error)):
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno)
    if _is_timeout(error):
        return "timed out"
    if "closed" in str(error).lower():
        return "it closed the connection"
    return printable(str(error)) or type(error).__name__
