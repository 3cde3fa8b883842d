from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicebridge.core.resample import RATES, Resampler, ResamplerBank
from voicebridge.errors import AudioError

PAIRS = list(itertools.product(RATES, RATES))


def frames(seed: int, rows: int, samples: int) -> np.ndarray[tuple[int, int], np.dtype[np.int16]]:
    generator = np.random.default_rng(seed)
    return generator.integers(-32768, 32768, (rows, samples)).astype("<i2")


@pytest.mark.parametrize(("from_rate", "to_rate"), PAIRS)
@pytest.mark.parametrize("rows", [1, 8, 33])
def test_each_row_is_bit_for_bit_a_stream_of_its_own(
    from_rate: int, to_rate: int, rows: int
) -> None:
    bank = ResamplerBank(from_rate, to_rate, rows)
    singles = [Resampler(from_rate, to_rate) for _ in range(rows)]
    for step, milliseconds in enumerate((20, 60, 20, 40)):
        chunk = frames(step, rows, from_rate * milliseconds // 1000)
        out = bank.process(chunk)
        for row, single in enumerate(singles):
            assert out[row].tobytes() == single.process(chunk[row].tobytes())


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(PAIRS),
    st.lists(st.tuples(st.sets(st.integers(0, 4)), st.sets(st.integers(0, 4))), max_size=8),
)
def test_streams_join_pause_and_leave_at_any_chunk(
    pair: tuple[int, int], steps: list[tuple[set[int], set[int]]]
) -> None:
    from_rate, to_rate = pair
    bank = ResamplerBank(from_rate, to_rate, 5)
    singles = [Resampler(from_rate, to_rate) for _ in range(5)]
    for step, (present, new) in enumerate(steps):
        for row in new:
            bank.clear(row)
            singles[row] = Resampler(from_rate, to_rate)
        rows = np.array(sorted(present), dtype=np.intp)
        chunk = frames(step, rows.size, from_rate // 50)
        out = bank.process(chunk, rows)
        for index, row in enumerate(rows):
            assert out[index].tobytes() == singles[row].process(chunk[index].tobytes())


@pytest.mark.parametrize(("from_rate", "to_rate"), PAIRS)
def test_20_ms_are_whole_blocks_at_every_pair(from_rate: int, to_rate: int) -> None:
    assert from_rate // 50 % ResamplerBank(from_rate, to_rate, 1).block == 0


def test_what_does_not_fit_is_refused() -> None:
    bank = ResamplerBank(16_000, 24_000, 2)
    for wrong in (frames(0, 2, 321), frames(0, 1, 320), frames(0, 2, 320)[0]):
        with pytest.raises(AudioError):
            bank.process(wrong)
    with pytest.raises(AudioError):
        ResamplerBank(16_000, 11_025, 2)
    assert bank.process(frames(0, 2, 0)).shape == (2, 0)
