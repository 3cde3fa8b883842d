"""What the kernel holds of a TCP connection: keep it little, and ask how much it is.

Audio that waits in a send buffer can be neither replaced nor taken back. Where the
system does not tell how much waits there, the buffer itself is kept small.
"""

from __future__ import annotations

import contextlib
import socket as sockets
import sys

__all__ = ["tune", "unacknowledged"]

if sys.platform == "linux":
    import fcntl
    import termios

    _answer = bytearray(4)

    def unacknowledged(fd: int) -> int:
        """Bytes written to the socket that the peer's TCP has not confirmed (SIOCOUTQ)."""
        try:
            # Into a buffer of our own: asked for each message sent, and so twice as quick.
            fcntl.ioctl(fd, termios.TIOCOUTQ, _answer)
        except (OSError, ValueError):  # a socket that is closing
            return 0
        return int.from_bytes(_answer, sys.byteorder)
else:

    def unacknowledged(fd: int) -> int:
        """Not to be had here; ``tune`` bounds it instead."""
        return 0


def tune(socket: sockets.socket, in_flight_bytes: int) -> None:
    """Let messages leave at once, and no more than ``in_flight_bytes`` wait to be sent."""
    options = [(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)]
    if hasattr(sockets, "TCP_NOTSENT_LOWAT"):
        options.append((sockets.IPPROTO_TCP, sockets.TCP_NOTSENT_LOWAT, in_flight_bytes // 2))
    if sys.platform != "linux":
        options.append((sockets.SOL_SOCKET, sockets.SO_SNDBUF, in_flight_bytes))
    for option in options:
        with contextlib.suppress(OSError):  # a nicety of the platform, not a condition
            socket.setsockopt(*option)
