"""Free loopback ports for servers that tests start."""

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

QUIET = (20000, 32000)


@contextmanager
def listening_socket() -> Iterator[socket.socket]:
    """A socket bound to a free loopback port, so that no other process can take it meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def free_port() -> int:
    """A port that was free a moment ago, for programs that insist on binding it themselves.

    Below the range that the kernel gives to clients: somebody who keeps asking a port whose server is down would
    in the end be given that very port as its own end, and hold it.
    """
    while True:
        port = random.randrange(*QUIET)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
