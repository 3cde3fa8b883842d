"""From probabilities to speech: when it began, when it ended, what belongs to it.

The rule: it counts frames. A frame is 20 ms of call time, whenever it came; so a stalled
network neither begins nor ends anything.

::

    QUIET ---- p >= start ----> STARTING ---- enough evidence ----> SPEAKING
      ^                            |                                ^     |
      +----- dip too long ---------+                       p >= end |     | p < end
      |                                                             |     v
      +------------------------- quiet for end_ms ---------------- STOPPING
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

__all__ = ["SpeechBegan", "SpeechEnded", "SpeechGate", "SpeechGateSettings"]


@dataclass(frozen=True, slots=True)
class SpeechGateSettings:
    """Thresholds of the probability, and lengths of call time."""

    start: float = 0.6
    """As much is needed to begin ..."""
    end: float = 0.35
    """... and as much to go on."""
    start_ms: int = 20
    """Evidence, not counting dips, before speech is said to have begun."""
    dip_ms: int = 40
    """Evidence that has not yet sufficed is forgotten after a dip longer than this."""
    end_ms: int = 200
    """Quiet after which speech has ended; shorter than the silence that ends a turn."""
    pre_roll_ms: int = 300
    """Audio before the first evidence that belongs to the speech: soft onsets, and the
    delay of the engine."""

    def __post_init__(self) -> None:
        if not 0.0 < self.end <= self.start <= 1.0:
            raise ValueError("0 < end <= start <= 1 must hold")


@dataclass(frozen=True, slots=True)
class SpeechBegan:
    """Times in milliseconds of call time. The audio of the speech begins at ``from_ms``."""

    at_ms: int
    """Where the evidence begins."""
    decided_ms: int
    pre_roll_ms: int
    """What goes before ``at_ms``: less than was asked for where the call, or the silence
    since the last speech, is shorter."""

    @property
    def from_ms(self) -> int:
        """Where the audio to keep begins."""
        return self.at_ms - self.pre_roll_ms


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """Times in milliseconds of call time."""

    at_ms: int
    """Where the evidence ends."""
    decided_ms: int


class _State(Enum):
    QUIET = auto()
    STARTING = auto()
    SPEAKING = auto()
    STOPPING = auto()


class SpeechGate:
    """One call's gate. ``settings`` may be replaced at any time; it counts from the next frame."""

    def __init__(self, settings: SpeechGateSettings | None = None, frame_ms: int = 20) -> None:
        self.settings = settings or SpeechGateSettings()
        self._frame_ms = frame_ms
        self._state = _State.QUIET
        self._now_ms = 0
        self._began_ms = 0
        self._quiet_from_ms = 0
        """Where the evidence last ended."""
        self._free_from_ms = 0
        """Up to here the audio belongs to earlier speech."""
        self._evidence_ms = 0

    @property
    def speaking(self) -> bool:
        """Between SpeechBegan and SpeechEnded."""
        return self._state in (_State.SPEAKING, _State.STOPPING)

    @property
    def evidence_ms(self) -> int:
        """How much of the present speech, or of what may become speech, was heard; 0 in quiet."""
        return self._evidence_ms

    @property
    def quiet_ms(self) -> int:
        """Call time since the evidence last ended; 0 while there is some."""
        if self._state in (_State.STARTING, _State.SPEAKING):
            return 0
        return self._now_ms - self._quiet_from_ms

    def hear(self, probability: float) -> SpeechBegan | SpeechEnded | None:
        """Takes the probability of the next frame."""
        frame_from_ms = self._now_ms
        self._now_ms += self._frame_ms
        match self._state:
            case _State.QUIET:
                if probability >= self.settings.start:
                    self._state = _State.STARTING
                    self._began_ms = frame_from_ms
                    return self._go_on()
            case _State.STARTING:
                if probability >= self.settings.end:
                    return self._go_on()
                if self._now_ms - self._quiet_from_ms > self.settings.dip_ms:
                    self._fall_quiet()
            case _State.SPEAKING:
                if probability >= self.settings.end:
                    self._go_on()
                else:
                    self._state = _State.STOPPING
                    return self._wait()
            case _State.STOPPING:
                if probability >= self.settings.end:
                    self._state = _State.SPEAKING
                    self._go_on()
                else:
                    return self._wait()
        return None

    def _go_on(self) -> SpeechBegan | None:
        self._evidence_ms += self._frame_ms
        self._quiet_from_ms = self._now_ms
        if self._state is not _State.STARTING or self._evidence_ms < self.settings.start_ms:
            return None
        self._state = _State.SPEAKING
        pre_roll_ms = min(self.settings.pre_roll_ms, self._began_ms - self._free_from_ms)
        return SpeechBegan(self._began_ms, self._now_ms, pre_roll_ms)

    def _wait(self) -> SpeechEnded | None:
        if self._now_ms - self._quiet_from_ms < self.settings.end_ms:
            return None
        self._free_from_ms = self._quiet_from_ms
        self._fall_quiet()
        return SpeechEnded(self._quiet_from_ms, self._now_ms)

    def _fall_quiet(self) -> None:
        self._state = _State.QUIET
        self._evidence_ms = 0
