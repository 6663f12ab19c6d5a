"""Windows hold no seam, lose nothing silently, and carry the time of their first sample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdm_edge.acquire.windows import Windower
from pdm_edge.records import GOOD, Gap, Quality, Stamp, Waveform, uncertain


def block(first: int, n: int, *, rate_hz: float = 100.0, quality: Quality = GOOD) -> Waveform:
    samples = np.arange(first, first + n, dtype=np.float32)[None, :]
    ns = round(first / rate_hz * 1e9)
    return Waveform("s", samples, rate_hz, "g", ("x",), Stamp(ns, ns, "boot", True), first, quality)


def windows(out: list[Waveform | Gap]) -> list[Waveform]:
    return [item for item in out if isinstance(item, Waveform)]


@settings(max_examples=60)
@given(st.lists(st.integers(1, 37), min_size=1, max_size=60), st.sampled_from([0.0, 0.25, 0.5]))
def test_windows_are_the_stream_however_it_was_cut(sizes: list[int], overlap: float) -> None:
    windower, first, out = Windower(0.2, overlap=overlap), 0, []
    for size in sizes:
        out.extend(windower.feed(block(first, size)))
        first += size
    hop = round(20 * (1 - overlap))
    starts = list(range(0, first - 19, hop))
    assert [w.first_sample for w in windows(out)] == starts
    assert not any(isinstance(item, Gap) for item in out)
    for window, start in zip(windows(out), starts, strict=True):
        np.testing.assert_array_equal(window.samples[0], np.arange(start, start + 20))
        assert window.stamp.utc_ns == pytest.approx(start * 10_000_000, abs=100)


def test_no_window_spans_a_seam_and_what_is_given_up_is_told() -> None:
    windower = Windower(0.2)
    assert windower.feed(block(0, 15)) == []
    out = windower.feed(block(100, 45))
    gap, *rest = out
    assert isinstance(gap, Gap)
    assert (gap.lost, gap.what) == (15, "samples")
    assert "missing samples" in gap.why
    assert [w.first_sample for w in windows(rest)] == [100, 120]


def test_a_change_of_rate_starts_a_new_window() -> None:
    windower = Windower(0.2)
    windower.feed(block(0, 10))
    (gap,) = windower.feed(block(10, 10, rate_hz=200.0))
    assert isinstance(gap, Gap)
    assert "rate" in gap.why
    (window,) = windower.feed(block(20, 30, rate_hz=200.0))
    assert window.samples.shape == (1, 40) if isinstance(window, Waveform) else False


def test_a_window_is_as_good_as_its_worst_part() -> None:
    windower = Windower(0.2)
    windower.feed(block(0, 10))
    out = windower.feed(block(10, 15, quality=uncertain("clipped")))
    out += windower.feed(block(25, 40))
    assert [w.quality.reasons for w in windows(out)] == [("clipped",), ("clipped",), ()]


def test_a_gap_before_a_window_is_none_within_it() -> None:
    (window,) = windows(Windower(0.2).feed(block(50, 20, quality=uncertain("gap"))))
    assert window.quality == GOOD


@pytest.mark.parametrize(("window_s", "overlap"), [(0.0, 0.0), (-1.0, 0.0), (1.0, 1.0), (1.0, -0.1)])
def test_windows_that_cannot_be_are_refused(window_s: float, overlap: float) -> None:
    with pytest.raises(ValueError, match=r"window_s|overlap"):
        Windower(window_s, overlap=overlap)
