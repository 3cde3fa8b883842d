"""Identifiers in the provider's shapes. One source of randomness, so a seed repeats them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_URL_SAFE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class Ids:
    """``seed`` None draws from the operating system: tokens must not be guessable then."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.SystemRandom() if seed is None else random.Random(seed)

    def ulid(self, prefix: str, at: datetime) -> str:
        """``prefix`` + 26 characters: milliseconds since 1970, then 80 random bits."""
        number = (int(at.timestamp() * 1_000) << 80) | self._random.getrandbits(80)
        return prefix + "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))

    def evolution_call(self) -> str:
        """An Evolution GO CallID: 32 upper-case hexadecimal digits."""
        return f"{self._random.getrandbits(128):032X}"

    def meta(self, kind: str) -> str:
        """A Meta id such as ``wacid.HBgM...``; may hold ``=``, which callers must quote."""
        return f"{kind}.HBgM{self._text(40)}=="

    def token(self) -> str:
        """An unguessable media token."""
        return self._text(43)

    def seed(self) -> int:
        return self._random.getrandbits(32)

    def _text(self, length: int) -> str:
        return "".join(self._random.choice(_URL_SAFE) for _ in range(length))
