"""Recordings: rate and unit from the file or from the user, never from a guess."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from pdm_edge.acquire import open_source
from pdm_edge.acquire.recordings import load_recording
from pdm_edge.clock import FixedClock
from pdm_edge.errors import ConfigError, PdmError, SourceError
from pdm_edge.ports import Source
from pdm_edge.records import Reading, Waveform

X = np.sin(np.arange(1000) / 7.0)


def npz(folder: Path, **content: Any) -> Path:
    file = folder / "r.npz"
    np.savez(file, **content)
    return file


def play(source: Source) -> list[Any]:
    out: list[Any] = []
    while not source.ended:
        out.extend(source.read(0.1))
    source.close()
    return out


def test_npz_states_rate_and_unit_itself(tmp_path: Path) -> None:
    recording = load_recording(npz(tmp_path, x=X, sample_rate_hz=5000.0, unit="g"))
    assert (recording.sample_rate_hz, recording.unit, recording.axes) == (5000.0, "g", ("x",))
    np.testing.assert_allclose(recording.samples[0], X, rtol=1e-6)


def test_the_unit_may_be_in_the_name_and_snapshots_are_put_end_to_end(tmp_path: Path) -> None:
    snapshots = np.arange(24.0).reshape(3, 2, 4)
    recording = load_recording(npz(tmp_path, acceleration_g=snapshots, sample_rate_hz=100.0))
    assert recording.unit == "g"
    np.testing.assert_array_equal(recording.samples[0], [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"unit": "g"}, "does not state its sample_rate_hz. Give sample_rate_hz="),
        ({"sample_rate_hz": 5000.0}, "does not state its unit. Give unit="),
        ({"sample_rate_hz": 5000.0, "unit": "V"}, "unit 'V' is none of g, m_s2, mm_s"),
        ({"sample_rate_hz": -1.0, "unit": "g"}, "must be a positive number"),
    ],
)
def test_missing_rate_or_unit_is_refused_with_the_mend(
    tmp_path: Path, given: dict[str, Any], says: str
) -> None:
    file = npz(tmp_path, x=X)
    with pytest.raises(ConfigError) as caught:
        load_recording(file, **given)
    assert says in str(caught.value)
    assert str(caught.value).startswith(str(file))


def test_a_rate_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    file = npz(tmp_path, x=X, sample_rate_hz=5000.0, unit="g")
    with pytest.raises(ConfigError, match=r"states sample_rate_hz 5000\.0, but 12000\.0 was given"):
        load_recording(file, sample_rate_hz=12000.0)


def test_several_arrays_need_a_name_or_a_pattern(tmp_path: Path) -> None:
    file = npz(tmp_path, drive=X, fan=2 * X, sample_rate_hz=5000.0, unit="g")
    with pytest.raises(ConfigError, match=r"several arrays: drive, fan\. Name one with variable="):
        load_recording(file)
    np.testing.assert_allclose(load_recording(file, variable="f*").samples[0], 2 * X, rtol=1e-6)
    with pytest.raises(ConfigError, match="fits 0 of"):
        load_recording(file, variable="z*")


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_wav_reads_full_scale_as_one_times_scale(tmp_path: Path, width: int) -> None:
    file = tmp_path / "r.wav"
    half = 1 << (8 * width - 2)
    values = (half, -half)
    if width == 1:  # 8-bit samples are unsigned, around 128
        frames = bytes(v + 128 for v in values)
    else:
        frames = b"".join(v.to_bytes(width, "little", signed=True) for v in values)
    with wave.open(str(file), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(width)
        stream.setframerate(44100)
        stream.writeframes(frames)
    recording = load_recording(file, unit="g", scale=50.0)
    np.testing.assert_allclose(recording.samples, [[25.0, -25.0]])
    assert recording.sample_rate_hz == 44100.0
    with pytest.raises(ConfigError, match="does not state its unit"):
        load_recording(file)


@pytest.mark.parametrize("separator", [",", ";"])
def test_csv_columns_are_arrays(tmp_path: Path, separator: str) -> None:
    file = tmp_path / "r.csv"
    file.write_text(f"time{separator}vib_g\n" + "".join(f"2020{separator}{v}\n" for v in X))
    recording = load_recording(file, sample_rate_hz=100.0, variable="vib_g")
    assert recording.unit == "g"
    np.testing.assert_allclose(recording.samples[0], X, rtol=1e-6)


def test_csv_without_a_header_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "r.csv"
    file.write_text("1.0,2.0\n3.0,4.0\n")
    with pytest.raises(ConfigError, match="has no header"):
        load_recording(file, sample_rate_hz=100.0, unit="g")


def test_mat_structs_are_opened(tmp_path: Path) -> None:
    file = tmp_path / "r.mat"
    savemat(file, {"bearing": {"gs": X, "sr": 97656, "load": 270, "rate": 25}})
    recording = load_recording(file)
    assert (recording.sample_rate_hz, recording.unit) == (97656.0, "g")


@pytest.mark.parametrize("suffix", [".npz", ".mat", ".wav"])
def test_a_truncated_file_is_refused_clearly(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".npz":
        np.savez(whole, x=X)
    elif suffix == ".mat":
        savemat(whole, {"x": X})
    else:
        with wave.open(str(whole), "wb") as stream:
            stream.setparams((1, 2, 8000, 0, "NONE", ""))
            stream.writeframes(bytes(100))
    content = whole.read_bytes()
    for length in (0, 1, 10, 30, len(content) // 2):
        file = tmp_path / f"cut{suffix}"
        file.write_bytes(content[:length])
        with pytest.raises(PdmError, match="cut"):
            # A .wav cut within its samples is still a .wav: it has no unit, and is refused for that.
            load_recording(file, sample_rate_hz=1.0 if suffix == ".npz" else None)


def test_an_absent_or_unknown_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        load_recording(tmp_path / "absent.npz")
    with pytest.raises(ConfigError, match=r"unknown kind of recording '\.tdms'. Known"):
        load_recording(tmp_path / "r.tdms")


def test_resampling_keeps_the_amplitude_of_what_fits(tmp_path: Path) -> None:
    t = np.arange(48000) / 48000.0
    file = npz(tmp_path, x=np.sin(2 * np.pi * 1000 * t), sample_rate_hz=48000.0, unit="g")
    recording = load_recording(file, resample_hz=12000.0)
    assert recording.sample_rate_hz == 12000.0
    middle = recording.samples[0, 1000:-1000]
    assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(1.0, rel=0.01)


def test_a_replay_is_contiguous_timed_by_itself_and_the_same_every_time(tmp_path: Path) -> None:
    file = npz(tmp_path, x=X, sample_rate_hz=1000.0, unit="g")
    runs = [play(open_source(f"replay://{file}", clock=FixedClock(), sensor="de")) for _ in range(2)]
    for waveforms in runs:
        assert all(isinstance(w, Waveform) for w in waveforms)
        assert [w.first_sample for w in waveforms] == [0, 250, 500, 750]
        assert [w.stamp.utc_ns for w in waveforms] == [0, 250_000_000, 500_000_000, 750_000_000]
    joined = [np.concatenate([w.samples for w in run], axis=1) for run in runs]
    np.testing.assert_array_equal(joined[0], joined[1])
    np.testing.assert_allclose(joined[0][0], X, rtol=1e-6)


def test_scalar_columns_become_readings_with_their_unit(tmp_path: Path) -> None:
    file = tmp_path / "process.csv"
    file.write_text("datetime;Temperature;Volume Flow\n1;40.5;3.0\n2;;3.5\n")
    url = f"replay://{file}?sample_rate_hz=1&columns=Temperature:degc,Volume%20Flow:l_min"
    readings = play(open_source(url, clock=FixedClock(), sensor="p"))
    assert all(isinstance(r, Reading) for r in readings)
    assert [(r.quantity, r.unit) for r in readings[:2]] == [("Temperature", "degc"), ("VolumeFlow", "l_min")]
    assert [r.quality.level for r in readings] == ["good", "good", "bad", "good"]
    assert readings[3].stamp.utc_ns == 1_000_000_000


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("opc://plc", "unknown source 'opc://plc'. A source starts with serial"),
        ("serial:///dev/ttyACM0", "baud rate. Write serial:///dev/ttyACM0?baud="),
        ("serial:///dev/ttyACM0?baud=0", "baud rate"),
        ("serial:///dev/ttyACM0?baud=9600&speed=2", "unknown option 'speed'. Known are baud"),
        ("replay:///r.npz?rate=3", "unknown option 'rate'. Known are sample_rate_hz"),
        ("replay:///r.npz?sample_rate_hz=fast", "must be a positive number"),
        ("replay:///r.csv?columns=T:degc", "columns need sample_rate_hz="),
        ("replay:///r.csv?columns=T&sample_rate_hz=1", "column 'T' has no unit"),
        ("modbus+tcp://host", "no registers to read"),
    ],
)
def test_a_source_that_cannot_be_opened_says_why(url: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_source(url, clock=FixedClock(), sensor="s")
    assert says in str(caught.value)


@pytest.mark.recordings
@pytest.mark.parametrize(
    ("file", "options", "rate_hz", "unit", "n"),
    [
        ("mfpt/baseline_1.mat", {}, 97656.0, "g", 585936),
        ("mfpt/OuterRaceFault_vload_1.mat", {}, 48828.0, "g", 146484),
        (
            "cwru/105_inner_007_12k.mat",
            {"sample_rate_hz": 12000.0, "unit": "g", "variable": "*DE_time"},
            12000.0,
            "g",
            121265,
        ),
        ("uestc/N_1000_1.mat", {"unit": "m_s2", "scale": 97.85}, 20000.0, "m_s2", 262144),
        ("femto/bearing1_1_every_5th.npz", {}, 25600.0, "g", 561 * 2560),
    ],
)
def test_real_recordings_are_read(
    recordings: Path, file: str, options: dict[str, Any], rate_hz: float, unit: str, n: int
) -> None:
    recording = load_recording(recordings / file, **options)
    assert (recording.sample_rate_hz, recording.unit, recording.samples.shape[1]) == (rate_hz, unit, n)
    assert 0.001 < float(np.std(recording.samples)) < 100.0
