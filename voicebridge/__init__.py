"""Realtime voice-bot media bridge for WhatsApp calls.

A bot is a class with one coroutine::

    from voicebridge import Bot, Call

    class EchoBot(Bot):
        async def run(self, call: Call) -> None:
            async for frame in call.audio():
                await call.write(frame)
"""

from voicebridge.call import Bot, Call, Speech
from voicebridge.core.events import (
    DtmfReceived,
    Event,
    Hangup,
    MediaLost,
    MediaRestored,
    Playback,
    PlaybackFinished,
)
from voicebridge.errors import (
    AudioError,
    CallEnded,
    CallError,
    ConfigError,
    ProviderError,
    VoicebridgeError,
)

__all__ = [
    "AudioError",
    "Bot",
    "Call",
    "CallEnded",
    "CallError",
    "ConfigError",
    "DtmfReceived",
    "Event",
    "Hangup",
    "MediaLost",
    "MediaRestored",
    "Playback",
    "PlaybackFinished",
    "ProviderError",
    "Speech",
    "VoicebridgeError",
]

__version__ = "0.1.0"
