"""What tests of bots and of voicebridge itself are written with."""

from voicebridge.testing.clock import (
    Deadlock,
    UnhandledError,
    VirtualClock,
    VirtualLoop,
    run_virtual,
)

__all__ = ["Deadlock", "UnhandledError", "VirtualClock", "VirtualLoop", "run_virtual"]
