"""Compact spectra: amplitudes that can be read off, made when they are due, and carried to the far end."""

from __future__ import annotations

import csv
import itertools
import json
import math
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.fft
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_buffer import alarm, features, opened

import pdm_edge as pdm
from pdm_edge.features import FeatureExtractor, FeaturePlan
from pdm_edge.features.envelope import envelope_spectrum
from pdm_edge.features.spectra import SpectrumAverage, SpectrumRecorder
from pdm_edge.features.spectrum import amplitude_spectrum
from pdm_edge.records import (
    AmplitudeSpectrum,
    Quality,
    Stamp,
    Waveform,
    bad,
    level_amplitudes,
    level_codes,
    uncertain,
)
from pdm_edge.store.export import export_csv, export_parquet, export_spectra_npz
from pdm_edge.store.spectra import put_together
from pdm_edge.sync.payload import Encoding, decode_batch, encode_batch

RATE_HZ, N = 12_800.0, 12_800
DB = 10 ** (0.25 / 20)  # half a step of a level


def extractor(unit: pdm.records.WaveformUnit = "g", n_samples: int = N, axes: str = "x") -> FeatureExtractor:
    made = FeatureExtractor(FeaturePlan(RATE_HZ, n_samples, unit, tuple(axes), shaft_hz=24.67))
    made.keeps_lines = True
    return made


def tone(rms: float, hz: float, n_samples: int = N) -> np.ndarray[Any, Any]:
    t = np.arange(n_samples) / RATE_HZ
    return np.array([rms * math.sqrt(2) * np.sin(2 * np.pi * hz * t)], dtype=np.float32)


def window(samples: np.ndarray[Any, Any], n: int, unit: pdm.records.WaveformUnit = "g") -> Waveform:
    stamp = Stamp(10**18 + n * 10**9, n * 10**9, "boot", True)
    return Waveform(
        "de", samples, RATE_HZ, unit, ("x", "y", "z")[: len(samples)], stamp, n * samples.shape[1]
    )


class Bench:
    """A recorder that is shown one window a second."""

    def __init__(self, **how: Any) -> None:
        self.recorder = SpectrumRecorder(**{"every_s": 3600.0, "bins": 800, "averages": 4, **how})
        self.extractor = extractor()
        self.n = 0

    def show(
        self, windows: int, *, rms: float = 1.0, quality: Quality = pdm.records.GOOD, state: str = "running"
    ) -> list[AmplitudeSpectrum]:
        out = []
        for _ in range(windows):
            shown = window(tone(rms, 160), self.n)
            self.n += 1
            self.extractor(shown.samples)
            out += self.recorder.observe(shown, self.extractor, quality=quality, state=state, shaft_hz=24.67)
        return out


# what it says


@pytest.mark.parametrize("bins", [100, 800, 10_000])
def test_a_tone_reads_its_rms_in_g_and_in_mm_s_in_its_bin_however_few_bins_there_are(bins: int) -> None:
    bench = Bench(bins=bins, averages=3)
    acceleration, velocity, _ = bench.show(3, rms=0.5)
    assert (acceleration.quantity, acceleration.unit) == ("acceleration", "g")
    assert (velocity.quantity, velocity.unit) == ("velocity", "mm_s")
    for spectrum, expected in ((acceleration, 0.5), (velocity, 0.5 * 9806.65 / (2 * math.pi * 160))):
        amplitude = spectrum.amplitude[0]
        peak = int(np.argmax(amplitude))
        assert expected / DB < amplitude[peak] < expected * DB
        begins_hz = spectrum.frequencies_hz[peak]
        assert begins_hz - 1e-6 <= 160 < begins_hz + spectrum.bin_hz
        assert spectrum.levels.shape[1] <= bins
    assert velocity.frequencies_hz[0] >= 9.9
    assert velocity.frequencies_hz[-1] <= 1000
    assert acceleration.frequencies_hz[-1] <= RATE_HZ / 2.56


def test_strikes_of_a_bearing_stand_in_the_envelope_at_their_rate() -> None:
    n = np.arange(N)
    struck = np.zeros(N)
    for start in range(0, N - 200, 160):  # 80 strikes a second
        struck[start : start + 200] += np.exp(-n[:200] / 25) * np.sin(2 * np.pi * 3000 * n[:200] / RATE_HZ)
    made = extractor()
    made(struck[None].astype("f4"))
    average = SpectrumAverage(made)
    average.add()
    envelope = average.reduced(800)[-1]
    assert envelope.quantity == "envelope"
    peak_hz = envelope.first_hz + envelope.bin_hz * int(np.argmax(envelope.amplitude[0]))
    assert abs(peak_hz - 80) <= envelope.bin_hz


def test_it_is_the_plain_spectrum_with_the_highest_line_of_each_bin() -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, (3, N)).astype("f4")
    made = extractor(axes="xyz")
    made(samples)
    average = SpectrumAverage(made)
    average.add()
    acceleration, _, envelope = average.reduced(100)
    frequencies_hz, lines = amplitude_spectrum(samples, RATE_HZ)
    for begin, held in zip(range(100), acceleration.amplitude.T, strict=False):
        low_hz = acceleration.first_hz + begin * acceleration.bin_hz
        inside = (frequencies_hz > low_hz - 1e-6) & (frequencies_hz < low_hz + acceleration.bin_hz - 1e-6)
        inside &= frequencies_hz <= made.plan.usable_hz
        assert np.allclose(held, lines[:, inside].max(axis=1), rtol=2e-4)
    band_hz = made.plan.resonance_band_hz()
    assert band_hz is not None
    env_hz, env = envelope_spectrum(samples, RATE_HZ, band_hz)
    assert envelope.amplitude.max() == pytest.approx(env[:, (env_hz >= 2) & (env_hz <= 1000)].max(), rel=1e-3)


def test_on_a_real_damaged_bearing_it_agrees_with_scipy_and_shows_the_outer_race(recordings: Path) -> None:
    from scipy.signal import welch

    from pdm_edge.acquire.recordings import load_recording

    recording = load_recording(recordings / "mfpt" / "OuterRaceFault_vload_1.mat", variable="gs", unit="g")
    rate_hz = recording.sample_rate_hz
    size = scipy.fft.next_fast_len(round(rate_hz / 2), real=True)
    samples = recording.samples[:1, : 4 * size].astype(np.float32)
    made = FeatureExtractor(FeaturePlan(rate_hz, size, "g", ("x",), shaft_hz=25.0))
    made.keeps_lines = True
    average = SpectrumAverage(made)
    for start in range(0, 4 * size, size):
        made(samples[:, start : start + size])
        average.add()
    acceleration, _, envelope = average.reduced(800)
    # SciPy's own mean of four windows, and the highest of its lines in each of our bins.
    peer_hz, power = welch(samples[0], rate_hz, "hann", size, 0, scaling="spectrum", detrend="constant")
    begins_hz = acceleration.first_hz + acceleration.bin_hz * np.arange(acceleration.amplitude.shape[1])
    place = np.searchsorted(begins_hz - 1e-6, peer_hz, side="right") - 1
    for i in range(len(begins_hz) - 1):  # the last bin ends where the sensor does
        expected = np.sqrt(power[place == i].max())
        assert acceleration.amplitude[0][i] == pytest.approx(expected, rel=1e-3)
    # Ball pass frequency of the outer race of this bearing: 3.245 per turn (MFPT fault data sets).
    lines = envelope.amplitude[0]
    begins_hz = envelope.first_hz + envelope.bin_hz * np.arange(len(lines))
    for harmonic in (1, 2):  # less the slip of the balls, a percent or two
        near = (begins_hz + envelope.bin_hz > harmonic * 79.5) & (begins_hz < harmonic * 81.2)
        assert lines[near].max() > 5 * np.median(lines)
    assert lines.max() > 20 * np.median(lines)  # of the healthy one: 3


def test_averaging_leaves_a_tone_and_makes_noise_steadier() -> None:
    rng, made = np.random.default_rng(2), extractor()

    def of(windows: int) -> np.ndarray[Any, Any]:
        average = SpectrumAverage(made)
        for _ in range(windows):
            made(tone(0.5, 160) + rng.normal(0, 0.1, (1, N)).astype("f4"))
            average.add()
        return np.array(average.reduced(10_000)[0].amplitude[0])

    one, many = of(1), of(30)
    assert one.max() == pytest.approx(0.5, rel=0.02)
    assert many.max() == pytest.approx(0.5, rel=0.02)
    noise = slice(1000, None)
    assert many[noise].std() / many[noise].mean() < 0.3 * one[noise].std() / one[noise].mean()


def test_features_are_the_same_with_and_without_spectra() -> None:
    samples = np.random.default_rng(3).normal(0, 0.1, (3, N)).astype("f4")
    kept, plain = extractor(axes="xyz"), extractor(axes="xyz")
    plain.keeps_lines = False
    assert np.array_equal(kept(samples), plain(samples))
    assert plain.lines == []


def test_a_velocity_sensor_has_a_velocity_spectrum_alone() -> None:
    made = extractor("mm_s")
    made(tone(2.0, 160))
    average = SpectrumAverage(made)
    average.add()
    (velocity,) = average.reduced(800)
    assert (velocity.quantity, velocity.unit) == ("velocity", "mm_s")
    assert velocity.amplitude.max() == pytest.approx(2.0, rel=1e-3)


amplitudes = arrays(
    np.float32, (2, 20), elements=st.floats(0, 1e6, width=32, allow_nan=False, allow_infinity=False)
)


@given(amplitudes)
def test_a_level_is_within_a_quarter_of_a_decibel_or_127_db_down(amplitude: Any) -> None:
    top, codes = level_codes(amplitude)
    back = level_amplitudes(top, codes)
    for axis in range(2):
        deep = amplitude[axis] <= top[axis] * 10 ** (-126.5 / 20)
        assert (back[axis][deep] <= top[axis] * 10 ** (-126.5 / 20)).all()
        kept = ~deep
        ratio = back[axis][kept] / amplitude[axis][kept]
        assert ((ratio > 1 / DB / 1.0001) & (ratio < DB * 1.0001)).all()


GOOD_SPECTRUM = AmplitudeSpectrum(
    "de", "velocity", "mm_s", ("x",), (1.5,), np.full((1, 20), 200, np.uint8), 10.0, 2.0, 1.0, 2560.0, 8,
    Stamp(10**18, 0, "boot", True), 24.67, "running 1480 rpm",
)  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"unit": "g"}, "is in 'g'"),
        ({"quantity": "noise"}, "noise spectrum"),
        ({"sample_rate_hz": 0.0}, "sample rate"),
        ({"sample_rate_hz": 80.0}, "reaches 48 Hz"),
        ({"levels": np.zeros((1, 20))}, "levels of float64"),
        ({"levels": np.zeros((2, 20), np.uint8)}, "names 1 axes for 2 rows"),
        ({"top": (math.nan,)}, "highest"),
        ({"bin_hz": 0.0}, "bin_hz"),
        ({"averages": 0}, "at least one window"),
        ({"sensor": "a b"}, "sensor"),
    ],
)
def test_a_spectrum_that_would_be_meaningless_is_refused_at_birth(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(pdm.RecordError, match=says):
        replace(GOOD_SPECTRUM, **wrong)


# when it is made


def test_one_at_the_start_then_one_every_so_often() -> None:
    bench = Bench(every_s=60.0)
    made = bench.show(200)
    starts = sorted({s.stamp.monotonic_ns // 10**9 for s in made})
    assert starts == [0, 60, 120, 180]
    assert all(s.averages == 4 and s.alarm == "" and s.shaft_hz == 24.67 for s in made)
    assert len(made) == 4 * 3


def test_standstill_and_bad_windows_are_waited_out() -> None:
    bench = Bench(every_s=60.0)
    assert bench.show(100, state="stopped") == []
    assert bench.show(2) == []
    assert bench.show(1, quality=bad("open_circuit")) == []
    assert bench.show(3) == []
    made = bench.show(1, quality=uncertain("clipped"))
    assert {s.stamp.monotonic_ns // 10**9 for s in made} == {103}
    assert {str(s.quality) for s in made} == {"uncertain (clipped)"}


def test_a_change_of_the_alarm_state_brings_spectra_of_the_window_that_changed_it() -> None:
    bench = Bench(every_s=0.0)
    assert bench.show(50) == []
    bench.show(1, rms=8.0)
    assert bench.recorder.ask("pump@boot:1") == []
    made = bench.show(3, rms=8.0)
    assert {(s.alarm, s.averages, s.stamp.monotonic_ns // 10**9) for s in made} == {("pump@boot:1", 4, 50)}
    assert made[0].amplitude.max() == pytest.approx(8.0, rel=0.03)
    assert bench.show(50) == []


def test_a_machine_that_is_stopped_on_its_alarm_still_leaves_its_spectrum() -> None:
    bench = Bench(every_s=0.0)
    bench.show(1, rms=8.0)
    bench.recorder.ask("pump@boot:1")
    bench.show(1, rms=8.0)
    made = bench.show(1, state="stopped")
    assert {(s.alarm, s.averages) for s in made} == {("pump@boot:1", 2)}
    bench.show(1, rms=8.0)
    bench.recorder.ask("pump@boot:2")
    assert {(s.alarm, s.averages) for s in bench.recorder.rest()} == {("pump@boot:2", 1)}


def test_a_machine_makes_them_at_start_and_on_each_change(tmp_path: Path) -> None:
    raw = {
        "id": "pump",
        "rated_speed_rpm": 1480,
        "iso20816": {"group": 2, "support": "rigid"},
        "detect": {"learn_windows": 0},
        "spectrum": {"averages": 2},
        "sensor": [{"id": "de", "source": "host://"}, {"id": "nde", "source": "host://"}],
    }
    machine = pdm.Machine(pdm.parse_machine(raw, where="test"), models=tmp_path)
    records: list[pdm.records.Record] = []
    noise = np.random.default_rng(4)
    for n, rms in enumerate([0.01] * 8 + [1.0] * 8 + [0.01] * 12):
        for sensor in ("de", "nde"):
            samples = tone(rms, 100) + noise.normal(0, 1e-4, (1, N)).astype("f4")
            records += machine.take(replace(window(samples, n), sensor=sensor))
    changes = [r for r in records if isinstance(r, pdm.Advisory)]
    spectra = [r for r in records if isinstance(r, AmplitudeSpectrum)]
    assert [c.state for c in changes] == ["normal", "alarm", "normal"]
    assert {(s.sensor, s.quantity) for s in spectra} == set(
        itertools.product(("de", "nde"), ("acceleration", "velocity", "envelope"))
    )
    assert {s.alarm for s in spectra} == {"", *(c.id for c in changes)}
    assert len(spectra) == 4 * 6
    of_alarm = [s for s in spectra if s.alarm == changes[1].id and s.quantity == "velocity"]
    assert all(s.amplitude.max() == pytest.approx(9806.65 / (200 * math.pi), rel=0.03) for s in of_alarm)


def test_none_at_all_and_what_makes_no_sense(tmp_path: Path) -> None:
    raw: dict[str, Any] = {"id": "pump", "sensor": [{"id": "de", "source": "host://"}]}
    none = pdm.Machine(pdm.parse_machine({**raw, "spectrum": {"bins": 0}}, where="t"), models=tmp_path)
    records = [r for n in range(12) for r in none.take(window(tone(0.1, 100), n))]
    assert not [r for r in records if isinstance(r, AmplitudeSpectrum)]
    for wrong in ({"every_s": 1}, {"bins": 3}, {"averages": 0}, {"every": 3}):
        with pytest.raises(pdm.ConfigError, match="spectrum"):
            pdm.parse_machine({**raw, "spectrum": wrong}, where="test")


# buffer, wire, export


def made(n: int = 3) -> list[AmplitudeSpectrum]:
    bench = Bench(every_s=10.0, averages=2)
    spectra = bench.show(10 * n)
    return [replace(s, alarm="pump@boot:1") if i < 3 else s for i, s in enumerate(spectra)]


def same(a: AmplitudeSpectrum, b: AmplitudeSpectrum) -> bool:
    plain = replace(a, levels=b.levels)
    fields = [f for f in AmplitudeSpectrum.__slots__ if f != "levels"]
    return np.array_equal(a.levels, b.levels) and all(getattr(plain, f) == getattr(b, f) for f in fields)


def test_the_buffer_gives_spectra_back_as_they_were(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")
    spectra = made()
    buffer.write(spectra)
    batch = buffer.next_batch(100)
    assert batch is not None
    assert batch.lane == "spectrum"
    assert all(same(a, put_together(row)) for a, row in zip(spectra, batch.rows, strict=True))
    assert buffer.status().lanes["spectrum"].rows == len(spectra)
    buffer.close()


@pytest.mark.parametrize("encoding", ["json", "cbor"])
def test_the_far_end_reads_amplitudes_in_their_unit(tmp_path: Path, encoding: Encoding) -> None:
    buffer = opened(tmp_path / "b.db")
    spectra = made()
    buffer.write(spectra)
    batch = buffer.next_batch(100)
    assert batch is not None
    received = decode_batch(encode_batch(batch, 0, encoding=encoding))
    for row, spectrum in zip(received.rows, spectra, strict=True):
        context, body = json.loads(row.context), json.loads(row.body)
        assert (row.kind, row.subject, context["unit"]) == ("spectrum", "de", spectrum.unit)
        assert context["bin_hz"] == spectrum.bin_hz
        assert context["resolution_hz"] == 1.0
        assert body["averages"] == 2
        assert np.allclose(body["amplitude"]["x"], spectrum.amplitude[0], rtol=6e-3)
    buffer.close()


def test_a_spectrum_that_is_none_is_refused_by_the_far_end(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")
    buffer.write(made(1))
    batch = buffer.next_batch(100)
    assert batch is not None
    for body in (b"{}", b'{"levels":"AAAA","top":[1],"averages":1,"shaft_hz":null}', b"[]"):
        broken = replace(batch, rows=tuple(replace(row, body=body) for row in batch.rows))
        with pytest.raises(pdm.SyncError, match="is no batch"):
            decode_batch(encode_batch(broken, 0))
    buffer.close()


def test_export_has_a_line_a_bin_with_units_in_its_headings(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db")
    spectra = made()
    buffer.write(spectra)
    buffer.close()
    rows = export_csv(tmp_path / "b.db", tmp_path / "s.csv", what="spectra")
    assert rows == sum(s.levels.size for s in spectra)
    with (tmp_path / "s.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    loudest = max(lines, key=lambda line: float(line["velocity [mm_s]"] or 0))
    assert float(loudest["velocity [mm_s]"]) == pytest.approx(9806.65 / (2 * math.pi * 160), rel=0.03)
    assert float(loudest["bin begins [hz]"]) <= 160 < float(loudest["bin begins [hz]"]) + 2 * 1.25
    pq = pytest.importorskip("pyarrow.parquet")
    assert export_parquet(tmp_path / "b.db", tmp_path / "s.parquet", what="spectra") == rows
    table = pq.read_table(tmp_path / "s.parquet")
    assert table.schema.field("velocity [mm_s]").metadata == {b"unit": b"mm_s"}
    assert export_spectra_npz(tmp_path / "b.db", tmp_path / "s.npz", alarm="pump@boot:1") == 3
    with np.load(tmp_path / "s.npz") as held:
        assert list(held["quantity"]) == ["acceleration", "velocity", "envelope"]
        assert held["de_velocity_1"].shape == spectra[1].levels.shape
        assert list(held["unit"]) == ["g", "mm_s", "g"]


def test_when_the_buffer_is_full_spectra_go_before_features_and_are_thinned_not_holed(tmp_path: Path) -> None:
    buffer = opened(tmp_path / "b.db", max_mb=4)
    spectra = made(2)
    buffer.write([alarm(0)])
    for n in range(2000):
        buffer.write([features(2 * n), features(2 * n + 1), *(spectra * 3)])
        if buffer.status().lanes["spectrum"].evicted > 1500:
            break
    status = buffer.status()
    assert status.lanes["spectrum"].evicted > 1500
    assert status.lanes["feature"].evicted == 0
    assert status.lanes["alarm"].rows == 1
    connection = sqlite3.connect(tmp_path / "b.db")
    numbers = [n for (n,) in connection.execute("SELECT seq FROM outbox_spectrum ORDER BY seq")]
    gaps = [json.loads(b) for (b,) in connection.execute("SELECT body FROM records WHERE kind = 'gap'")]
    connection.close()
    assert numbers[0] < 1000 + min(g["first"] for g in gaps)  # the oldest days are still told
    assert sum(g["lost"] for g in gaps) == status.evicted
    buffer.close()
