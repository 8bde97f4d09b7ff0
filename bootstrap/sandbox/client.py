"""One connection to a server, whose replies come back as the server sent them."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self, TypeAlias, cast

from redis import Redis, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from .errors import ReplyError

Reply: TypeAlias = "str | int | list[Reply] | None"


class Client:
    """A client of redis-py without its parsing of replies; a context manager."""

    def __init__(
        self,
        address: str,
        port: int,
        *,
        timeout_s: float,
        password: str | None = None,
        tls: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare to connect, which the first command does.

        Args:
            address: Where the server listens.
            port: Its port.
            timeout_s: How long one answer may take.
            password: Of the default user.
            tls: Files for TLS, `ca`, `cert` and `key`; None for plain TCP.
        """
        files = tls or {}
        self._redis = Redis(
            host=address,
            port=port,
            password=password,
            protocol=2,
            driver_info=None,
            # Tickets of TLS 1.3 arrive after the handshake, and the pool takes a connection with
            # unread data for a broken one. The reply to this command reads them.
            client_name="sandbox" if tls else None,
            encoding_errors="backslashreplace",
            decode_responses=True,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            ssl=tls is not None,
            ssl_ca_certs=files.get("ca"),
            ssl_certfile=files.get("cert"),
            ssl_keyfile=files.get("key"),
            # Certificates are made for DNS names; this goes to an address that is known.
            ssl_check_hostname=False,
        )
        # They make dictionaries of CLUSTER NODES and INFO, and lose lines that share an address.
        self._redis.response_callbacks.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._redis.close()

    def call(self, *args: str | int | bytes) -> Reply:
        """Send one command and return its reply; bytes that are no UTF-8 come back escaped.

        Raises:
            ReplyError: The server answered with an error.
            OSError: It cannot be reached, or did not answer in time.
        """
        try:
            reply = self._redis.execute_command(*args)  # type: ignore[no-untyped-call]  # redis-py
            return cast("Reply", reply)
        except exceptions.TimeoutError as error:
            raise TimeoutError(str(error)) from error
        except exceptions.RedisError as error:
            code = getattr(error, "status_code", None)
            if code is None and not isinstance(error, exceptions.ResponseError):
                raise ConnectionError(str(error)) from error
            # redis-py takes the first word off the errors that it has a class for.
            raise ReplyError(f"{code} {error}" if code else str(error)) from error
