"""``python -m benchmarks.hearing [accuracy|cost|tune] ...``: how well is heard, at what cost.

``accuracy`` reports on the half of the voices that nothing was tuned on; ``tune`` sweeps the
threshold on the other half; ``cost`` is CPU. The first run fetches recordings (330 MB, Debian
packages) and builds the streams; later ones take the cache.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from benchmarks.hearing.cost import engine_alone, whole_path
from benchmarks.hearing.data import RATIOS, Corpus, load
from benchmarks.hearing.vad import Setup, judge
from voicebridge.core.speech_gate import SpeechGateSettings
from voicebridge.core.vad import EnergyVad, Vad
from voicebridge.weights import neural_vad

if TYPE_CHECKING:
    from benchmarks.hearing.recordings import Split
    from benchmarks.hearing.vad import Verdict

THRESHOLDS = (0.4, 0.5, 0.6, 0.7)
CALLS = (1, 8, 32, 100, 400)


def accuracy() -> None:
    """The report, on eval."""
    corpus = load("eval")
    _head(corpus, "eval")
    _row("as shipped", corpus, neural_vad(), Setup(), details=True)
    _row("60 ms messages", corpus, neural_vad(), Setup(frames_per_message=3))
    _row("without peek", corpus, neural_vad(), Setup(peek=False))
    _row("without gate, peek", corpus, neural_vad(), Setup(energy=None, peek=False))
    for start in THRESHOLDS:
        if start != SpeechGateSettings().start:
            speech = SpeechGateSettings(start=start)
            _row(f"start at {start}", corpus, neural_vad(), Setup(speech=speech))
    _row("energy only", corpus, EnergyVad(), Setup())


def tune() -> None:
    """The threshold, on dev."""
    corpus = load("dev")
    _head(corpus, "dev")
    for start in THRESHOLDS:
        setup = Setup(speech=SpeechGateSettings(start=start))
        _row(f"start at {start}", corpus, neural_vad(), setup)


def cost() -> None:
    """CPU, on the speech of eval at 20 dB."""
    speech = load("eval").speech[20]
    print("CPU us per call and 20 ms, one thread; callers talk half of the time")
    print("calls  engine  gate+engine+peek  p99 of a run  skipped  peeks/chunk  60 ms messages")
    for calls in CALLS:
        vad = neural_vad()
        engine = engine_alone(vad, calls)
        frames = 1500 if calls < 100 else 300
        path = min(
            (whole_path(vad, speech, calls, frames) for _ in range(3)),
            key=lambda load: load.microseconds,
        )
        message = whole_path(vad, speech, calls, frames, message=3)
        print(
            f"{calls:5d} {engine:7.1f} {path.microseconds:17.1f} {path.p99_ms:10.2f} ms "
            f"{path.skipped:8.0%} {path.peeks_per_chunk:12.2f} {message.microseconds:15.1f}",
            flush=True,
        )


def _head(corpus: Corpus, split: Split) -> None:
    minutes, voiceless = corpus.labels.size / 6000, corpus.noise.size / 960_000
    print(
        f"{split}: {minutes:.0f} min of speech at each ratio, {voiceless:.0f} min without a "
        f"voice, {len(corpus.event_kinds)} coughs, breaths, clicks and key tones"
    )
    ratios = " ".join(f"{'clean' if r is None else f'{r} dB':>8s}" for r in RATIOS)
    print(
        f"{'':20s} F1 % {ratios} | onset median/p95 ms, same order | "
        "false/min (not music) | coughs made, recorded"
    )


def _row(name: str, corpus: Corpus, vad: Vad, setup: Setup, *, details: bool = False) -> None:
    verdict = judge(corpus, vad, setup)
    scores = " ".join(f"{100 * verdict.f1(ratio):8.1f}" for ratio in RATIOS)
    onsets = " ".join(f"{o.median:.0f}/{o.p95:.0f}" for o in verdict.onsets.values())
    print(
        f"{name:25s} {scores} | {onsets} | "
        f"{verdict.false_per_minute:.2f} ({verdict.false_not_music:.2f}) | "
        f"{verdict.triggered['cough']:.1%}, {verdict.triggered['recorded cough']:.1%}",
        flush=True,
    )
    if details:
        _details(verdict)


def _details(verdict: Verdict) -> None:
    for ratio in RATIOS:
        onset = verdict.onsets[ratio]
        ratio_name = "clean" if ratio is None else f"{ratio} dB"
        print(
            f"    {ratio_name}: precision {verdict.precision[ratio]:.1%}, recall "
            f"{verdict.recall[ratio]:.1%}, {onset.latencies.size} onsets, {onset.missed} missed; "
            f"F1 in babble {100 * verdict.babble_f1.get(ratio, float('nan')):.1f} %"
        )
    print(f"    false starts in {verdict.noise_minutes:.0f} min: {verdict.false_by_kind}")
    print("    taken for speech: " + _shares(verdict.triggered))
    print("    kept from the engine: " + _shares(verdict.skipped))


def _shares(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in shares.items())


def main() -> None:
    parts = {"accuracy": accuracy, "cost": cost, "tune": tune}
    chosen = sys.argv[1:] or ["accuracy", "cost"]
    if unknown := set(chosen) - set(parts):
        raise SystemExit(f"no such part: {', '.join(sorted(unknown))}; one of {', '.join(parts)}")
    for name in chosen:
        parts[name]()


if __name__ == "__main__":
    main()
