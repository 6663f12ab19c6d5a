"""Device ticks on the gateway's clocks: jitter, drift, stalls, wraps, restarts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from pdm_edge.acquire.ticks import TickClock
from pdm_edge.records import Stamp

START_NS = 10**12
FRAME_S = 0.01


def arrival(ns: int) -> Stamp:
    return Stamp(ns, ns, "boot", True)


def errors_ms(
    clock: TickClock,
    *,
    frames: int = 6000,
    drift_ppm: float = 0.0,
    jitter_s: float = 0.008,
    stall_at: int = -1,
    first_tick: int = 0,
) -> npt.NDArray[np.float64]:
    """Stamp less true time, of frames that arrive late at random, by up to three seconds at a stall."""
    random = np.random.default_rng(3)
    errors = []
    for i in range(frames):
        true_ns = START_NS + round(i * FRAME_S * 1e9)
        tick = first_tick + round(i * FRAME_S * (1 - drift_ppm * 1e-6) * 1e6)
        late_s = random.exponential(jitter_s)
        if 0 <= i - stall_at < 300 and stall_at >= 0:
            late_s += 3.0 - (i - stall_at) * FRAME_S
        stamp = clock.stamp(tick % 2**32, arrival(true_ns + round(late_s * 1e9)))
        errors.append((stamp.monotonic_ns - true_ns) / 1e6)
    return np.array(errors)


@pytest.mark.parametrize("drift_ppm", [0.0, 80.0, -80.0, 10_000.0, -10_000.0])
def test_stamps_follow_the_tick_to_a_tenth_of_a_millisecond_whatever_the_drift(drift_ppm: float) -> None:
    clock = TickClock(1_000_000)
    errors = errors_ms(clock, drift_ppm=drift_ppm)[1000:]
    assert np.abs(errors).max() < 0.5
    assert errors.std() < 0.1
    assert clock.restarts == 0
    assert clock.drift_ppm == pytest.approx(drift_ppm / (1 - drift_ppm * 1e-6), abs=5.0)


def test_the_jitter_of_the_line_is_larger_than_what_is_left_of_it() -> None:
    left = errors_ms(TickClock(1_000_000))[1000:]
    assert left.std() < 8.0 / 100


def test_a_gateway_that_stood_still_for_three_seconds_is_no_restart_and_moves_no_stamp() -> None:
    clock = TickClock(1_000_000)
    errors = errors_ms(clock, stall_at=3000)[1000:]
    assert np.abs(errors).max() < 0.5
    assert clock.restarts == 0


def test_the_tick_may_wrap() -> None:
    clock = TickClock(1_000_000)
    errors = errors_ms(clock, first_tick=2**32 - 20_000_000)[1000:]
    assert np.abs(errors).max() < 0.5
    assert clock.restarts == 0


@pytest.mark.parametrize("reached", [60_000_000, 2**31 + 60_000_000])
def test_a_tick_that_starts_anew_is_noticed_on_either_side_of_half_a_wrap(reached: int) -> None:
    clock = TickClock(1_000_000)
    for i in range(100):
        clock.stamp(reached + i * 10_000, arrival(START_NS + i * 10_000_000))
    assert clock.restarts == 0
    later_ns = START_NS + 2_000_000_000
    assert clock.stamp(0, arrival(later_ns)).monotonic_ns == later_ns
    assert clock.restarts == 1
    assert clock.drift_ppm is None


def test_a_frame_sent_before_another_may_carry_an_older_tick() -> None:
    clock = TickClock(1_000_000)
    for i in range(10):
        base = 1_000_000 + i * 10_000
        clock.stamp(base, arrival(START_NS + i * 10_000_000))
        stamp = clock.stamp(base - 5_000, arrival(START_NS + i * 10_000_000))
        assert stamp.monotonic_ns == START_NS + i * 10_000_000 - 5_000_000
    assert clock.restarts == 0
