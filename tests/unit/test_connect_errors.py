"""What a failed connection is reported as."""

import ssl

import pytest
from redis import exceptions

from bootstrap.errors import (
    BootstrapError,
    NodeUnreachableError,
    SettingsError,
    WrongNameError,
)
from bootstrap.net.connect_errors import ConnectErrors, was_cut

POD = ConnectErrors(name="redis-app-0", ip="10.0.0.1", port=6379, is_tls=True)


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, "x")
    error.reason = reason
    return error


def certificate_error(message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_message = message
    return error


def explain(error: Exception) -> BootstrapError:
    wrapped = exceptions.ConnectionError("Error connecting")
    wrapped.__cause__ = error
    return POD.explain(wrapped)


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("certificate has expired", "new certificate"),
        ("certificate is not yet valid", "clocks"),
        ("unsuitable certificate purpose", "serverAuth"),
        ("unsupported certificate purpose", "serverAuth"),
        ("Hostname mismatch, certificate is not valid for 'x'.", "DNS name"),
        ("self-signed certificate in certificate chain", "BOOTSTRAP_TLS_CA"),
        ("unable to get local issuer certificate", "BOOTSTRAP_TLS_CA"),
        ("EE certificate key too weak", "stronger key"),
    ],
)
def test_each_fault_of_a_certificate_has_its_remedy(message: str, remedy: str) -> None:
    """The sentence of OpenSSL is kept."""
    error = explain(certificate_error(message))
    # The address of another pod may be in a cache: whether the name is wrong, time will tell.
    assert isinstance(error, WrongNameError if "mismatch" in message else SettingsError)
    assert message in error.cause
    assert remedy in error.remedy


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("TLSV1_ALERT_PROTOCOL_VERSION", "tls-protocols"),
        ("UNSUPPORTED_PROTOCOL", "tls-protocols"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "BOOTSTRAP_TLS_CERT"),
        ("TLSV1_ALERT_UNKNOWN_CA", "BOOTSTRAP_TLS_CERT"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "renew"),
        ("SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", "clientAuth"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "tls-ciphers"),
        ("TLSV1_ALERT_INTERNAL_ERROR", "log"),
    ],
)
def test_each_alert_has_its_remedy(reason: str, remedy: str) -> None:
    """A server that rejects the handshake says why."""
    error = explain(tls_error(reason))
    assert isinstance(error, SettingsError)
    assert reason in error.cause
    assert remedy in error.remedy


def test_a_server_without_tls_is_told_from_one_that_rejects() -> None:
    """What is no TLS at all has no alert."""
    assert "no TLS" in explain(tls_error("WRONG_VERSION_NUMBER")).cause


def test_only_a_time_out_is_called_a_time_out() -> None:
    """Other failures keep the words of the system or of the server."""
    assert "timed out" in explain(TimeoutError()).cause
    for error, words in (
        (ConnectionRefusedError(111, "x"), "Connection refused"),
        (exceptions.ConnectionError("Connection closed by server."), "closed the connection"),
        (exceptions.ConnectionError("max number of clients reached"), "max number of clients"),
        (exceptions.ConnectionError(""), "ConnectionError"),
    ):
        explained = POD.explain(error)
        assert isinstance(explained, NodeUnreachableError)
        assert words in explained.cause
        assert "timed out" not in explained.cause


PLAIN = ConnectErrors(name="redis-app-0", ip="10.0.0.1", port=6379, is_tls=False)


def test_another_protocol_on_the_port_is_named() -> None:
    """A TLS alert shows that the port speaks TLS; other bytes show a server of another kind."""
    tls = PLAIN.explain(exceptions.InvalidResponse("Protocol Error: b'\\x15\\x03\\x03'"))
    other = PLAIN.explain(exceptions.InvalidResponse("Protocol Error: b'HTTP/1.1'"))
    assert isinstance(tls, SettingsError)
    assert isinstance(other, SettingsError)
    assert "BOOTSTRAP_TLS=true" in tls.remedy
    assert "BOOTSTRAP_PORT" in other.remedy


def test_a_connection_that_ends_in_the_handshake_is_tried_again() -> None:
    """A server that is about to stop closes it like that."""
    error = explain(tls_error("UNEXPECTED_EOF_WHILE_READING"))
    assert isinstance(error, NodeUnreachableError)
    assert "handshake" in error.cause


def test_tls_is_a_possible_cause_only_where_the_program_speaks_none() -> None:
    """The remedy of a pod that does not answer mentions the setting that may be missing."""
    refused = ConnectionRefusedError(111, "x")
    assert "BOOTSTRAP_TLS=true" in PLAIN.explain(refused).remedy
    assert "BOOTSTRAP_TLS=true" not in POD.explain(refused).remedy


def test_only_an_end_by_the_other_side_is_a_cut() -> None:
    """A reset and a close are; a refused connection and a time-out are not."""
    assert was_cut(ConnectionResetError(104, "x"))
    assert was_cut(exceptions.ConnectionError("Connection closed by server."))
    assert not was_cut(ConnectionRefusedError(111, "x"))
    assert not was_cut(TimeoutError())
