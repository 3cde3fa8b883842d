"""A demo call as a picture: which figures, events and words its page shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voicebridge.lab.picture import (
    CallPicture,
    Distribution,
    Link,
    Moment,
    Side,
    Tile,
    Tone,
    Track,
    Verdict,
)

if TYPE_CHECKING:
    from voicebridge.lab.record import CallRecord
    from voicebridge.lab.report import DemoReport, Examination

__all__ = ["ATTRIBUTION", "demo_page", "demo_tiles"]

ATTRIBUTION = (
    "The caller's recordings are Asterisk core sounds 1.6.1, voice Allison Smith, with "
    "contributions by Digium, Inc. and others, under CC BY-SA 3.0 "
    "(creativecommons.org/licenses/by-sa/3.0), played one after the other."
)

_LABELS: dict[str, tuple[str, Side]] = {
    "accept": ("accept", "call"),
    "realtime_session": ("realtime-session", "call"),
    "media_open": ("media open", "media"),
    "media_closed": ("media closed", "media"),
    "connected": ("connected", "call"),
    "terminate": ("terminate", "call"),
    "reject": ("reject", "problem"),
    "play": ("play", "call"),
    "ended": ("hang-up", "call"),
}


def demo_page(
    record: CallRecord, examination: Examination, *, attribution: str | None = None
) -> CallPicture:
    """``attribution`` names whose recordings are heard."""
    report = examination.report
    caller, bot = record.tracks()
    return CallPicture(
        title="Demo call",
        subtitle=f"The bot “{record.bot}”, called through the emulator. "
        f"voicebridge {report.version}.",
        verdict=_verdict(record, report),
        tracks=(Track("Caller", caller), Track("Bot", bot)),
        sample_rate=record.rate,
        tiles=demo_tiles(record, examination),
        events=_moments(record, examination),
        links=_links(record, examination),
        distributions=_distributions(examination),
        notes=_notes(record, attribution),
    )


def demo_tiles(record: CallRecord, examination: Examination) -> tuple[Tile, ...]:
    """The headline figures; what was not measured is left out, never shown as zero."""
    report, echo = examination.report, examination.echo
    tiles = [
        _answer(report),
        _first_word(record, examination),
        _round_trip(report),
        _identical(echo.identical_fraction if record.expects_echo else None),
        _quality(report),
        _pacing(report),
        _processor(report),
        _memory(report),
    ]
    return tuple(tile for tile in tiles if tile is not None)


def _verdict(record: CallRecord, report: DemoReport) -> Verdict:
    if report.ok:
        words = "Every word came back" if record.expects_echo else "The call went well"
        return Verdict(True, words)
    one = len(report.problems) == 1
    words = "One thing went wrong" if one else f"{len(report.problems)} things went wrong"
    return Verdict(False, words, report.problems)


def _answer(report: DemoReport) -> Tile | None:
    if report.answer_ms is None:
        return None
    tone = _tone(report.answer_ms, 250, 1000)
    return _tile("Answered in", report.answer_ms, "ms", "from ringing to the accepted call", tone)


def _first_word(record: CallRecord, examination: Examination) -> Tile | None:
    spoken, heard = examination.first_spoken, examination.first_heard
    if heard is None:
        return None
    if spoken is None or heard < spoken or not record.expects_echo:
        first = record.since_signal(heard) * 1000
        return _tile("First word", first, "ms", "from ringing until the bot is heard", "plain")
    wait = (heard - spoken) * 1000 / record.rate
    caption = "from the caller's first sound until it is heard again"
    return _tile("First word back", wait, "ms", caption, _tone(wait, 400, 800))


def _round_trip(report: DemoReport) -> Tile | None:
    trip = report.round_trip_ms
    if trip.p50 is None or trip.p95 is None:
        return None
    caption = f"half of the speech is back within this, 95 % within {trip.p95:.0f} ms"
    return _tile("Round trip", trip.p50, "ms", caption, _tone(trip.p95, 400, 600))


def _identical(share: float | None) -> Tile | None:
    if share is None:
        return None
    # Only all of it is 100 %: rounding must not hide a lost word.
    value = "100" if share == 1 else f"{min(share * 100, 99.99):.2f}"
    caption = "of the caller's voice, bit for bit"
    tone: Tone = "good" if share >= 0.999 else "warn" if share >= 0.99 else "bad"
    return Tile("Came back unchanged", value, "%", caption, tone)


def _quality(report: DemoReport) -> Tile | None:
    if report.pesq is None:
        return None
    tone: Tone = "good" if report.pesq >= 4.3 else "warn" if report.pesq >= 3.5 else "bad"
    caption = "PESQ: how a listener would rate what came back"
    return Tile("Speech quality", f"{report.pesq:.2f}", "of 4.64", caption, tone)


def _pacing(report: DemoReport) -> Tile | None:
    worst = report.pacing_jitter_ms.p99
    if worst is None:
        return None
    caption = "99 % of the messages are this close to their 60 ms beat"
    return _tile("Pacing", worst, "ms", caption, _tone(worst, 10, 40))


def _processor(report: DemoReport) -> Tile | None:
    cost = report.cpu_ms_per_call_second
    if cost is None:
        return None
    caption = f"of one core; {cost:.1f} ms for each second of call"
    return Tile("Processor", f"{cost / 10:.2f}", "%", caption)


def _memory(report: DemoReport) -> Tile | None:
    if report.rss_mib_per_call is None:
        return None
    caption = "more than before the call, recording included"
    return Tile("Memory", f"{report.rss_mib_per_call:.1f}", "MiB", caption)


def _moments(record: CallRecord, examination: Examination) -> tuple[Moment, ...]:
    moments, webhooks = [], 0
    for event in record.timeline:
        at = event.at - record.signalled_at
        if event.what == "webhook":
            webhooks += 1
            label = "webhook" if webhooks == 1 else event.detail.split(" ")[0] or "webhook"
            moments.append(Moment(at, label, f"{event.detail}, to the bridge"))
        elif event.what == "webhook_answered" and webhooks == 1:
            moments.append(Moment(at, "2xx", f"the bridge took it: {event.detail}"))
        elif event.what in _LABELS:
            label, side = _LABELS[event.what]
            moments.append(Moment(at, label, event.detail, side))
    if examination.first_spoken is not None:
        at = record.since_signal(examination.first_spoken)
        moments.append(Moment(at, "caller speaks", "first voiced sample", "caller"))
    if examination.first_heard is not None:
        at = record.since_signal(examination.first_heard)
        moments.append(Moment(at, "first audio", "first voiced sample of the bot", "bot"))
    return tuple(moment for moment in moments if moment.at >= 0)


def _links(record: CallRecord, examination: Examination) -> tuple[Link, ...]:
    links = []
    for piece in examination.echo.pieces:
        if piece.lag is not None:
            ms = piece.lag * 1000 / record.rate
            start = record.since_signal(piece.start)
            words = f"this piece of speech came back after {ms:.0f} ms"
            links.append(Link(start, start + ms / 1000, words))
    return tuple(links)


def _distributions(examination: Examination) -> tuple[Distribution, ...]:
    return (
        Distribution(
            "Round trip",
            "ms",
            examination.echo.round_trips_ms,
            "From a word leaving the caller until it is heard again.",
            "pieces of speech, half a second each",
        ),
        Distribution(
            "Pacing jitter",
            "ms",
            examination.jitter_ms,
            "How far the gap between two messages is from 60 ms.",
            "gaps",
        ),
    )


def _notes(record: CallRecord, attribution: str | None) -> tuple[str, ...]:
    notes = [
        "Time 0 is the webhook of the ringing call. Both sides are what the caller said and "
        "heard, on the clock of the caller's phone; so a distance between them is a true delay.",
        "The round trip includes what no bridge can avoid: audio travels in messages of 60 ms, "
        "and a small lead is kept so that a late message is not heard.",
    ]
    if record.far.holes and record.far.hole_ms:
        notes.append(
            f"The far end waited for audio {record.far.holes} times, {record.far.hole_ms:.0f} ms "
            "in all; what followed was delayed by that, not lost."
        )
    return (*notes, attribution) if attribution else tuple(notes)


def _tile(label: str, value: float, unit: str, caption: str, tone: Tone) -> Tile:
    return Tile(label, f"{value:.0f}" if value >= 10 else f"{value:.1f}", unit, caption, tone)


def _tone(value: float, good: float, bearable: float) -> Tone:
    return "good" if value <= good else "warn" if value <= bearable else "bad"
