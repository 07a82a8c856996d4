"""A socket that listens, and what its address is called."""

from __future__ import annotations

import socket

from sam.errors import EnvironmentProblem


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        EnvironmentProblem: the address is not this machine's, or the port is taken.
    """
    found = None
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(2048)
    except OSError as error:
        if found is not None:
            found.close()
        raise EnvironmentProblem(
            f"cannot listen at {host}, port {port}: {error.strerror or error}; choose another "
            "(--port 0 takes a free one)",
            code="address_unusable",
            field="port",
        ) from error
    return found


def address_of(listening: socket.socket) -> str:
    """``http://127.0.0.1:8000``."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
