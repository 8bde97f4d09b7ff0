"""One connection to a server, whose replies come back as the server sent them."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, TypeAlias, cast

from redis import Redis, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from .errors import ReplyError

Reply: TypeAlias = "str | int | list[Reply] | None"
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


class Client(AbstractContextManager["Client"]):
    """A client of redis-py without its parsing of replies; the first command connects.

    Args:
        timeout_s: How long one answer may take.
        options: More for redis-py, such as a password.
    """

    def __init__(
        self, address: str, port: int, *, timeout_s: float, options: Mapping[str, Any] = NO_OPTIONS
    ) -> None:
        self._redis = Redis(
            host=address,
            port=port,
            protocol=2,
            encoding_errors="backslashreplace",
            decode_responses=True,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            **{"driver_info": None, **options},
        )
        # They make dictionaries of CLUSTER NODES and INFO, and lose lines that share an address.
        self._redis.response_callbacks.clear()

    def __exit__(self, *_: object) -> None:
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
