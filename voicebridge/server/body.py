"""Reading a request's body within a limit of bytes and of time.

One rule: nothing is believed that was only declared. A length is refused as soon as it
is announced, counted while it arrives, and the deadline is for the whole body, because
a byte per second satisfies every timeout between two reads.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from voicebridge.server.answers import CLOSE, Refusal

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["read_body"]


async def read_body(request: Request, *, limit: int, deadline: float) -> bytes:
    """The body of at most ``limit`` bytes, read within ``deadline`` seconds.

    Raises ``Refusal`` 415 (encoded), 413 (too large) or 408 (too slow), each of which
    closes the connection, and ``starlette.requests.ClientDisconnect``.
    """
    _refuse_encoding(request)
    _refuse_declared_length(request, limit)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(deadline):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                chunks.append(chunk)
    except TimeoutError:
        raise Refusal(
            408, "BODY_TIMEOUT", f"the body did not arrive within {deadline:g} s", headers=CLOSE
        ) from None
    return b"".join(chunks)


def _refuse_encoding(request: Request) -> None:
    # Refused before inflating: 200 KB can unfold into 200 MB.
    for value in request.headers.getlist("content-encoding"):
        if any(token.strip().lower() not in ("", "identity") for token in value.split(",")):
            raise Refusal(
                415,
                "ENCODING_NOT_SUPPORTED",
                "send the body without Content-Encoding",
                headers={**CLOSE, "accept-encoding": "identity"},
            )


def _refuse_declared_length(request: Request, limit: int) -> None:
    declared = request.headers.getlist("content-length")
    if not declared:
        return
    if len(set(declared)) > 1 or not (declared[0].isascii() and declared[0].isdigit()):
        raise Refusal(400, "BAD_LENGTH", "Content-Length is not one number", headers=CLOSE)
    # By digits first: int() of a very long number is itself an error.
    digits = declared[0].lstrip("0")
    if len(digits) > len(str(limit)) or int(digits or "0") > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> Refusal:
    return Refusal(413, "BODY_TOO_LARGE", f"the body exceeds {limit} bytes", headers=CLOSE)
