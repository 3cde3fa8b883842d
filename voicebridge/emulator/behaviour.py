"""Every way in which the emulated provider can behave: one frozen model of switches.

The documentation leaves much open (frame sizes, queues, close codes, what a late
``accept`` gets) and the public relatives of Evolution GO differ, so each open question is
a switch here. The defaults are the best reading of what the real service does; each other
value is something that at least one relative does, or a fault that has to be survived.

When a change takes effect: ``rest`` and ``webhooks`` at once; ``media``, ``network`` and
``caller`` are read when a call begins and stay with that call. Scripts
(``rest.script``, ``media.handshakes``) start over when their value changes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Behaviour",
    "CallerBehaviour",
    "MediaBehaviour",
    "NetworkBehaviour",
    "Operation",
    "Outcome",
    "RestBehaviour",
    "Stall",
    "WebhookBehaviour",
]

Seconds = Annotated[float, Field(ge=0, le=86_400)]
Status = Annotated[int, Field(ge=200, le=599)]

Operation = Literal[
    "initiate",
    "list_calls",
    "get_call",
    "accept",
    "pre_accept",
    "reject",
    "terminate",
    "play",
    "realtime_session",
    "get_settings",
    "update_settings",
    "get_permissions",
    "request_permission",
    "list_webhooks",
    "create_webhook",
    "get_webhook",
    "update_webhook",
    "delete_webhook",
    "webhook_logs",
]


class _Switches(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class MediaBehaviour(_Switches):
    """The media socket and the voice engine behind it."""

    sample_rate: Literal[8_000, 16_000, 24_000, 48_000] = 16_000
    """Of the wire, both ways. The engine itself is always fed in frames of 60 ms."""
    frame_ms: int = Field(default=60, ge=10, le=60)
    """Length of one frame of the caller's audio."""
    frames_per_message: int = Field(default=1, ge=1, le=16)
    """Frames in one message to the bridge."""
    odd_lengths: bool = False
    """Cuts the byte stream to the bridge in the middle of samples."""
    prefill_ms: int = Field(default=120, ge=0, le=2_000)
    """The first audio, and that after 2 s of nothing, is held this long, then comes as a burst."""
    uplink: Literal["speech", "deaf", "deaf_after_comfort", "comfort_only"] = "speech"
    """What the bridge gets to hear: the caller, nothing, 8 messages of comfort noise and then
    nothing, or comfort noise only."""
    silence: Literal["frames", "dtx", "comfort_noise"] = "frames"
    """While the caller is silent: zero frames, no messages at all, or noise below 8 LSB."""
    hello: Literal["none", "start", "waxum", "wadial", "lg"] = "none"
    """The text message that opens the stream, in the style of a public relative."""
    json_mode: bool = False
    """Audio as text messages ``{"event":"media","payload":<base64>}``, both ways."""
    queue: Literal["drop_newest", "drop_after_30s", "block", "unpaced"] = "drop_newest"
    """What becomes of audio sent faster than real time: 50 frames then the newest is dropped,
    30 s then the newest is dropped, 64 frames then the socket is not read, or no queue at all:
    every frame goes to the phone at once, which drops what exceeds 1 s."""
    under_run: Literal["silence", "stall"] = "silence"
    """When the queue is empty: 60 ms of silence each time, or the engine waits for audio."""
    engine_starts: Literal["media", "connected"] = "media"
    """From when on the engine takes frames: since the socket opened (to nobody before the call
    connected), or only then. The latter queues what came before, a delay for the whole call."""
    wrong_size: Literal["accept", "drop", "close"] = "accept"
    """A message that is not exactly one frame of 60 ms: queued, lost, or fatal (close 1008)."""
    on_close: Literal["keep", "hang_up", "hang_up_after_grace"] = "hang_up_after_grace"
    """What the loss of the last media socket does to the call."""
    close_grace_s: Seconds = 10.0
    """How long ``hang_up_after_grace`` waits for a new socket."""
    end_code: int = Field(default=1000, ge=1000, le=4999)
    """Close code at the end of the call; 1006 aborts the connection without a close frame."""
    second_socket: Literal["evict", "refuse", "allow"] = "evict"
    """A second socket for the same call: closes the first with 1001, is closed with 1008, or
    both live."""
    cut_after_s: Seconds | None = None
    """Cuts the socket this long after it opened."""
    cut_code: int = Field(default=1006, ge=1000, le=4999)
    """Close code of the cut; 1006 aborts the connection."""
    cuts: int = Field(default=1, ge=0)
    """How many sockets of one call are cut; 0 cuts each of them."""
    handshakes: tuple[Status | Literal["ok", "hang", "reset"], ...] = ()
    """What the next handshakes get, in order: a status instead of 101, no answer, or a
    reset. The token is spent in any case."""
    answer_pings: bool = True
    """False: pings of the bridge stay without a pong."""
    ping_every_s: Annotated[float, Field(gt=0)] | None = None
    """The server's own pings."""


class Stall(_Switches):
    """A stretch in which the network passes nothing; late, never lost."""

    at_s: Seconds
    """After the call's first media socket opened."""
    seconds: Seconds
    """How long it lasts."""
    way: Literal["to_bridge", "from_bridge", "both"] = "to_bridge"
    """Which direction stands still."""


class NetworkBehaviour(_Switches):
    """The path between the media host and the bridge, and the far end's clock."""

    delay_ms: float = Field(default=0, ge=0, le=5_000)
    """Added to everything on its way to the bridge."""
    jitter_ms: float = Field(default=0, ge=0, le=5_000)
    """Each message is late by up to this much more, uniformly; order is kept, as in TCP."""
    stalls: tuple[Stall, ...] = ()
    """Stretches in which nothing gets through."""
    drift_ppm: float = Field(default=0, ge=-100_000, le=100_000)
    """How much faster the far end's audio clock runs than true time."""
    seed: int = 0
    """Of the jitter; the same seed gives the same delays."""


class CallerBehaviour(_Switches):
    """The person at the other end, and the telephone network before the media."""

    ring_s: Seconds = 45.0
    """How long it rings before the call is missed; also of outbound calls."""
    cancel: Literal["never", "ringing", "on_accept", "after_accept"] = "never"
    """The caller gives up: after ``cancel_after_s``, at the moment the accept arrives (which
    then fails), or right after an accept that still succeeded."""
    cancel_after_s: Seconds = 2.0
    """When ``ringing`` gives up."""
    elsewhere_after_s: Seconds | None = None
    """A person answers on another linked device after this time."""
    elsewhere_status: Literal["COMPLETED", "REJECTED", "MISSED"] = "COMPLETED"
    """The status that this gives (the mapping is not documented)."""
    connect_after_s: Seconds = 0.3
    """From the accept, or the callee's answer, until media flows and ``call.connected``."""
    dialled: Literal["answers", "declines", "no_answer", "unreachable"] = "answers"
    """What an outbound call meets."""
    answers_after_s: Seconds = 2.0
    """How long the callee lets it ring before answering or declining."""
    media_before_answer: bool = False
    """The media session of an outbound call is open while it still rings."""
    external_id_late: bool = False
    """An outbound call has no ``externalCallId`` until it rings."""
    permission: Literal["grant_temporary", "grant_permanent", "deny", "ignore"] = "grant_temporary"
    """META: the user's answer to a permission request."""
    permission_after_s: Seconds = 1.0
    """META: how long the user thinks about it."""


class Outcome(_Switches):
    """What one request meets instead of, or after, its proper handling."""

    kind: Literal["ok", "status", "hang", "reset", "garbage"] = "status"
    """Proper answer (after ``delay_s``), an error status, no answer at all, a cut connection,
    or status 200 with ``body``."""
    status: Status = 500
    """Of ``kind`` "status"."""
    code: str | None = None
    """``code`` of the error envelope."""
    error: str = "Internal server error"
    """``error`` of the envelope."""
    retry_after: str | None = None
    """``Retry-After`` as sent, whatever it says."""
    body: str = "<html><body>Bad gateway</body></html>"
    """Of ``kind`` "garbage", sent with status 200."""
    processed: bool = False
    """The request takes effect although its answer is lost or an error."""
    delay_s: Seconds = 0.0
    """Before anything happens."""
    repeat: int = Field(default=1, ge=0)
    """How many requests meet it; 0 means every one from then on."""


class RestBehaviour(_Switches):
    """The REST API."""

    instance_connected: bool = True
    """False: 409 ``WHATSAPP_INSTANCE_NOT_CONNECTED`` to whatever needs the phone."""
    latency_s: Seconds = 0.0
    """Added to every request."""
    script: dict[Operation, tuple[Outcome, ...]] = Field(default_factory=dict)
    """Outcomes of the next requests, per operation; after the last one all is well again."""
    session_ready_after_s: Seconds = 0.0
    """``realtime-session`` is refused for this long after the accept."""
    session_refusal_status: Status = 409
    """The status of that refusal, and of one for a call that is not active."""
    session_refusal_code: str | None = "CALL_NOT_ACTIVE"
    """Its code."""
    session_before_accept: bool = False
    """``realtime-session`` works while the call still rings."""
    token_in_body: bool = True
    """False: the reply has ``wsUrl`` and ``expiresInSeconds`` only."""
    ws_url_shape: Literal["query", "path"] = "query"
    """``/call/media/realtime/ws?token=`` or ``.../ws/<instance>/<CallID>?token=``."""
    ws_url: str | None = None
    """Sent instead of the true address, token and all."""
    token_ttl_s: Seconds = 120.0
    """How long a token opens the media socket."""
    token_reusable: bool = False
    """False: the second handshake with a token gets 401."""
    expires_in_seconds: int | str | None = 120
    """What the reply claims; None leaves it out."""
    play_field: Literal["mediaUrl", "audioUrl", "both"] = "mediaUrl"
    """The field that ``/play`` takes; the other one is a validation error."""
    play_guard: bool = True
    """``/play`` refuses localhost and private addresses."""
    accept_twice_status: Status = 200
    """What accepting an accepted call gets."""
    accept_over_status: Status = 409
    """What accepting an ended call gets."""
    over_status: Status = 200
    """What rejecting or terminating an ended call gets."""
    call_events_dropped: bool = False
    """``call.*`` names are dropped from subscriptions, as one page says; ``*`` still works."""
    daily_limit: int = Field(default=2_000, ge=0)
    """META: the number's messaging limit; below 2,000 calling cannot be enabled."""


class WebhookBehaviour(_Switches):
    """Delivery of webhooks."""

    signature: Literal["on", "off", "wrong", "prefixed", "upper"] = "on"
    """Hex HMAC-SHA256 of the raw body (where there is a secret), none, a wrong one, with
    ``sha256=`` before it, or in upper case."""
    shape: Literal["flat", "wrapped"] = "flat"
    """``{"event",...}`` or ``{"event","data":{...}}``."""
    native: Literal["none", "also", "first", "only"] = "none"
    """Evolution GO's own ``CallOffer``, ``CallAccept`` and ``CallTerminate``, ``instanceToken``
    included: not, after or before the normalised event, or instead of it."""
    connected: Literal["normal", "missing", "late", "duplicate", "after_ended"] = "normal"
    """What becomes of ``call.connected``."""
    connected_late_s: Seconds = 5.0
    """How late ``late`` is."""
    delay_s: Seconds = 0.0
    """Before each first delivery."""
    delays: dict[str, Seconds] = Field(default_factory=dict)
    """The same per event name, which is how events overtake one another."""
    drop: tuple[str, ...] = ()
    """Events that are never sent."""
    lose_first: tuple[str, ...] = ()
    """Events whose first delivery is lost: they come with the retry, ``retry_s`` later."""
    copies: int = Field(default=1, ge=1, le=50)
    """Deliveries of each event at the same time."""
    repeat_after_s: Seconds | None = None
    """Sends each event once more, this much later, although it was answered 2xx."""
    retries: int = Field(default=4, ge=0, le=20)
    """Further attempts where the answer was not 2xx."""
    retry_s: Seconds = 30.0
    """Between attempts."""
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """How long one attempt may take."""
    ids: Literal["both", "pilot_only", "external_only", "none"] = "both"
    """Which of ``callId`` and ``externalCallId`` are not null."""
    peer: Literal["phone", "lid", "null"] = "phone"
    """The other party's number as E.164, as a WhatsApp LID, or null."""
    timestamp: Literal["iso", "naive", "epoch_ms", "garbage"] = "iso"
    """ISO 8601 with zone, without, milliseconds since 1970 as text, or no date at all."""
    timestamp_skew_s: float = 0.0
    """Added to the timestamp: negative makes events look old."""
    duration_field: Literal["duration", "durationSeconds", "both"] = "duration"
    """What ``call.ended`` calls the seconds of an answered call."""


class Behaviour(_Switches):
    """All switches, grouped."""

    media: MediaBehaviour = MediaBehaviour()
    network: NetworkBehaviour = NetworkBehaviour()
    caller: CallerBehaviour = CallerBehaviour()
    rest: RestBehaviour = RestBehaviour()
    webhooks: WebhookBehaviour = WebhookBehaviour()
