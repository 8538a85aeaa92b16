"""Free loopback ports for servers that tests start."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def listening_socket() -> Iterator[socket.socket]:
    """A socket bound to a free loopback port, so that no other process can take it meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def free_port() -> int:
    """A port that was free a moment ago, for programs that insist on binding it themselves."""
    with listening_socket() as listener:
        return int(listener.getsockname()[1])
