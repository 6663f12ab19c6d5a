"""Speed from a tachometer and from the spectrum; vibration by angle."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pdm_edge import features as f

RATE_HZ = 10_000.0
Samples = npt.NDArray[np.float64]


def run_up(seconds_s: float = 8.0) -> tuple[Samples, Samples]:
    """Times, and turns of a shaft that speeds up from 10 to 30 turns a second."""
    t = np.arange(round(seconds_s * RATE_HZ)) / RATE_HZ
    return t, np.asarray(10 * t + 0.5 * 20 / seconds_s * t * t)


def pulses_of(turns: Samples, t: Samples) -> Samples:
    return np.interp(np.arange(1, math.floor(turns[-1])), turns, t)


def test_pulses_are_placed_between_the_samples() -> None:
    t = np.arange(20_000) / RATE_HZ
    shaft_hz = 23.7
    signal = 2.5 + 2.5 * np.tanh(20 * np.sin(2 * np.pi * shaft_hz * t))
    noisy = signal + 0.05 * np.random.default_rng(1).standard_normal(len(t))
    pulses = f.tacho_pulses(noisy, RATE_HZ)
    assert len(pulses) == pytest.approx(2 * shaft_hz, abs=1)
    np.testing.assert_allclose(np.diff(pulses), 1 / shaft_hz, atol=0.3 / RATE_HZ)


def test_chatter_at_the_edge_gives_one_pulse() -> None:
    signal = np.array([0.0] * 50 + [5.0, 2.0, 5.0] + [5.0] * 50 + [0.0] * 50 + [5.0] * 50)
    assert len(f.tacho_pulses(signal, RATE_HZ)) == 2


def test_a_dead_tachometer_is_refused() -> None:
    with pytest.raises(ValueError, match="does not swing"):
        f.tacho_pulses(np.full(100, 5.0), RATE_HZ)


def test_orders_of_a_run_up_stay_sharp_where_the_spectrum_smears() -> None:
    t, turns = run_up()
    x = 3.0 * math.sqrt(2) * np.sin(2 * np.pi * 4 * turns)  # fourth order, RMS 3
    by_angle = f.order_resample(x, RATE_HZ, pulses_of(turns, t))
    orders, amplitude = f.amplitude_spectrum(by_angle, 256.0)
    assert orders[np.argmax(amplitude)] == pytest.approx(4.0, abs=0.01)
    assert f.rms(by_angle) == pytest.approx(3.0, rel=0.002)
    assert amplitude.max() == pytest.approx(3.0, rel=0.03)  # between two lines
    _, smeared = f.amplitude_spectrum(x, RATE_HZ)
    assert smeared.max() < 0.6


def test_high_orders_are_filtered_and_not_folded_down() -> None:
    t, turns = run_up()
    x = np.sin(2 * np.pi * 100 * turns)  # order 100, above half of 64 a turn
    by_angle = f.order_resample(x, RATE_HZ, pulses_of(turns, t), samples_per_turn=64)
    assert f.rms(by_angle) < 0.02


def test_several_pulses_a_turn_and_several_axes() -> None:
    t, turns = run_up()
    x = np.stack([np.sin(2 * np.pi * turns), np.cos(2 * np.pi * turns)])
    times = np.interp(np.arange(4, 4 * math.floor(turns[-1])) / 4, turns, t)
    by_angle = f.order_resample(x, RATE_HZ, times, pulses_per_turn=4, samples_per_turn=128)
    assert by_angle.shape[0] == 2
    assert by_angle.shape[1] % 128 == 0
    np.testing.assert_allclose(by_angle[0] ** 2 + by_angle[1] ** 2, 1.0, atol=0.02)


def test_the_average_keeps_what_repeats_and_lowers_the_rest_by_the_root_of_the_turns() -> None:
    t, turns = run_up()
    gear = np.sin(2 * np.pi * 17 * turns)
    noise = np.random.default_rng(1).standard_normal(len(t))
    mean, n_turns = f.time_synchronous_average(gear + noise, RATE_HZ, pulses_of(turns, t))
    assert n_turns >= 150
    ideal = np.sin(2 * np.pi * 17 * np.arange(256) / 256)
    residual = float(f.rms(mean - ideal))
    # White noise up to 128 orders of 10 to 30 Hz is about half of all that noise.
    assert residual < 1.5 / math.sqrt(n_turns)
    assert residual > 0.2 / math.sqrt(n_turns)


@pytest.mark.parametrize(
    ("pulses", "text"), [([0.1], "no whole turn"), ([0.2, 0.1], "rising"), ([900.0, 901.0], "no whole turn")]
)
def test_pulses_that_make_no_turn_are_refused(pulses: list[float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        f.order_resample(np.zeros(1000), RATE_HZ, pulses)


@pytest.mark.parametrize("shaft_hz", [9.3, 16.67, 24.7, 49.3])
def test_speed_is_read_from_the_lines_of_a_shaft(shaft_hz: float) -> None:
    t = np.arange(40_000) / RATE_HZ
    amplitudes = (1.0, 0.5, 0.3, 0.2, 0.1)
    x = sum(a * np.sin(2 * np.pi * k * shaft_hz * t + k) for k, a in enumerate(amplitudes, start=1))
    x = x + 0.5 * np.random.default_rng(1).standard_normal(len(t))
    estimate = f.estimate_speed(x, RATE_HZ)
    assert estimate.speed_hz == pytest.approx(shaft_hz, rel=0.002)
    assert estimate.confidence > 0.3


def test_noise_has_no_speed_that_one_could_rely_on() -> None:
    for seed in range(10):
        x = np.random.default_rng(seed).standard_normal(40_000)
        assert f.estimate_speed(x, RATE_HZ).confidence < 0.3


def test_a_speed_that_the_window_cannot_tell_is_refused() -> None:
    with pytest.raises(ValueError, match=r"window of at least 0\.8 s"):
        f.estimate_speed(np.zeros(2000), RATE_HZ)
    with pytest.raises(ValueError, match="no speed can be told"):
        f.estimate_speed(np.zeros(20000), RATE_HZ, (30.0, 20.0))


@pytest.mark.recordings
def test_what_the_spectrum_says_with_confidence_is_the_speed_on_the_label(recordings: Path) -> None:
    from scipy.io import loadmat

    sure = 0
    for path in sorted((recordings / "cwru").glob("*.mat")):
        content = loadmat(path)
        rate_hz = 48000.0 if "48k" in path.name else 12000.0
        rpm = next((float(v.item()) for k, v in content.items() if k.endswith("RPM")), 1796.0)
        key = next(k for k in content if k.endswith("DE_time"))
        x = content[key].ravel()[: round(5 * rate_hz)]
        wide = f.estimate_speed(x, rate_hz)
        assert wide.speed_hz == pytest.approx(rpm / 60, rel=0.003), path.name
        narrow = f.estimate_speed(x, rate_hz, (27.0, 33.0))
        assert narrow.speed_hz == pytest.approx(rpm / 60, rel=0.003), path.name
        sure += narrow.confidence > 0.5
    assert sure == 5
