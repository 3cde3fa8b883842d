"""An EVO_GO number in a box: REST API, webhooks, media host and the person on the phone."""

from voicebridge.emulator.behaviour import (
    Behaviour,
    CallerBehaviour,
    MediaBehaviour,
    NetworkBehaviour,
    Outcome,
    RestBehaviour,
    Stall,
    WebhookBehaviour,
)
from voicebridge.emulator.calls import EmulatedCall
from voicebridge.emulator.emulator import Emulator, EmulatorConfig
from voicebridge.emulator.farend import FarEnd
from voicebridge.emulator.gauge import Measurement
from voicebridge.emulator.script import CallerScript, built_in_audio, load_audio, synthetic_speech

__all__ = [
    "Behaviour",
    "CallerBehaviour",
    "CallerScript",
    "EmulatedCall",
    "Emulator",
    "EmulatorConfig",
    "FarEnd",
    "Measurement",
    "MediaBehaviour",
    "NetworkBehaviour",
    "Outcome",
    "RestBehaviour",
    "Stall",
    "WebhookBehaviour",
    "built_in_audio",
    "load_audio",
    "synthetic_speech",
]
