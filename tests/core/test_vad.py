"""The engines: the numpy network against the published one, and calls that come and go."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.listening import SPEECH, probabilities, windows_of
from voicebridge import weights
from voicebridge.core.silero import SileroVad
from voicebridge.core.vad import WINDOW, EnergyVad, StateRows, Vad
from voicebridge.errors import ConfigError
from voicebridge.weights import neural_vad, silero_weights

GOLDEN = Path(__file__).parent / "silero_golden.npz"
MODEL = "SILERO_ONNX"
"""Names the file ``silero_vad_16k_op15.onnx`` of the wheel silero-vad 6.2.3."""


def read(path: Path) -> np.ndarray:
    audio: np.ndarray = soundfile.read(path, dtype="int16")[0]
    return audio


def noise(count: int, seed: int = 3) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((count, WINDOW)) * 3000
    return drawn.astype(np.int16)


@pytest.mark.parametrize("path", SPEECH, ids=lambda path: path.stem)
def test_it_says_what_onnxruntime_said(path: Path) -> None:
    golden = np.load(GOLDEN, allow_pickle=False)[path.stem]
    found = probabilities(neural_vad(), read(path))
    assert np.abs(found - golden).max() < 1e-5
    assert golden.max() > 0.9, "the clips hold speech"


def test_it_says_what_onnxruntime_says() -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    if MODEL not in os.environ:
        pytest.skip(f"onnxruntime is here, but {MODEL} does not name the ONNX file")
    from benchmarks.hearing.golden import reference

    recordings = {path.stem: read(path) for path in SPEECH}
    for name, expected in reference(Path(os.environ[MODEL]), recordings).items():
        found = probabilities(neural_vad(), recordings[name])
        assert np.abs(found - expected).max() < 1e-5


def test_many_calls_at_once_are_what_each_is_alone() -> None:
    vad = neural_vad()
    calls = [windows_of(read(path)) for path in SPEECH]
    alone = [probabilities(vad, read(path)) for path in SPEECH]
    # Each clip six times over, so that a batch is more than one group.
    rows = np.array([vad.open() for _ in range(6 * len(calls))], np.intp)
    for step in range(60):
        present = [k for k in range(len(rows)) if step < len(calls[k % len(calls)])]
        batch = np.stack([calls[k % len(calls)][step] for k in present])
        found = vad.probabilities(batch, rows[present])
        expected = [alone[k % len(calls)][step] for k in present]
        assert np.abs(found - expected).max() < 1e-5


@settings(max_examples=20, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(0, 9))
def test_a_peek_changes_nothing(keep: list[bool], seed: int) -> None:
    vad, again = neural_vad(), neural_vad()
    rows = np.array([vad.open() for _ in keep], np.intp)
    for _ in keep:
        again.open()
    first, second, third = (noise(len(keep), 3 * seed + k) for k in range(3))
    kept = np.array(keep)
    for engine in (vad, again):
        engine.probabilities(first, rows)
    vad.probabilities(second, rows, kept)
    if kept.any():
        again.probabilities(second[kept], rows[kept])
    after = vad.probabilities(third, rows)
    assert np.abs(after - again.probabilities(third, rows)).max() < 1e-6


@pytest.mark.parametrize("engine", [neural_vad, EnergyVad])
def test_a_row_given_again_remembers_nothing(engine: type[EnergyVad]) -> None:
    vad: Vad = engine()
    row = vad.open()
    fresh = vad.probabilities(noise(1), np.array([row]))
    for seed in range(5):
        vad.probabilities(noise(1, seed) // 30, np.array([row]))
    assert vad.probabilities(noise(1), np.array([row])) != pytest.approx(fresh, abs=1e-7)
    vad.close(row)
    assert vad.open() == row
    assert vad.probabilities(noise(1), np.array([row])) == pytest.approx(fresh, abs=1e-7)


def test_no_calls_no_answers() -> None:
    nobody = np.empty(0, np.intp)
    assert neural_vad().probabilities(np.empty((0, WINDOW), np.int16), nobody).shape == (0,)


def test_rows_grow_and_are_never_given_twice() -> None:
    rows = StateRows(np.array([1.0, 2.0], np.float32), capacity=2)
    given_out = [rows.open() for _ in range(9)]
    assert len(set(given_out)) == len(rows) == 9
    assert (rows.values[given_out] == [1.0, 2.0]).all()
    rows.close(given_out[4])
    with pytest.raises(KeyError):
        rows.close(given_out[4])
    assert rows.open() == given_out[4]


def test_growing_keeps_what_is_remembered() -> None:
    rows = StateRows(np.zeros(1, np.float32), capacity=1)
    first = np.array([rows.open()], np.intp)
    rows.store(first, np.array([[5.0]], np.float32), None)
    rows.open()
    assert rows.values[first[0], 0] == 5.0


def test_loud_noise_is_not_speech_and_silence_is_not_either() -> None:
    vad = neural_vad()
    row = np.array([vad.open()], np.intp)
    for level in (0, 300, 3000):
        hiss = np.random.default_rng(1).standard_normal((60, WINDOW)) * level
        found = [vad.probabilities(window[None].astype(np.int16), row)[0] for window in hiss]
        assert max(found) < 0.5


def test_the_energy_engine_hears_speech_over_a_steady_noise() -> None:
    hiss = np.random.default_rng(1).standard_normal(32_000) * 30
    speech = read(SPEECH[0])
    audio = np.concatenate([hiss, speech]).astype(np.int16)
    found = probabilities(EnergyVad(), audio)
    assert found[5:62].max() < 0.1
    assert np.mean(found[63:] > 0.5) > 0.6


def test_the_weights_are_shared_and_cannot_be_changed() -> None:
    assert silero_weights() is silero_weights()
    with pytest.raises(ValueError, match="read-only"):
        silero_weights().conv0[0, 0, 0] = 1.0


def test_the_notice_of_the_weights_lies_beside_them() -> None:
    data = Path(weights.__file__).parent / "data"
    assert "Silero Team" in (data / "silero_vad.LICENSE").read_text()
    assert (data / "silero_vad_16k.npz").stat().st_size < 1_000_000


@pytest.mark.parametrize("damage", ["gone", "garbage", "pickle", "shape"])
def test_damaged_weights_are_an_error_at_start(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "data" / "silero_vad_16k.npz"
    file.parent.mkdir()
    arrays = {name: np.asarray(getattr(silero_weights(), name)) for name in weights._SHAPES}
    if damage == "garbage":
        file.write_bytes(b"not an archive")
    elif damage == "pickle":
        arrays["conv0"] = np.array([{}], dtype=object)
        np.savez(file, allow_pickle=True, **arrays)
    elif damage == "shape":
        arrays["conv0"] = np.zeros(3, np.float32)
        np.savez(file, allow_pickle=False, **arrays)
    monkeypatch.setattr(weights, "files", lambda _: tmp_path)
    silero_weights.cache_clear()
    try:
        with pytest.raises(ConfigError, match="install voicebridge again"):
            silero_weights()
    finally:
        silero_weights.cache_clear()


def test_an_engine_is_a_vad() -> None:
    engines: list[Vad] = [SileroVad(silero_weights()), EnergyVad()]
    assert [engine.open() for engine in engines] == [0, 0]
