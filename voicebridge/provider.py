"""What carries a call asks of the provider, and of nothing else.

The seam towards the REST API: `voicebridge.pilotstatus.api` implements it. Retries,
deadlines and the question whether an unclear request took
effect are the implementation's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from voicebridge.pilotstatus.models import CallDetails, InitiatedCall, RealtimeSession


class Provider(Protocol):
    """What a leg asks of the provider's API; retries are the implementation's."""

    async def accept(self, call_id: str, *, deadline: float | None = None) -> object: ...
    async def reject(self, call_id: str) -> object: ...
    async def terminate(self, call_id: str) -> object: ...
    async def realtime_session(
        self, call_id: str, mode: Literal["talk", "listen"] = "talk"
    ) -> RealtimeSession: ...
    async def play(self, call_id: str, url: str) -> object: ...
    async def get_call(self, call_id: str) -> CallDetails: ...
    async def initiate(self, to: str, *, callback_data: str | None = None) -> InitiatedCall: ...
    async def list_calls(
        self, *, limit: int = 25, before: str | None = None
    ) -> list[CallDetails]: ...
