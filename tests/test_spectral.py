"""Spectral shape, octaves, cepstrum, integration: laws, and agreement with scipy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.signal
import scipy.stats

from pdm_edge import features as f

RATE_HZ = 25600.0
Samples = npt.NDArray[np.float64]


def sine(rms: float, frequency_hz: float, n: int = 25600) -> Samples:
    return np.asarray(rms * math.sqrt(2) * np.sin(2 * np.pi * frequency_hz * np.arange(n) / RATE_HZ))


def noise(n: int = 25600, seed: int = 1) -> Samples:
    return np.random.default_rng(seed).standard_normal(n)


def test_factors_of_a_sine_and_of_gaussian_noise() -> None:
    wave = sine(1.0, 100.0)
    assert f.impulse_factor(wave) == pytest.approx(math.pi / 2, rel=1e-3)
    assert f.shape_factor(wave) == pytest.approx(math.pi / (2 * math.sqrt(2)), rel=1e-3)
    root = np.mean(np.sqrt(np.abs(np.sin(np.linspace(0, 2 * np.pi, 1_000_001)))))
    assert f.clearance_factor(wave) == pytest.approx(1 / root**2, rel=3e-3)
    assert f.shape_factor(noise(1_000_000)) == pytest.approx(math.sqrt(math.pi / 2), rel=2e-3)


def test_moments_agree_with_scipy() -> None:
    x = np.random.default_rng(3).gamma(2.0, size=(3, 5000))
    np.testing.assert_allclose(f.kurtosis(x), scipy.stats.kurtosis(x, axis=-1, fisher=False))
    np.testing.assert_allclose(f.skewness(x), scipy.stats.skew(x, axis=-1))


def test_psd_agrees_with_scipy_welch() -> None:
    x = noise(100_000) + sine(1.0, 777.0, 100_000)
    frequencies_hz, density = f.psd(x, RATE_HZ)
    there_hz, there = scipy.signal.welch(x, RATE_HZ, "hann", nperseg=4096, detrend="constant")
    np.testing.assert_allclose(frequencies_hz, there_hz)
    np.testing.assert_allclose(density, there, rtol=1e-9)


def test_envelope_spectrum_agrees_with_filter_and_hilbert_transform() -> None:
    t = np.arange(25600) / RATE_HZ
    x = (1 + 0.6 * np.cos(2 * np.pi * 87.0 * t)) * np.cos(2 * np.pi * 4000.0 * t) + 0.05 * noise()
    frequencies_hz, amplitude = f.envelope_spectrum(x, RATE_HZ, (3000.0, 5000.0))
    sos = scipy.signal.butter(6, [3000, 5000], "bandpass", fs=RATE_HZ, output="sos")
    envelope = np.abs(scipy.signal.hilbert(scipy.signal.sosfiltfilt(sos, x)))
    there_hz, there = f.amplitude_spectrum(envelope, RATE_HZ)
    ours = amplitude[np.argmin(np.abs(frequencies_hz - 87.0))]
    assert ours == pytest.approx(there[np.argmin(np.abs(there_hz - 87.0))], rel=0.02)


def test_shape_of_a_tone_and_of_white_noise() -> None:
    tone, white = sine(1.0, 3000.0), noise(200_000)
    assert f.spectral_centroid(tone, RATE_HZ) == pytest.approx(3000.0, rel=1e-6)
    assert f.spectral_centroid(white, RATE_HZ) == pytest.approx(RATE_HZ / 4, rel=0.01)
    assert f.spectral_flatness(tone, RATE_HZ) < 1e-6
    assert f.spectral_flatness(white, RATE_HZ) == pytest.approx(math.exp(-np.euler_gamma), rel=0.02)
    assert f.spectral_entropy(tone, RATE_HZ) < 0.15
    assert f.spectral_entropy(white, RATE_HZ) == pytest.approx(1.0, abs=0.05)
    # A uniform distribution has kurtosis 9 / 5.
    assert f.spectral_kurtosis(white, RATE_HZ) == pytest.approx(1.8, rel=0.02)


def test_shape_does_not_depend_on_scale_and_silence_has_none() -> None:
    x = np.stack([noise(), noise(seed=2)])
    for function in (f.spectral_centroid, f.spectral_kurtosis, f.spectral_entropy, f.spectral_flatness):
        value = function(x, RATE_HZ)
        assert value.shape == (2,)
        np.testing.assert_allclose(function(7 * x + 3, RATE_HZ), value, rtol=1e-9)
        assert np.isnan(function(np.zeros(1000), RATE_HZ)) or function(np.zeros(1000), RATE_HZ) == 0


def test_octave_bands_have_the_centres_of_iec_61260_and_lose_no_energy() -> None:
    thirds = f.octave_bands_hz(20.0, 11000.0, 3)
    centres = [math.sqrt(a * b) for a, b in thirds]
    nominal = [25, 31.5, 40, 50, 63, 80, 100, 125, 160, 200, 250, 315, 400, 500, 630, 800, 1000]
    np.testing.assert_allclose(centres[: len(nominal)], nominal, rtol=0.02)
    assert len(f.octave_bands_hz(40.0, 12000.0)) == 8
    for (_, upper), (lower, _) in itertools.pairwise(thirds):
        assert upper == lower
    x = noise()
    parts = f.band_rms(x, RATE_HZ, thirds)
    whole = f.band_rms(x, RATE_HZ, [(thirds[0][0], thirds[-1][1])])
    assert np.sqrt(np.sum(parts**2)) == pytest.approx(float(whole[0]))
    with pytest.raises(ValueError, match="no octave bands"):
        f.octave_bands_hz(100.0, 50.0)


def test_a_family_of_lines_gathers_in_one_peak_of_the_cepstrum() -> None:
    t = np.arange(25600) / RATE_HZ
    x = sum(np.cos(2 * np.pi * (2000 + 40 * k) * t + k * k) for k in range(-12, 13)) + 0.1 * noise()
    quefrency_s, value = f.cepstrum(x, RATE_HZ)
    late = quefrency_s > 0.01
    assert quefrency_s[late][np.argmax(value[late])] == pytest.approx(1 / 40, abs=2e-4)


@pytest.mark.parametrize("frequency_hz", [20.0, 50.0, 159.155, 900.0])
def test_integration_gives_amplitude_and_phase_of_a_sine(frequency_hz: float) -> None:
    t = np.arange(51200) / RATE_HZ
    omega = 2 * math.pi * frequency_hz
    acceleration = np.sin(omega * t)
    inside = slice(10_000, 41_000)
    filtered = 1 / (1 + (10.0 / frequency_hz) ** 8)
    velocity = f.integrate(acceleration, RATE_HZ, "mm_s")
    expected = -np.cos(omega * t) * 9806.65 / omega * filtered
    np.testing.assert_allclose(velocity[inside], expected[inside], atol=0.01 * np.abs(expected).max())
    displacement = f.integrate(acceleration, RATE_HZ, "um")
    expected = -np.sin(omega * t) * 9806.65e3 / omega**2 * filtered
    np.testing.assert_allclose(displacement[inside], expected[inside], atol=0.02 * np.abs(expected).max())


def test_integration_does_not_drift() -> None:
    offset_and_ramp = 0.5 + np.linspace(0, 0.2, 51200)
    for to in ("mm_s", "um"):
        drift = f.integrate(sine(0.1, 100.0, 51200) + offset_and_ramp, RATE_HZ, to)
        clean = f.integrate(sine(0.1, 100.0, 51200), RATE_HZ, to)
        inside = slice(10_000, 41_000)
        assert np.abs(drift[inside] - clean[inside]).max() < 0.02 * np.abs(clean).max(), to


def test_rms_of_the_integrated_waveform_is_velocity_rms() -> None:
    x = sine(0.2, 87.0, 51200) + 0.01 * noise(51200)
    velocity = f.integrate(x, RATE_HZ, "mm_s")[10_000:41_000]
    assert f.rms(velocity) == pytest.approx(float(f.velocity_rms(x, RATE_HZ)), rel=0.01)
    displacement = f.integrate(x, RATE_HZ, "um")[10_000:41_000]
    assert f.rms(displacement) == pytest.approx(float(f.displacement_rms(x, RATE_HZ)), rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"to": "mm"}, "'mm_s' or 'um'"),
        ({"to": "um", "low_hz": 1.0}, "below 2 Hz"),
        ({"to": "um", "low_hz": 20000.0}, "band|not a band"),
    ],
)
def test_integration_that_would_show_drift_is_refused(arguments: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        f.integrate(noise(), RATE_HZ, **arguments)  # type: ignore[arg-type]


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "rms": f.rms,
    "peak": f.peak,
    "peak_to_peak": f.peak_to_peak,
    "crest_factor": f.crest_factor,
    "impulse_factor": f.impulse_factor,
    "shape_factor": f.shape_factor,
    "clearance_factor": f.clearance_factor,
    "kurtosis": f.kurtosis,
    "skewness": f.skewness,
    "amplitude_spectrum": lambda x: f.amplitude_spectrum(x, RATE_HZ),
    "psd": lambda x: f.psd(x, RATE_HZ),
    "band_rms": lambda x: f.band_rms(x, RATE_HZ, [(100.0, 1000.0)]),
    "velocity_rms": lambda x: f.velocity_rms(x, RATE_HZ, (100.0, 1000.0)),
    "displacement_rms": lambda x: f.displacement_rms(x, RATE_HZ, (100.0, 1000.0)),
    "integrate": lambda x: f.integrate(x, RATE_HZ, "mm_s", low_hz=100.0),
    "spectral_centroid": lambda x: f.spectral_centroid(x, RATE_HZ),
    "spectral_kurtosis": lambda x: f.spectral_kurtosis(x, RATE_HZ),
    "spectral_entropy": lambda x: f.spectral_entropy(x, RATE_HZ),
    "spectral_flatness": lambda x: f.spectral_flatness(x, RATE_HZ),
    "cepstrum": lambda x: f.cepstrum(x, RATE_HZ),
    "envelope_spectrum": lambda x: f.envelope_spectrum(x, RATE_HZ, (1000.0, 5000.0)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_defines_its_answer_to_odd_input(name: str) -> None:
    """Warnings are errors in this test run, so none of these may warn."""
    function = FUNCTIONS[name]
    integers = np.random.default_rng(1).integers(-2000, 2000, (2, 1024)).astype(np.int16)
    before = integers.copy()
    of_integers, of_floats = function(integers), function(integers.astype(np.float64))
    np.testing.assert_array_equal(integers, before)
    for ours, theirs in zip(as_tuple(of_integers), as_tuple(of_floats), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for broken in (math.nan, math.inf):
        x = noise(1024)
        x[5] = broken
        assert not np.isfinite(as_tuple(function(x))[-1]).all()
    for flat in (np.zeros(1024), np.full(1024, 3.0)):
        value = as_tuple(function(flat))[-1]
        assert not np.isinf(value).any()
    with pytest.raises(ValueError, match="samples have"):
        function(np.array(["1", "2"]))
    with pytest.raises(ValueError, match="samples have"):
        function(np.zeros((3, 0)))


def as_tuple(value: object) -> tuple[npt.NDArray[np.float64], ...]:
    return value if isinstance(value, tuple) else (np.asarray(value),)
