"""The kurtogram finds the band that rings, as the published algorithm does, and is not fooled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from fast_kurtogram import fast_kurtogram

from pdm_edge import features as f
from pdm_edge.acquire.recordings import load_recording
from pdm_edge.assess.evidence import LINE_LEVEL_DB

RATE_HZ = 25600.0
MFPT = f.CATALOGUE["NICE-MFPT"]
CWRU = f.CATALOGUE["6205"]

FAULTS = [
    ("mfpt/InnerRaceFault_vload_1", MFPT, 25.0, "bpfi"),
    ("mfpt/InnerRaceFault_vload_3", MFPT, 25.0, "bpfi"),
    ("mfpt/InnerRaceFault_vload_5", MFPT, 25.0, "bpfi"),
    ("mfpt/OuterRaceFault_vload_1", MFPT, 25.0, "bpfo"),
    ("mfpt/OuterRaceFault_vload_3", MFPT, 25.0, "bpfo"),
    ("mfpt/OuterRaceFault_vload_5", MFPT, 25.0, "bpfo"),
    ("cwru/105_inner_007_12k", CWRU, 1797 / 60, "bpfi"),
    ("cwru/130_outer_007_12k", CWRU, 1796 / 60, "bpfo"),
    ("cwru/209_inner_021_12k", CWRU, 1797 / 60, "bpfi"),
]

# What else is faulty: each has a reason in docs/features.md why its label cannot be read off.
OTHERS = {"cwru/118_ball_007_12k", "femto/bearing1_1_every_5th", "uestc/I_1000_1", "uestc/O_1000_1"}


def samples_of(path: Path, seconds_s: float) -> tuple[npt.NDArray[np.float64], float]:
    set_of = path.parent.name
    record = load_recording(
        path,
        sample_rate_hz={"cwru": 12000.0, "uestc": 20000.0}.get(set_of),
        unit={"cwru": "g", "uestc": "m_s2"}.get(set_of),
        variable={"cwru": "*DE_time", "uestc": "Data"}.get(set_of, "gs"),
    )
    n = round(seconds_s * record.sample_rate_hz)
    return record.samples[0, :n].astype(np.float64), record.sample_rate_hz


def level_db(
    x: npt.NDArray[np.float64], rate_hz: float, band_hz: tuple[float, float], line_hz: float
) -> float:
    low_hz, high_hz = max(band_hz[0], 4.0), min(band_hz[1], rate_hz / 2)
    frequencies_hz, amplitude = f.envelope_spectrum(x, rate_hz, (low_hz, high_hz))
    return float(f.line_amplitudes(amplitude, frequencies_hz[1], line_hz)[1])


def ringing(carrier_hz: float, *, every: int = 256, seed: int = 1, n: int = 25600) -> npt.NDArray[np.float64]:
    """Strikes every `every` samples on a resonance of `carrier_hz`, in noise."""
    t = np.arange(512) / RATE_HZ
    strike = np.exp(-t * 800) * np.sin(2 * np.pi * carrier_hz * t)
    train = np.zeros(n)
    train[::every] = 2.0
    x = np.convolve(train, strike)[:n]
    return np.asarray(x + 0.3 * np.random.default_rng(seed).standard_normal(n))


@pytest.mark.parametrize("carrier_hz", [1500.0, 4000.0, 7300.0, 11000.0])
def test_the_band_of_a_struck_resonance_is_found(carrier_hz: float) -> None:
    found = f.kurtogram(ringing(carrier_hz), RATE_HZ)
    assert found.band_hz[0] - 500 < carrier_hz < found.band_hz[1] + 500
    assert found.peak > 1.0


def test_gaussian_noise_has_no_kurtosis_in_any_band() -> None:
    found = f.kurtogram(np.random.default_rng(1).standard_normal(200_000), RATE_HZ)
    for splits, values in zip(found.splits, found.kurtosis, strict=True):
        # The kurtosis of n complex Gaussian values has standard error 2 / sqrt(n).
        assert np.abs(values).max() < 6 * 2 / np.sqrt(100_000 / splits), splits


def test_a_sine_has_kurtosis_minus_one() -> None:
    t = np.arange(25600) / RATE_HZ
    found = f.kurtogram(np.sin(2 * np.pi * 3000.3 * t), RATE_HZ)
    row = found.splits.index(8)
    assert found.kurtosis[row][1] == pytest.approx(-1.0, abs=0.01)


def test_kurtosis_of_a_band_is_that_of_an_independent_filter() -> None:
    from scipy.signal import butter, hilbert, sosfiltfilt

    x = ringing(4000.0)
    found = f.kurtogram(x, RATE_HZ)
    row = found.splits.index(8)
    at = int(np.argmax(found.kurtosis[row]))
    edges = found.edges_hz[row]
    sos = butter(8, [edges[at], edges[at + 1]], "bandpass", fs=RATE_HZ, output="sos")
    envelope = np.abs(hilbert(sosfiltfilt(sos, x)))[1000:-1000]
    independent = np.mean(envelope**4) / np.mean(envelope**2) ** 2 - 2
    assert found.kurtosis[row][at] == pytest.approx(independent, rel=0.1)


def test_the_choice_says_which_band_and_why() -> None:
    choice = f.choose_band(ringing(4000.0), RATE_HZ)
    assert choice.band_hz[0] < 4000.0 < choice.band_hz[1]
    assert "most impulsive" in choice.why
    wide = f.choose_band(ringing(4000.0), RATE_HZ, narrowest_hz=3000.0)
    assert wide.band_hz[1] - wide.band_hz[0] >= 3000.0
    noise = f.choose_band(np.random.default_rng(2).standard_normal(25600), RATE_HZ)
    assert noise.band_hz == (500.0, 10000.0)
    assert "no band" in noise.why


def test_a_single_knock_does_not_choose_the_band() -> None:
    x = ringing(4000.0)
    t = np.arange(300) / RATE_HZ
    x[9000:9300] += 60 * np.exp(-t * 400) * np.sin(2 * np.pi * 9000 * t)
    assert f.kurtogram(x, RATE_HZ).band_hz[0] > 6000, "the plain kurtogram falls for it"
    choice = f.choose_band(x, RATE_HZ)
    assert choice.band_hz[0] - 500 < 4000.0 < choice.band_hz[1] + 500
    assert "single knock" in choice.why


@pytest.mark.parametrize("bad", [np.zeros((2, 500)), np.zeros(500), np.arange(20.0), np.full(500, np.nan)])
def test_what_has_no_kurtogram_is_refused(bad: npt.NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match=r"one axis|silent|at least"):
        f.kurtogram(bad, RATE_HZ)


def test_the_input_is_left_alone_and_float32_gives_the_same() -> None:
    x = ringing(4000.0)
    before = x.copy()
    found = f.kurtogram(x, RATE_HZ)
    np.testing.assert_array_equal(x, before)
    single = f.kurtogram(x.astype(np.float32), RATE_HZ)
    assert single.band_hz == found.band_hz
    assert single.peak == pytest.approx(found.peak, rel=1e-3)


@pytest.mark.recordings
@pytest.mark.parametrize(("file", "bearing", "shaft_hz", "line"), FAULTS)
def test_ours_agrees_with_the_published_fast_kurtogram_on_real_faults(
    recordings: Path, file: str, bearing: f.BearingGeometry, shaft_hz: float, line: str
) -> None:
    from scipy.stats import spearmanr

    x, rate_hz = samples_of(recordings / f"{file}.mat", 2.0)
    ours, published = f.kurtogram(x, rate_hz, levels=6), fast_kurtogram(x, 6)
    shared = [row for row, count in enumerate(ours.splits) if 2 <= count <= 32]
    mine = np.concatenate([ours.kurtosis[row] for row in shared])
    theirs = np.concatenate([published[ours.splits[row]] for row in shared])
    # The published filters overlap widely, ours do not: values differ, their order hardly.
    assert spearmanr(mine, theirs).statistic > 0.8
    row = max(shared, key=lambda r: ours.kurtosis[r].max())
    at = int(np.argmax(ours.kurtosis[row]))
    assert published[ours.splits[row]][at] > 0.6 * max(k.max() for k in published.values())
    # What counts in the end: the defect line stands as high in the band chosen.
    count = max(published, key=lambda c: published[c].max())
    best = int(np.argmax(published[count]))
    width_hz = rate_hz / 2 / count
    nominal_hz = getattr(bearing.frequencies(shaft_hz), f"{line}_hz")
    reference_db = level_db(x, rate_hz, (best * width_hz, (best + 1) * width_hz), nominal_hz)
    chosen = f.choose_band(x, rate_hz, narrowest_hz=4 * nominal_hz)
    assert level_db(x, rate_hz, chosen.band_hz, nominal_hz) > reference_db - 4.0


@pytest.mark.recordings
def test_the_yardstick_is_what_an_independent_tool_computes(recordings: Path) -> None:
    openconmo = pytest.importorskip("openconmo.kurtogram", reason="NEEDS openconmo: pip install openconmo")
    x, rate_hz = samples_of(recordings / "mfpt" / "InnerRaceFault_vload_3.mat", 2.0)
    theirs, *_ = openconmo.fast_kurtogram(x.copy(), rate_hz, 6)
    rows = sorted(fast_kurtogram(x, 6).items())
    for (count, ours), values in zip(rows, theirs[1:], strict=True):
        # They keep the samples in which the filters settle.
        bands = values.reshape(count, -1)[:, 0]
        np.testing.assert_allclose(np.maximum(ours, 0), bands, rtol=0.05, atol=0.2)


@pytest.mark.recordings
@pytest.mark.parametrize(("file", "bearing", "shaft_hz", "line"), FAULTS)
def test_the_labelled_line_is_the_strongest_and_stands_far_above_6_db(
    recordings: Path, file: str, bearing: f.BearingGeometry, shaft_hz: float, line: str
) -> None:
    x, rate_hz = samples_of(recordings / f"{file}.mat", 2.0)
    frequencies = bearing.frequencies(shaft_hz)
    lines = {"bpfo": frequencies.bpfo_hz, "bpfi": frequencies.bpfi_hz, "bsf": 2 * frequencies.bsf_hz}
    for band_hz in (
        (500.0, min(10000.0, rate_hz / 2.56)),
        f.choose_band(x, rate_hz, narrowest_hz=4 * lines[line]).band_hz,
    ):
        levels = {name: level_db(x, rate_hz, band_hz, line_hz) for name, line_hz in lines.items()}
        assert max(levels, key=lambda name: levels[name]) == line
        assert levels[line] > 20.0


@pytest.mark.recordings
def test_no_line_of_a_healthy_bearing_reaches_what_counts_as_one(recordings: Path) -> None:
    for file in ("baseline_1", "baseline_2"):
        x, rate_hz = samples_of(recordings / "mfpt" / f"{file}.mat", 1.0)
        frequencies = MFPT.frequencies(25.0)
        for line_hz in (frequencies.bpfo_hz, frequencies.bpfi_hz, 2 * frequencies.bsf_hz):
            assert level_db(x, rate_hz, (500.0, 10000.0), line_hz) < LINE_LEVEL_DB


@pytest.mark.recordings
def test_every_faulty_recording_is_held_to_its_line_or_the_docs_say_why_not(recordings: Path) -> None:
    files = {
        f"{path.parent.name}/{path.stem}"
        for folder in ("mfpt", "cwru", "uestc", "femto")
        for path in (recordings / folder).glob("*.[mn][ap][tz]")
    }
    healthy = {name for name in files if "baseline" in name or "normal" in name or "/N_" in name}
    assert files - healthy == {name for name, *_ in FAULTS} | OTHERS
    docs = (Path(__file__).resolve().parents[1] / "docs" / "features.md").read_text()
    for text in ("CWRU 118", "FEMTO 1_1", "UESTC"):
        assert f"**{text}" in docs, text


@pytest.mark.recordings
def test_the_ball_of_cwru_118_stands_out_but_is_not_the_strongest_line(recordings: Path) -> None:
    x, rate_hz = samples_of(recordings / "cwru/118_ball_007_12k.mat", 10.0)
    lines = CWRU.frequencies(1796 / 60)
    band_hz = (500.0, rate_hz / 2.56)
    assert level_db(x[: round(2 * rate_hz)], rate_hz, band_hz, 2 * lines.bsf_hz) > 6.0
    ball_db = level_db(x, rate_hz, band_hz, 2 * lines.bsf_hz)
    assert ball_db > LINE_LEVEL_DB
    assert level_db(x, rate_hz, band_hz, lines.bpfo_hz) > ball_db


@pytest.mark.recordings
@pytest.mark.parametrize(("file", "order"), [("O_1000_1", 2.985), ("I_1000_1", 4.92), ("N_1000_1", None)])
def test_uestc_shows_families_that_a_bearing_of_eight_balls_would_have(
    recordings: Path, file: str, order: float | None
) -> None:
    x, rate_hz = samples_of(recordings / "uestc" / f"{file}.mat", 10.0)
    speed = f.estimate_speed(x, rate_hz, (14.0, 19.0))
    band_hz = (500.0, rate_hz / 2.56)
    if order is not None:
        assert level_db(x, rate_hz, band_hz, order * speed.speed_hz) > 20.0
    else:
        for healthy in (2.985, 4.92):
            assert level_db(x, rate_hz, band_hz, healthy * speed.speed_hz) < LINE_LEVEL_DB


@pytest.mark.recordings
def test_femto_shows_no_line_at_all_not_even_at_its_end(recordings: Path) -> None:
    with np.load(recordings / "femto/bearing1_1_every_5th.npz") as content:
        last = content["acceleration_g"][-20:, 0].astype(np.float64)
    frequencies_hz, amplitude = f.envelope_spectrum(last, RATE_HZ, (500.0, 10000.0))
    mean = np.sqrt(np.mean(amplitude**2, axis=0))
    lines = f.CATALOGUE["6804-PRONOSTIA"].frequencies(30.0)
    for line_hz in (lines.bpfo_hz, lines.bpfi_hz, 2 * lines.bsf_hz):
        assert f.line_amplitudes(mean, frequencies_hz[1], line_hz)[1] < LINE_LEVEL_DB
