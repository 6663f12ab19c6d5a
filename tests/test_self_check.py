"""A cable fault must never become a machine fault; a machine fault must never pass for a cable's."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pdm_edge.features.operating import OperatingTracker
from pdm_edge.features.self_check import self_check
from pdm_edge.records import bad

RATE_HZ = 25600.0
Samples = npt.NDArray[np.float64]


def healthy(seed: int = 1, n: int = 25600) -> Samples:
    """A machine at 24.67 Hz in sensor noise, in g, in the 0.5 mg steps of a 16-bit sensor."""
    t = np.arange(n) / RATE_HZ
    random = np.random.default_rng(seed)
    x = 0.05 * np.sin(2 * np.pi * 24.67 * t) + 0.02 * np.sin(2 * np.pi * 100 * t) + _filtered(random, n)
    return np.asarray(np.round(x / 0.0005) * 0.0005)


def _filtered(random: np.random.Generator, n: int) -> Samples:
    """Noise of 0.1 g RMS, cut off at 10 kHz as an anti-alias filter would."""
    bins = np.fft.rfft(random.standard_normal(n))
    bins[np.fft.rfftfreq(n, 1 / RATE_HZ) > 10000] = 0
    return np.asarray(0.1 * np.fft.irfft(bins, n))


def found(x: Samples) -> dict[str, str]:
    return {finding.what: finding.level for finding in self_check(x, RATE_HZ, "g").findings}


def test_a_healthy_sensor_raises_no_doubt() -> None:
    for seed in range(20):
        assert found(healthy(seed)) == {}


def test_a_constant_value_is_stuck_and_bad() -> None:
    check = self_check(np.full(25600, 0.7), RATE_HZ, "g")
    assert [f.what for f in check.findings] == ["stuck"]
    assert check.quality.level == "bad"
    assert check.quality.reasons == ("stuck",)


def test_a_value_that_is_no_number_is_bad() -> None:
    x = healthy()
    x[17] = math.nan
    assert found(x) == {"nonfinite": "bad"}
    x[17] = math.inf
    assert found(x) == {"nonfinite": "bad"}


def test_an_open_cable_and_a_lost_bias_are_bad() -> None:
    quiet = 1e-6 * np.random.default_rng(1).standard_normal(25600)
    assert found(quiet) == {"open_circuit": "bad"}
    assert found(12.0 + quiet) == {"out_of_range": "bad"}
    assert found(1.0 + healthy()) == {}, "gravity is no fault"


def test_a_clipped_signal_is_uncertain_and_a_coarse_one_is_not() -> None:
    x = healthy()
    assert found(np.clip(x, -0.2, 0.2)) == {"clipped": "uncertain"}
    assert found(np.clip(x, -9.0, 0.2)) == {"clipped": "uncertain"}, "one side is enough"
    t = np.arange(25600) / RATE_HZ
    coarse = np.round(np.sin(2 * np.pi * 24.67 * t) * 10) / 10
    assert "clipped" not in found(coarse)


def test_a_signal_at_its_known_full_scale_is_clipped() -> None:
    x = healthy()
    x[100] = 2.0
    assert [f.what for f in self_check(x, RATE_HZ, "g", full_scale=2.0).findings] == ["clipped"]


@pytest.mark.parametrize("fill", [0.0, None])
def test_held_samples_are_a_gap(fill: float | None) -> None:
    x = healthy()
    x[5000:5060] = x[5000] if fill is None else fill
    assert found(x) == {"gap": "uncertain"}
    x[5000:20000] = x[5000]
    assert found(x)["gap"] == "bad"


def test_a_rocking_sensor_makes_a_ski_slope_and_a_slow_machine_does_not() -> None:
    told = 0
    for seed in range(40):
        drift = np.cumsum(np.random.default_rng(seed).standard_normal(25600)) * 0.01
        told += found(healthy() + drift).get("loose_mount") == "bad"
    assert told >= 36  # a random walk falls by 12 dB, standard error 3.4 dB, limit 7 dB: 93 %
    t = np.arange(25600) / RATE_HZ
    for speed_hz in (2.5, 3.0, 4.2, 8.0, 9.0, 12.0):
        # 10 mm/s at running speed, with two harmonics
        slow = sum(
            10e-3 / k * 2 * np.pi * speed_hz * k / 9.80665 * np.sin(2 * np.pi * speed_hz * k * t + k)
            for k in (1, 2, 3)
        )
        assert "loose_mount" not in found(healthy() + slow), speed_hz


def test_mains_hum_is_told_from_a_machine_at_nearly_the_same_speed() -> None:
    t = np.arange(25600) / RATE_HZ

    def odd(fundamental_hz: float) -> Samples:
        return np.asarray(sum(0.5 / k * np.sin(2 * np.pi * k * fundamental_hz * t + k) for k in (1, 3, 5, 7)))

    assert found(healthy() + odd(50.0))["mains"] == "bad"
    assert found(healthy() + odd(60.02))["mains"] == "bad"
    strong = 0.2 * np.sin(2 * np.pi * 24.67 * t)
    assert found(healthy() + strong + 0.2 * odd(50.0))["mains"] == "hint", "hum that spoils no value"
    assert "mains" not in found(healthy() + odd(49.3)), "an induction motor slips"
    unbalance = 0.5 * np.sin(2 * np.pi * 50.0 * t)
    assert "mains" not in found(healthy() + unbalance), "one line is no hum"
    looseness = sum(0.5 / k * np.sin(2 * np.pi * k * 50.0 * t + k) for k in range(1, 8))
    assert "mains" not in found(healthy() + looseness), "even harmonics are mechanical"


def test_noise_up_to_half_the_sample_rate_hints_at_a_missing_filter() -> None:
    x = np.random.default_rng(1).standard_normal(25600)
    check = self_check(x, RATE_HZ, "g")
    assert [(f.what, f.level) for f in check.findings] == [("aliasing", "hint")]
    assert check.quality.level == "good"


def test_one_bad_axis_marks_the_window_and_is_named() -> None:
    x = np.stack([healthy(1), np.zeros(25600), healthy(2)])
    check = self_check(x, RATE_HZ, "g", axes=("x", "y", "z"))
    assert [(f.axis, f.what) for f in check.findings] == [("y", "stuck")]
    assert "y: stuck" in str(check.findings[0])
    with pytest.raises(ValueError, match="2 axes"):
        self_check(x, RATE_HZ, "g", axes=("x", "y"))


def test_m_s2_and_g_are_judged_alike() -> None:
    for x in (healthy(), 1e-6 * healthy(), healthy() + 5.0):
        in_g = self_check(x, RATE_HZ, "g").findings
        in_m_s2 = self_check(x * 9.80665, RATE_HZ, "m_s2").findings
        assert [(f.what, f.level) for f in in_g] == [(f.what, f.level) for f in in_m_s2]


@pytest.mark.recordings
def test_real_recordings_are_good_but_for_the_second_in_which_the_baseline_jumps(recordings: Path) -> None:
    from pdm_edge.acquire.recordings import load_recording

    files = [
        *((path, None, "g", "*DE_time", 1.0) for path in sorted((recordings / "cwru").glob("*.mat"))),
        *((path, None, None, "gs", 1.0) for path in sorted((recordings / "mfpt").glob("*.mat"))),
        *(
            (path, 20000.0, "m_s2", "Data", 1 / 0.01022)
            for path in sorted((recordings / "uestc").glob("*.mat"))
        ),
    ]
    assert len(files) > 10
    doubts = {}
    for path, rate_hz, unit, variable, scale in files:
        if rate_hz is None and unit == "g":
            rate_hz = 48000.0 if "48k" in path.name else 12000.0
        record = load_recording(path, sample_rate_hz=rate_hz, unit=unit, variable=variable, scale=scale)
        size = round(record.sample_rate_hz)
        for start in range(0, record.samples.shape[1] - size + 1, size):
            check = self_check(record.samples[:, start : start + size], record.sample_rate_hz, record.unit)
            if check.quality.level != "good":
                doubts[path.name, start // size] = check.quality
    # In its fifth second the mean of this recording jumps by 0.6 g for a tenth of a second.
    assert doubts == {("O_1000_1.mat", 4): bad("loose_mount")}


def test_without_a_speed_only_standstill_is_told() -> None:
    tracker = OperatingTracker(stopped_below_mm_s=0.2)
    states = [str(tracker.observe(velocity_mm_s=v)) for v in (1.0, 0.1, 0.1, 1.0, 1.1)]
    assert states == ["running", "stopped", "stopped", "transient", "running"]
    assert str(OperatingTracker().observe(velocity_mm_s=0.0)) == "running"


def test_a_run_up_is_transient_and_steady_running_has_its_speed_bin() -> None:
    tracker = OperatingTracker(rated_speed_rpm=1480)
    speeds = (0.0, 400.0, 900.0, 1400.0, 1475.0, 1478.0, 1350.0, 1345.0, 0.0)
    states = [str(tracker.observe(speed_rpm=s)) for s in speeds]
    assert states == [
        "stopped",
        "transient",
        "transient",
        "transient",
        "transient",
        "running 1480 rpm",
        "transient",
        "running 1332 rpm",
        "stopped",
    ]


def test_a_measured_speed_outweighs_the_vibration() -> None:
    tracker = OperatingTracker(rated_speed_rpm=1480, stopped_below_mm_s=0.2)
    assert str(tracker.observe(velocity_mm_s=0.05, speed_rpm=1480.0)) == "running 1480 rpm"
    assert str(tracker.observe(velocity_mm_s=5.0, speed_rpm=3.0)) == "stopped"


def test_bins_without_a_rated_speed_are_50_rpm_wide() -> None:
    assert OperatingTracker().bin_rpm(1480.0) == 1475.0
    assert OperatingTracker().bin_rpm(20.0) == 25.0
