"""Criteria beside the score: overall level, impacts in the mean of many windows, and their limits."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

import pdm_edge as pdm
from pdm_edge.acquire.simulate import VibrationSimulator
from pdm_edge.detect.beside import Beside
from pdm_edge.detect.bundle import Manifest
from pdm_edge.detect.commission import commission
from pdm_edge.detect.drift import MEMORY, WEIGHT
from pdm_edge.detect.thresholds import MONTH_S, correlation_time, mean_limit
from pdm_edge.records import FeatureSchema, FeatureVector, Stamp

NAMES: Final = (
    "de/x/rms",
    "de/x/kurtosis",
    *(f"de/x/band_rms_{i}_{i + 1}hz" for i in range(6)),
    "de/x/envelope_bpfo_level",
)
SCHEMA = FeatureSchema(NAMES, ("g", "1", *("g",) * 6, "db"))
RMS, KURTOSIS, LINE = 0, 1, 8
FAINT: Final = 0.03
"""Severity of a simulated fault that no single window of 0.25 s shows."""
Rows = npt.NDArray[np.float32]


def healthy(n: int, seed: int = 0) -> Rows:
    random = np.random.default_rng(seed)
    x = 0.2 * np.exp(0.1 * random.standard_normal((n, len(NAMES))))
    x[:, KURTOSIS] = 3.0 * np.exp(0.05 * random.standard_normal(n))
    x[:, LINE] = 5 + 1.5 * random.standard_normal(n)
    return x.astype(np.float32)


def vector(row: Rows, state: str = "running") -> FeatureVector:
    return FeatureVector("pump", row, SCHEMA, Stamp(0, 0, "boot", True), 1.0, state)


def learned(rows: Rows) -> Manifest:
    return commission([vector(row) for row in rows], name="pump")[1]


def shown(beside: Beside, rows: Rows, score: float = 0.1) -> Beside:
    for row in rows:
        beside.observe(vector(row), score)
    return beside


# overall level


def test_twice_its_baseline_is_the_limit_of_an_overall_level_whatever_the_score_says() -> None:
    manifest = learned(healthy(200))
    baseline = manifest.baseline[RMS]
    row = healthy(1, seed=5)
    for times, severity in ((1.0, 0.5), (2.0, 1.0), (4.0, 2.0)):
        row[0, RMS] = times * baseline
        assert shown(Beside(manifest), row).severity(alert_at=1.0) == pytest.approx(severity, rel=1e-3)
    (found,) = shown(Beside(manifest), row).findings()
    assert (found.what, found.unit) == ("overall vibration (RMS) at de x", "times its baseline")
    assert found.value == pytest.approx(4.0, rel=1e-3)
    assert found.limit == 2.0


def test_a_machine_that_doubles_by_itself_is_held_against_what_it_does() -> None:
    rows = healthy(200)
    rows[100:110, RMS] *= 3.0  # three of five and more: a load it has while healthy
    limits = learned(rows).level_limits
    assert 3.0 < limits["de/x/rms"] < 6.0
    assert learned(healthy(200)).level_limits == {"de/x/rms": 2.0}


def test_what_has_no_score_has_no_baseline_either() -> None:
    row = healthy(1)
    row[0, RMS] *= 10
    beside = shown(Beside(learned(healthy(200))), row, score=math.nan)
    assert math.isnan(beside.severity(alert_at=1.0))
    assert beside.findings() == ()


def test_a_bundle_without_limits_is_judged_by_its_score_alone() -> None:
    manifest = msgspec.structs.replace(learned(healthy(200)), level_limits={}, mean_limits={})
    beside = shown(Beside(manifest), 10 * healthy(MEMORY + 10, seed=3))
    assert math.isnan(beside.severity(alert_at=1.0))


# impacts in the mean


@pytest.mark.parametrize(
    ("column", "words"), [(KURTOSIS, "kurtosis"), (LINE, "dB more than while it was learned")]
)
def test_impacts_that_no_single_window_shows_are_told_in_the_mean_and_are_never_an_alarm(
    column: int, words: str
) -> None:
    manifest = learned(healthy(200))
    rows = healthy(3 * MEMORY, seed=4)
    if column == LINE:
        rows[:, LINE] += 2.5
    else:
        rows[:, KURTOSIS] *= 1.25
    beside = shown(Beside(manifest), rows)
    assert beside.severity(alert_at=1.0) == 1.0
    assert any(words in item.what for item in beside.findings() if item.unit == "mean")
    parts = [item.what for item in beside.findings() if item.unit == "db"]
    assert parts == (["outer race line (BPFO) at de/x"] if column == LINE else [])
    far = healthy(2 * MEMORY, seed=6)
    far[:, LINE] += 40
    assert shown(beside, far).severity(alert_at=1.5) == 1.5


def test_more_load_is_no_impact() -> None:
    rows = healthy(4 * MEMORY, seed=8)
    rows[:, [i for i in range(len(NAMES)) if i not in (KURTOSIS, LINE)]] *= 1.6
    beside = shown(Beside(learned(healthy(200))), rows)
    assert beside.severity(alert_at=1.0) < 1.0
    assert all(item.unit == "sigma" for item in beside.findings())  # told as slow change


def test_nothing_is_told_before_the_memory_is_filled() -> None:
    rows = healthy(MEMORY - 1, seed=8)
    rows[:, LINE] += 20
    beside = shown(Beside(learned(healthy(200))), rows)
    assert beside.findings() == ()
    assert beside.severity(alert_at=1.0) < 1.0


def test_correlation_time_is_that_of_an_autoregressive_process() -> None:
    random = np.random.default_rng(2)
    for share in (0.0, 0.5, 0.9):
        x = np.zeros(20_000)
        noise = random.standard_normal(x.size)
        for i in range(1, x.size):
            x[i] = share * x[i - 1] + noise[i]
        assert correlation_time(x) == pytest.approx((1 + share) / (1 - share), rel=0.15)
    assert correlation_time(np.ones(50)) == 1.0


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_a_moving_mean_passes_its_limit_as_often_as_stated(share: float) -> None:
    """Stated: one in 20 looks. A look is a memory of windows; crossings come in groups, each is one."""
    random, looks, crossed = np.random.default_rng(3), 0, 0
    per_month = MONTH_S * WEIGHT / 20
    for _ in range(20):
        x = np.zeros(300 + 5000)
        noise = random.standard_normal(x.size) * math.sqrt(1 - share**2)
        for i in range(1, x.size):
            x[i] = share * x[i - 1] + noise[i]
        known = x[:300]
        limit = mean_limit(known, weight=WEIGHT, window_s=1.0, per_month=per_month) * known.std()
        mean, inside = 0.0, 0
        for i, value in enumerate(x[300:]):
            mean += max(WEIGHT, 1 / (i + 1)) * (value - float(np.median(known)) - mean)
            inside += 1
            if i >= MEMORY and inside >= MEMORY:
                looks += 1
                inside = 0
                crossed += mean >= limit
    assert crossed / looks < 2 * 1 / 20


def test_a_limit_needs_values_and_a_rate() -> None:
    for values, per_month in ((np.zeros(0), 1.0), (np.ones(5), 0.0)):
        with pytest.raises(ValueError, match="a month"):
            mean_limit(values, weight=WEIGHT, window_s=1.0, per_month=per_month)


# from the waveform to the words


def machine(folder: Path) -> pdm.Machine:
    raw: dict[str, object] = {
        "id": "pump-1",
        "window_s": 0.25,
        "rated_speed_rpm": 1480,
        "sensor": [{"id": "drive-end", "source": "host://", "bearing": {"designation": "6205"}}],
        "detect": {"learn_windows": 150},
    }
    return pdm.Machine(pdm.parse_machine(raw, where="test"), models=folder)


def told(machine: pdm.Machine, severities: list[float], gain: float = 1.0) -> list[pdm.Advisory]:
    """What a machine says while its bearing is in such condition, window after window."""
    clock = pdm.FixedClock()
    pump = VibrationSimulator(sample_rate_hz=12800.0, strike_hz=88.4, seed=7)
    found: list[pdm.Advisory] = []
    for i, severity in enumerate(severities):
        pump.severity = severity
        loud = gain if i >= 200 else 1.0
        samples = pump.block(3200)[None, :] * np.float32(loud)
        wave = pdm.Waveform("drive-end", samples, 12800.0, "g", ("x",), clock.stamp(), 3200 * i)
        found += [r for r in machine.take(wave) if isinstance(r, pdm.Advisory)]
        clock.advance(0.25)
    return found


def test_a_fault_below_the_machines_own_vibration_becomes_an_alert_without_hurry(tmp_path: Path) -> None:
    severities = [0.0] * 250 + [FAINT] * 150
    learned_now, alert = told(machine(tmp_path), severities)
    assert learned_now.state == "normal"
    assert (alert.state, alert.previous) == ("alert", "normal")
    assert alert.score is not None
    assert alert.score < 1.0
    assert "outer race line (BPFO) at drive-end/x" in alert.headline
    assert "in the mean of 50 windows" in alert.headline
    assert "above the limit" not in alert.headline
    assert "bearing damage" in alert.advice
    assert "next round" in alert.advice


def test_what_could_wait_is_told_again_when_single_windows_pass_a_limit(tmp_path: Path) -> None:
    severities = [0.0] * 250 + [FAINT] * 150 + [2 * FAINT] * 20
    advisories = told(machine(tmp_path), severities)
    assert [a.state for a in advisories[:3]] == ["normal", "alert", "alert"]
    again = advisories[2]
    assert again.previous == "alert"
    assert "within days" in again.advice


def test_the_same_machine_stays_quiet_while_healthy(tmp_path: Path) -> None:
    assert [a.state for a in told(machine(tmp_path), [0.0] * 600)] == ["normal"]


def test_a_machine_that_is_twice_as_loud_says_so(tmp_path: Path) -> None:
    advisories = told(machine(tmp_path), [0.0] * 220, gain=2.3)
    assert advisories[-1].state in ("alert", "alarm")
    assert "overall vibration (RMS) at drive-end x is 2." in advisories[-1].headline
