"""Features are checked by laws: known sines, Parseval, moments, published frequencies."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdm_edge import features as f
from pdm_edge.config import IsoConfig
from pdm_edge.features.spectrum import hann, transform
from pdm_edge.grading import graded, highest_velocity
from pdm_edge.records import FeatureVector, Stamp

RATE_HZ = 25600.0


Samples = npt.NDArray[np.float64]


def sine(rms: float, frequency_hz: float, *, n: int = 25600, rate_hz: float = RATE_HZ) -> Samples:
    wave: Samples = rms * math.sqrt(2) * np.sin(2 * np.pi * frequency_hz * np.arange(n) / rate_hz)
    return wave


def noise(n: int = 25600, *, seed: int = 1) -> Samples:
    return np.random.default_rng(seed).standard_normal(n)


def test_moments_of_a_sine_and_of_gaussian_noise() -> None:
    wave = sine(2.0, 100.0)
    assert f.rms(wave) == pytest.approx(2.0, rel=1e-12)
    assert f.peak(wave) == pytest.approx(2.0 * math.sqrt(2), rel=1e-4)
    assert f.peak_to_peak(wave) == pytest.approx(4.0 * math.sqrt(2), rel=1e-4)
    assert f.crest_factor(wave) == pytest.approx(math.sqrt(2), rel=1e-4)
    assert f.kurtosis(wave) == pytest.approx(1.5, rel=1e-9)
    gauss = noise(1_000_000)
    # Standard errors for n samples: sqrt(24/n) and sqrt(6/n); five of them.
    assert f.kurtosis(gauss) == pytest.approx(3.0, abs=5 * math.sqrt(24 / 1e6))
    assert f.skewness(gauss) == pytest.approx(0.0, abs=5 * math.sqrt(6 / 1e6))


def test_features_do_not_depend_on_offset_and_scale_as_they_should() -> None:
    x = noise()
    for function in (f.kurtosis, f.skewness):
        assert function(7 * x + 3) == pytest.approx(float(function(x)), rel=1e-9)
    assert f.rms(5 * x) == pytest.approx(5 * float(f.rms(x)))
    assert f.crest_factor(5 * x) == pytest.approx(float(f.crest_factor(x)))


def test_silence_has_no_crest_and_no_kurtosis_and_warns_of_nothing() -> None:
    silent = np.full((2, 100), 0.1)
    assert np.isnan(f.kurtosis(silent)).all()
    assert np.isnan(f.skewness(silent)).all()
    assert np.isnan(f.crest_factor(np.zeros(10)))
    assert f.rms(np.zeros(10)) == 0


@pytest.mark.parametrize("bad", [np.array([]), np.array(["a"]), np.zeros((3, 0)), np.array(1.0)])
def test_what_is_no_waveform_is_refused(bad: Samples) -> None:
    with pytest.raises(ValueError, match="samples have"):
        f.rms(bad)


def test_one_g_rms_at_159_hz_is_9_807_mm_s() -> None:
    wave = sine(1.0, 159.155)
    assert f.velocity_rms(wave, RATE_HZ) == pytest.approx(9.807, abs=0.002)


@pytest.mark.parametrize("frequency_hz", [12.5, 40.0, 159.155, 333.3, 980.0])
def test_velocity_of_a_sine_is_acceleration_over_omega(frequency_hz: float) -> None:
    expected = 0.5 * 9806.65 / (2 * math.pi * frequency_hz)
    assert f.velocity_rms(sine(0.5, frequency_hz), RATE_HZ) == pytest.approx(expected, rel=0.01)


def test_velocity_hears_nothing_outside_its_band() -> None:
    inside = float(f.velocity_rms(sine(1.0, 500.0), RATE_HZ))
    assert f.velocity_rms(sine(1.0, 4.0), RATE_HZ) < 0.01 * inside
    assert f.velocity_rms(sine(1.0, 1100.0), RATE_HZ) < 0.01 * inside
    drift = np.linspace(0.0, 5.0, 25600)
    assert f.velocity_rms(sine(1.0, 500.0) + drift, RATE_HZ) == pytest.approx(inside, rel=0.05)


def test_velocity_of_a_sensor_that_is_too_slow_is_refused_not_clamped() -> None:
    with pytest.raises(ValueError, match="needs a sample rate above 2000 Hz"):
        f.velocity_rms(noise(1600), 1600.0)
    with pytest.raises(ValueError, match=r"window of at least 0\.2 s"):
        f.velocity_rms(noise(2560), RATE_HZ)
    assert f.velocity_rms(noise(1600), 1600.0, band_hz=(10, 600)) > 0


@pytest.mark.parametrize("n", [25600, 4096, 25601, 97656 // 4])
def test_power_obeys_parseval_at_any_length(n: int) -> None:
    x = noise(n) + 3.0
    window = hann(n)
    windowed = (x - x.mean()) * window
    spectrum = transform(x, RATE_HZ)
    assert spectrum.power().sum() == pytest.approx(np.sum(windowed**2) / np.sum(window**2), rel=1e-10)


def test_psd_integrates_to_the_mean_square_and_is_flat_for_white_noise() -> None:
    frequencies_hz, density = f.psd(noise(200_000), RATE_HZ)
    assert np.sum(density) * frequencies_hz[1] == pytest.approx(1.0, rel=0.02)
    level = 2.0 / RATE_HZ  # one-sided density of unit variance
    thirds = density[10:-10].reshape(-1)[:2010].reshape(3, -1).mean(axis=1)
    np.testing.assert_allclose(thirds, level, rtol=0.05)


def test_a_sine_reads_its_rms_in_the_amplitude_spectrum_on_a_line_and_between() -> None:
    frequencies_hz, amplitude = f.amplitude_spectrum(sine(3.0, 1000.0), RATE_HZ)
    assert frequencies_hz[np.argmax(amplitude)] == 1000.0
    assert amplitude.max() == pytest.approx(3.0, rel=1e-6)
    # Half-way between two lines a Hann window reads 1.42 dB low (scalloping loss, Harris 1978).
    _, between = f.amplitude_spectrum(sine(3.0, 1000.5), RATE_HZ)
    assert 20 * math.log10(between.max() / 3.0) == pytest.approx(-1.42, abs=0.01)


def test_padding_a_length_that_is_slow_to_transform_changes_no_amplitude() -> None:
    _, amplitude = f.amplitude_spectrum(sine(3.0, 1000.0, n=24414), RATE_HZ)
    assert amplitude.max() == pytest.approx(3.0, rel=0.002)


def test_bands_split_the_energy_without_loss_or_overlap() -> None:
    x = noise()
    bands = [(100.0, 1000.0), (1000.0, 5000.0), (5000.0, 12800.0)]
    parts = f.band_rms(x, RATE_HZ, bands)
    whole = f.band_rms(x, RATE_HZ, [(100.0, 12800.0)])
    assert np.sqrt(np.sum(parts**2)) == pytest.approx(float(whole[0]), rel=1e-12)
    tone = f.band_rms(sine(2.0, 3000.0), RATE_HZ, bands)
    np.testing.assert_allclose(tone, [0.0, 2.0, 0.0], atol=1e-4)


def test_envelope_shows_the_modulation_and_not_the_carrier() -> None:
    t = np.arange(25600) / RATE_HZ
    depth, carrier = 0.5, 1.0
    x = carrier * (1 + depth * np.cos(2 * np.pi * 87.0 * t)) * np.cos(2 * np.pi * 4000.0 * t)
    frequencies_hz, amplitude = f.envelope_spectrum(x, RATE_HZ, (3000.0, 5000.0))
    peak = int(np.argmax(amplitude))
    assert frequencies_hz[peak] == pytest.approx(87.0, abs=frequencies_hz[1])
    assert amplitude[peak] == pytest.approx(carrier * depth / math.sqrt(2), rel=0.02)
    assert frequencies_hz[-1] == pytest.approx(1000.0, abs=2 * frequencies_hz[1])


def test_published_orders_of_the_6205_bearing() -> None:
    orders = f.CATALOGUE["6205"].frequencies(1.0)
    assert orders.bpfo_hz == pytest.approx(3.5848, abs=5e-4)
    assert orders.bpfi_hz == pytest.approx(5.4152, abs=5e-4)
    assert orders.ftf_hz == pytest.approx(0.3983, abs=5e-4)
    assert orders.bsf_hz == pytest.approx(2.3567, abs=5e-4)


def test_inner_and_outer_pass_frequencies_sum_to_balls_times_speed() -> None:
    geometry = f.BearingGeometry(8, 20.0, 120.0, contact_angle_deg=15.0)
    at_25 = geometry.frequencies(25.0)
    assert at_25.bpfo_hz + at_25.bpfi_hz == pytest.approx(8 * 25.0)
    flat = f.BearingGeometry(8, 20.0, 120.0).frequencies(25.0)
    assert flat.bpfo_hz == pytest.approx(83.333, abs=1e-3)
    assert flat.bpfi_hz == pytest.approx(116.667, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "text"), [((2, 5, 30), "3 balls"), ((8, 30, 30), "pitch"), ((8, 5, 30, 90), "angle")]
)
def test_impossible_bearings_are_refused(arguments: tuple[int, ...], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        f.BearingGeometry(*arguments)


@pytest.mark.parametrize(
    ("value", "zone"), [(1.4, "A"), (1.41, "B"), (2.8, "B"), (4.5, "C"), (4.51, "D"), (0.0, "A")]
)
def test_a_value_on_the_limit_belongs_to_the_better_zone(value: float, zone: str) -> None:
    assert f.iso20816_zone(value, 2, "rigid") == zone


def test_the_worse_of_velocity_and_displacement_holds() -> None:
    assert f.iso20816_zone(2.0, 2, "rigid", 50.0) == "C"
    assert f.iso20816_zone(2.0, 2, "rigid", 10.0) == "B"


@pytest.mark.parametrize(
    "arguments", [(1.0, 3, "rigid"), (1.0, 2, "soft"), (math.nan, 2, "rigid"), (-1, 2, "rigid")]
)
def test_zones_are_not_guessed(arguments: tuple[float, int, str]) -> None:
    with pytest.raises(ValueError, match=r"group|finite"):
        f.iso20816_zone(*arguments)


def plan(**changes: object) -> f.FeaturePlan:
    values: dict[str, object] = {
        "sample_rate_hz": RATE_HZ,
        "n_samples": 25600,
        "unit": "g",
        "shaft_hz": 24.0,
        "bearing": f.CATALOGUE["6205"],
    }
    return f.FeaturePlan(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [25600, 4096, 24414])
def test_extractor_agrees_with_the_plain_functions(n: int) -> None:
    extractor = f.FeatureExtractor(plan(n_samples=n))
    x = (noise(n) + sine(1.0, 120.0, n=n) + 0.5).astype(np.float32)
    got = dict(zip(extractor.schema.names, extractor(x[None, :]), strict=True))
    centred = x.astype(np.float64) - x.mean(dtype=np.float64)
    plain = {
        "x/rms": f.rms(centred),
        "x/peak": f.peak(centred),
        "x/crest_factor": f.crest_factor(centred),
        "x/kurtosis": f.kurtosis(x),
        "x/skewness": f.skewness(x),
    }
    (low_hz, high_hz), standard = extractor.plan.velocity_band_hz()
    assert standard == (n > 5120)
    plain[f"x/velocity_rms_{low_hz:g}_{high_hz:g}hz"] = f.velocity_rms(x, RATE_HZ, (low_hz, high_hz))
    bands = extractor.plan.bands_hz()
    for (a, b), value in zip(bands, f.band_rms(x, RATE_HZ, bands), strict=True):
        plain[f"x/band_rms_{float(f'{a:.4g}'):g}_{b:g}hz"] = value
    frequencies_hz, envelope = f.envelope_spectrum(x, RATE_HZ, (500.0, 10000.0))
    bpfo_hz = f.CATALOGUE["6205"].frequencies(24.0).bpfo_hz
    plain["x/envelope_bpfo"], plain["x/envelope_bpfo_level"] = f.line_amplitudes(
        envelope, frequencies_hz[1], bpfo_hz
    )
    for name, value in plain.items():
        # float32 arithmetic: 6e-8 a step, a few thousand steps; skewness is a difference near zero.
        assert got[name] == pytest.approx(float(value), rel=2e-4, abs=2e-5), name


def test_extractor_handles_axes_apart_and_leaves_its_input_alone() -> None:
    extractor = f.FeatureExtractor(plan(axes=("x", "y")))
    x = np.stack([noise(seed=1), 2 * noise(seed=2)]).astype(np.float32)
    before = x.copy()
    both = extractor(x)
    single = f.FeatureExtractor(plan())
    np.testing.assert_allclose(both, np.concatenate([single(x[:1]), single(x[1:])]), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(x, before)
    assert extractor.schema.names[0] == "x/rms"
    assert extractor.schema.names[len(single.schema.names)] == "y/rms"


def test_m_s2_and_g_give_the_same_features() -> None:
    x = noise().astype(np.float32)[None, :]
    in_g = f.FeatureExtractor(plan())(x)
    in_m_s2 = f.FeatureExtractor(plan(unit="m_s2"))(x * np.float32(9.80665))
    np.testing.assert_allclose(in_m_s2, in_g, rtol=1e-4, atol=1e-5)


def test_a_slow_sensor_gets_a_band_limited_velocity_under_its_true_name() -> None:
    extractor = f.FeatureExtractor(plan(sample_rate_hz=1600.0, n_samples=1600))
    assert not extractor.velocity_is_standard_band
    assert "x/velocity_rms_10_625hz" in extractor.schema.names
    assert not any("envelope" in name for name in extractor.schema.names)


def test_a_name_says_the_band_that_was_taken_not_a_rounded_one() -> None:
    extractor = f.FeatureExtractor(plan(n_samples=4096, more_bands_hz=((12.5, 31.25), (12.5, 37.5))))
    names = extractor.schema.names
    assert extractor.plan.velocity_band_hz()[0] == (12.5, 1000.0)
    for name in ("velocity_rms_12.5_1000hz", "band_rms_12.5_50hz", "band_rms_12.5_31.25hz"):
        assert f"x/{name}" in names


def test_a_measured_rate_that_wanders_by_some_millionths_gives_the_same_schema() -> None:
    steady = f.FeatureExtractor(plan(n_samples=4096))
    wandering = f.FeatureExtractor(plan(n_samples=4096, sample_rate_hz=25600.05))
    assert wandering.schema.id == steady.schema.id


def test_a_grade_names_the_true_band() -> None:
    extractor = f.FeatureExtractor(plan(n_samples=4096))
    stamp = Stamp(utc_ns=0, monotonic_ns=0, boot_id="b", clock_trusted=True)
    values = extractor(noise(4096).astype(np.float32)[None, :])
    velocity, band = highest_velocity(FeatureVector("pump", values, extractor.schema, stamp, 1.0))
    zone, basis = graded(IsoConfig(group=1, support="rigid"), velocity, band)
    assert zone is not None
    assert "12.5-1000 Hz" in basis
    assert "band-limited" in basis


def test_bearing_lines_and_orders_follow_a_measured_speed() -> None:
    bearing = f.CATALOGUE["6205"]
    extractor = f.FeatureExtractor(plan(orders=(1, 2)))
    n, true_hz = 25600, 21.3  # a drive at 89 % of its rated speed
    t = np.arange(n) / RATE_HZ
    strikes = np.sin(2 * np.pi * bearing.frequencies(true_hz).bpfo_hz * t)
    x = (1 + 0.5 * strikes) * np.sin(2 * np.pi * 4000 * t) + 0.05 * noise(n) + sine(0.1, true_hz)
    window = x.astype(np.float32)[None, :]

    def named(shaft_hz: float | None) -> dict[str, float]:
        return dict(zip(extractor.schema.names, extractor(window, shaft_hz).tolist(), strict=True))

    assert named(None)["x/envelope_bpfo"] < 0.05
    found = named(true_hz)
    assert found["x/envelope_bpfo"] == pytest.approx(0.5 / math.sqrt(2), rel=0.02)
    assert found["x/velocity_order_1x"] == pytest.approx(0.1 * 9806.65 / (2 * math.pi * true_hz), rel=0.02)
    assert found["x/velocity_order_2x"] < 0.5
    assert named(None)["x/envelope_bpfo"] < 0.05, "back at the rated speed when none is measured"
    again = f.FeatureExtractor(plan(orders=(1, 2), shaft_hz=true_hz))(window)
    np.testing.assert_allclose(list(found.values()), again, rtol=1e-5)


def test_extras_follow_the_default_features_and_agree_with_the_plain_functions() -> None:
    x = (noise() + sine(1.0, 120.0)).astype(np.float32)
    extras = tuple(f.EXTRAS)
    wide = f.FeatureExtractor(plan(extras=extras, more_bands_hz=((300.0, 400.0),)))
    default = f.FeatureExtractor(plan())
    count = len(default.schema.names)
    assert wide.schema.names[:count] == default.schema.names
    values = wide(x[None, :])
    np.testing.assert_array_equal(values[:count], default(x[None, :]))
    got = dict(zip(wide.schema.names, values.tolist(), strict=True))
    centred = x.astype(np.float64) - x.mean(dtype=np.float64)
    plain = {
        "peak_to_peak": f.peak_to_peak(centred),
        "impulse_factor": f.impulse_factor(centred),
        "shape_factor": f.shape_factor(centred),
        "clearance_factor": f.clearance_factor(centred),
        "spectral_centroid": f.spectral_centroid(x, RATE_HZ),
        "spectral_kurtosis": f.spectral_kurtosis(x, RATE_HZ),
        "spectral_entropy": f.spectral_entropy(x, RATE_HZ),
        "spectral_flatness": f.spectral_flatness(x, RATE_HZ),
        "displacement_rms": f.displacement_rms(x, RATE_HZ),
        "band_rms_300_400hz": f.band_rms(x, RATE_HZ, [(300.0, 400.0)])[0],
    }
    assert set(plain) == {name.removeprefix("x/") for name in wide.schema.names[count:]}
    for name, value in plain.items():
        assert got[f"x/{name}"] == pytest.approx(float(value), rel=2e-4), name
    with pytest.raises(ValueError, match="no feature 'wavelet'"):
        plan(extras=("wavelet",))
    with pytest.raises(ValueError, match="shaft_hz"):
        plan(orders=(1,), shaft_hz=None, bearing=None)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_window_with_a_broken_value_has_no_features_and_warns_of_nothing(broken: float) -> None:
    x = noise().astype(np.float32)[None, :]
    x[0, 100] = broken
    assert np.isnan(f.FeatureExtractor(plan(extras=tuple(f.EXTRAS)))(x)).all()


def test_a_silent_window_has_zeros_and_no_shape_and_warns_of_nothing() -> None:
    extractor = f.FeatureExtractor(plan())
    got = dict(zip(extractor.schema.names, extractor(np.zeros((1, 25600))).tolist(), strict=True))
    assert got["x/rms"] == got["x/envelope_bpfo"] == got["x/velocity_rms_10_1000hz"] == 0
    assert math.isnan(got["x/kurtosis"])


def test_many_axes_give_the_same_together_and_one_by_one() -> None:
    for n in (4096, 25600):  # small windows go through each step together, large ones apart
        axes = ("x", "y", "z")
        x = np.stack([noise(n, seed=k) * 2**k for k in range(3)]).astype(np.float32)
        together = f.FeatureExtractor(plan(axes=axes, n_samples=n))(x)
        single = f.FeatureExtractor(plan(n_samples=n))
        np.testing.assert_allclose(together, np.concatenate([single(row[None]) for row in x]), rtol=1e-5)


def test_schema_id_changes_with_names_and_units() -> None:
    a = f.FeatureExtractor(plan()).schema
    assert a.id == f.FeatureExtractor(plan()).schema.id
    assert a.id != f.FeatureExtractor(plan(unit="mm_s")).schema.id


@pytest.mark.parametrize(("file", "line"), [("105_inner_007_12k", "bpfi"), ("130_outer_007_12k", "bpfo")])
def test_fault_line_of_a_real_bearing_stands_6_db_above_its_floor(
    recordings: Path, file: str, line: str
) -> None:
    from scipy.io import loadmat

    content = loadmat(recordings / "cwru" / f"{file}.mat")
    key = next(k for k in content if k.endswith("DE_time"))
    rpm = next(float(v.item()) for k, v in content.items() if k.endswith("RPM"))
    x = content[key].ravel()[: 12000 * 5]
    frequencies_hz, amplitude = f.envelope_spectrum(x, 12000.0, (2000.0, 4500.0))
    nominal_hz = getattr(f.CATALOGUE["6205"].frequencies(rpm / 60), f"{line}_hz")
    _, level_db = f.line_amplitudes(amplitude, frequencies_hz[1], nominal_hz)
    assert level_db > 6.0


DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "features.md"


def test_every_feature_and_every_picture_of_the_document_is_there() -> None:
    text = DOCUMENT.read_text()
    extractor = f.FeatureExtractor(plan(extras=tuple(f.EXTRAS), orders=(1,)))
    for name in extractor.schema.names:
        base = re.sub(r"_[\d.]+_[\d.]+hz$", "", name.removeprefix("x/"))
        level = base.startswith("envelope_") and base.endswith("_level")
        line = re.fullmatch(r"envelope_(bpfo|bpfi|bsf|ftf)", base)
        shown = "envelope_bpfo_level" if level else f"_{line[1]}" if line and line[1] != "bpfo" else base
        assert f"| `{shown}`" in text or f"` `{shown}`" in text, name
    pictures = re.findall(r"\]\((img/[a-z_]+\.png)\)", text)
    assert len(pictures) == len(set(pictures)) == len(list((DOCUMENT.parent / "img").iterdir())) == 9
    for picture in pictures:
        assert (DOCUMENT.parent / picture).is_file(), picture


def test_every_row_has_formula_unit_source_picture_and_a_reading() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in DOCUMENT.read_text().splitlines()
        if line.startswith("| `") and line.count(" | ") >= 5
    ]
    assert len(rows) > 35
    for row in rows:
        name, formula, unit, source, picture, reading = row
        assert formula, name
        assert source, name
        assert unit or name == "`OperatingTracker`"
        assert picture or name == "`OperatingTracker`"
        assert len(reading) > 30, name


def test_every_public_name_is_in_the_document() -> None:
    text = DOCUMENT.read_text()
    results = {"BandChoice", "Kurtogram", "LinePlan", "LineTrace", "SelfCheck", "SensorFinding"}
    results |= {"SpeedEstimate", "ZoneGrade", "BearingFrequencies", "BearingGeometry", "EXTRAS"}
    for name in sorted(set(f.__all__) - results):
        assert f"`{name}`" in text or f"`{name}(" in text, name


@settings(max_examples=40)
@given(n=st.integers(64, 6000), rate_hz=st.floats(5.0, 60000.0), scale=st.floats(1e-3, 1e3))
def test_any_window_at_any_rate_agrees_with_the_plain_functions(n: int, rate_hz: float, scale: float) -> None:
    extractor = f.FeatureExtractor(f.FeaturePlan(rate_hz, n, "g"))
    x = (scale * np.random.default_rng(n).standard_normal(n)).astype(np.float32)
    got = dict(zip(extractor.schema.names, extractor(x[None, :]).tolist(), strict=True))
    centred = x.astype(np.float64) - x.mean(dtype=np.float64)
    assert got["x/rms"] == pytest.approx(float(f.rms(centred)), rel=2e-4)
    assert got["x/kurtosis"] == pytest.approx(float(f.kurtosis(x)), rel=2e-4)
    bands = extractor.plan.bands_hz()
    parts = [value for name, value in got.items() if "/band_rms_" in name]
    np.testing.assert_allclose(parts, f.band_rms(x, rate_hz, bands), rtol=2e-4)
    velocity_hz, _ = extractor.plan.velocity_band_hz()
    for velocity in (value for name, value in got.items() if "/velocity_rms_" in name):
        assert velocity == pytest.approx(float(f.velocity_rms(x, rate_hz, velocity_hz)), rel=2e-4)


def test_a_velocity_sensor_reads_its_own_velocity_and_has_no_envelope() -> None:
    extractor = f.FeatureExtractor(plan(unit="mm_s"))
    window = sine(2.5, 24.67).astype(np.float32)[None, :]
    got = dict(zip(extractor.schema.names, extractor(window).tolist(), strict=True))
    assert got["x/velocity_rms_10_1000hz"] == pytest.approx(2.5, rel=0.01)
    assert not any("envelope" in name for name in got)
    assert extractor.schema.units[0] == "mm_s"


def test_one_sample_has_an_rms_and_no_shape_and_no_spectrum() -> None:
    assert f.rms([3.0]) == f.peak([3.0]) == 3.0
    assert f.peak_to_peak([3.0]) == 0
    assert np.isnan(f.kurtosis([3.0]))
    with pytest.raises(ValueError, match="at least 8"):
        f.amplitude_spectrum([3.0], RATE_HZ)
    with pytest.raises(ValueError, match="too short"):
        f.FeatureExtractor(plan(n_samples=1))


def test_a_window_of_another_shape_is_refused() -> None:
    extractor = f.FeatureExtractor(plan(axes=("x", "y")))
    for shape in ((25600,), (25600, 2), (2, 25599), (1, 25600)):
        with pytest.raises(ValueError, match="the plan says"):
            extractor(np.zeros(shape, dtype=np.float32))


def test_bands_up_to_the_last_line_of_an_odd_number_of_samples_have_their_value() -> None:
    plan = f.FeaturePlan(75.0, 75, "g", ("x",), more_bands_hz=((10.0, 37.5), (20.0, 37.5)))
    x = np.random.default_rng(5).standard_normal((1, 75)).astype(np.float32)
    extractor = f.FeatureExtractor(plan)
    values = dict(zip(extractor.schema.names, extractor(x), strict=True))
    for low_hz in (10, 20):
        expected = float(f.band_rms(x, 75.0, [(low_hz, 37.5)]).ravel()[0])
        assert values[f"x/band_rms_{low_hz}_37.5hz"] == pytest.approx(expected, rel=1e-4)
