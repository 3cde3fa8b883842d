"""What became of every sample on its way to a listener.

The rule: audio that went in was played, removed for a reason, or is still held; audio that
came out was played or made up. Both sums hold after every call, to the sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

__all__ = ["Kind", "Piece", "PlayoutStats"]


class Kind(Enum):
    """What was done with a stretch of audio; ``taken`` came in, ``given`` went out."""

    PLAYED = "played"
    """As it came, or faded into its neighbour: taken and given are equal."""
    COMPRESSED = "compressed"
    """Taken: pitch periods cut out of speech, to win delay back."""
    PAUSE_CUT = "pause_cut"
    """Taken: quiet audio cut out."""
    TRIMMED = "trimmed"
    """Taken: the oldest audio above the hard bound. This is lost."""
    STRETCHED = "stretched"
    """Given: pitch periods, or quiet, said twice."""
    CONCEALED = "concealed"
    """Given: made up in a hole, from the last period."""
    CALM = "calm"
    """Given: nothing to play; silence at the room's level."""


class Piece(NamedTuple):
    """One stretch: its kind, samples taken off the stream, samples given to the listener."""

    kind: Kind
    taken: int
    given: int


@dataclass(slots=True)
class PlayoutStats:
    """Counters in samples. ``unaccounted`` is 0, or there is a bug."""

    received: int = 0
    played: int = 0
    compressed: int = 0
    pause_cut: int = 0
    trimmed: int = 0
    stretched: int = 0
    concealed: int = 0
    calm: int = 0
    pulled: int = 0
    """Given to the listener, all told."""
    held: int = 0
    """Received and not yet played."""
    holes: int = 0
    """Times there was nothing to play while the sender was not known to be silent."""

    @property
    def unaccounted(self) -> int:
        """Samples in or out that no counter explains."""
        gone = self.played + self.compressed + self.pause_cut + self.trimmed
        made = self.played + self.stretched + self.concealed + self.calm
        return abs(self.received - gone - self.held) + abs(self.pulled - made)

    def count(self, piece: Piece) -> None:
        """Takes one piece into the sums."""
        name = piece.kind.value
        setattr(self, name, getattr(self, name) + max(piece.taken, piece.given))
