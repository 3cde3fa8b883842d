"""The Prometheus metrics of one process, in a registry of their own.

One rule: labels come from small fixed sets. No call id, phone number or text that
came over the network ever becomes a label value, so the number of series is known
before the first call. All times are in seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["WEBHOOK_EVENTS", "WEBHOOK_RESULTS", "Metrics"]

WEBHOOK_EVENTS: Final = frozenset(
    {
        "call.ringing",
        "call.connected",
        "call.ended",
        "call.missed",
        "call.permission_updated",
        "CallOffer",
        "CallAccept",
        "CallTerminate",
        "account_notice",
        "unread",
    }
)
"""Values of the label ``event`` beside ``other``; ``unread`` is a body nobody parsed."""

WEBHOOK_RESULTS: Final = frozenset(
    {
        "accepted",  # handed to the bridge
        "replayed",  # seen before; acknowledged and dropped
        "ignored",  # nothing to do: unknown event, notice, or no call id
        "overloaded",  # 503: the intake queue is full
        "unauthorized",  # 401: signature missing or wrong
        "malformed",  # 400: not a JSON object
        "encoded",  # 415: compressed body
        "too_large",  # 413
        "timeout",  # 408: the body took too long
        "cut",  # the sender went away in mid-body
    }
)
"""Values of the label ``result`` of ``voicebridge_webhooks_total`` beside ``other``."""

# A caller notices an answer after about a second; the ring window is some 45 s.
_ANSWER_BUCKETS: Final = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 15.0, 30.0)
# Turns are judged in steps of 100 ms around the 800 ms at which a pause feels long.
_TURN_BUCKETS: Final = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
_BARGE_IN_BUCKETS: Final = (0.02, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.0)
# One wire frame is 60 ms; anything beyond 20 ms of lateness eats the far end's buffer.
_PACING_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.2, 0.5, 1.0)
_DEPTH_BUCKETS: Final = (0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.18, 0.24, 0.5, 1.0, 3.0)


class _WithoutCreated:
    """A registry's families minus the ``_created`` series, which nobody charts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            kept = Metric(family.name, family.documentation, family.type, family.unit)
            kept.samples = [s for s in family.samples if not s.name.endswith("_created")]
            yield kept


class Metrics:
    """Every metric of a bridge as an attribute, named as exposed minus ``voicebridge_``."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._describe_calls()
        self._describe_media()
        self._describe_edges()

    def render(self) -> tuple[bytes, str]:
        """The text exposition and its content type."""
        # generate_latest() reads nothing but collect().
        return generate_latest(_WithoutCreated(self.registry)), CONTENT_TYPE_LATEST

    def count_webhook(self, event: str, result: str) -> None:
        """Counts one request at the webhook; names outside the known sets become ``other``."""
        self.webhooks_total.labels(
            event if event in WEBHOOK_EVENTS else "other",
            result if result in WEBHOOK_RESULTS else "other",
        ).inc()

    def _describe_calls(self) -> None:
        self.calls_active = self._gauge("calls_active", "Calls being carried now.")
        self.calls_total = self._counter(
            "calls_total", "Calls that ended, by how.", "direction", "result"
        )
        self.answer_seconds = self._histogram(
            "answer_seconds", "From the ringing event to the accepted call.", _ANSWER_BUCKETS
        )
        self.first_audio_seconds = self._histogram(
            "first_audio_seconds",
            "From the ringing event to the first audio sent by the bot.",
            _ANSWER_BUCKETS,
        )
        self.turn_response_seconds = self._histogram(
            "turn_response_seconds",
            "From the end of the caller's turn to each stage of the answer.",
            _TURN_BUCKETS,
            "stage",
        )
        self.bargein_stop_seconds = self._histogram(
            "bargein_stop_seconds",
            "From the onset of the caller's speech to the last audio of the bot.",
            _BARGE_IN_BUCKETS,
        )
        self.bargein_total = self._counter(
            "bargein_total", "Interruptions of the bot, by what came of them.", "outcome"
        )
        self.bot_errors_total = self._counter(
            "bot_errors_total", "Exceptions that a bot let out.", "bot"
        )

    def _describe_media(self) -> None:
        self.frame_lateness_seconds = self._histogram(
            "frame_lateness_seconds",
            "How long after its due instant a frame was handed to the socket.",
            _PACING_BUCKETS,
        )
        self.playout_lead_seconds = self._histogram(
            "playout_lead_seconds", "Audio sent ahead of the instant of play.", _DEPTH_BUCKETS
        )
        self.playout_underruns_total = self._counter(
            "playout_underruns_total", "Times that an utterance ran dry in the middle."
        )
        self.jitter_buffer_depth_seconds = self._histogram(
            "jitter_buffer_depth_seconds", "Inbound audio waiting for its reader.", _DEPTH_BUCKETS
        )
        self.event_loop_lag_seconds = self._histogram(
            "event_loop_lag_seconds", "How late the event loop runs its timers.", _PACING_BUCKETS
        )
        self.media_format_changes_total = self._counter(
            "media_format_changes_total",
            "Calls whose media server spoke another format than configured.",
        )
        self.media_reconnects_total = self._counter(
            "media_reconnects_total", "Attempts to reopen a media socket in mid-call.", "result"
        )

    def _describe_edges(self) -> None:
        self.webhooks_total = self._counter(
            "webhooks_total", "Requests at the webhook, by what became of them.", "event", "result"
        )
        self.api_requests_total = self._counter(
            "api_requests_total", "Attempts at the provider's API.", "operation", "status"
        )
        self.draining = self._gauge("draining", "1 while no new calls are taken.")

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"voicebridge_{name}", help_text, labels, registry=self.registry)

    def _gauge(self, name: str, help_text: str) -> Gauge:
        return Gauge(f"voicebridge_{name}", help_text, registry=self.registry)

    def _histogram(
        self, name: str, help_text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            f"voicebridge_{name}", help_text, labels, buckets=buckets, registry=self.registry
        )
