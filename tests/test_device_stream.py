"""Frames to measurements without a line: ten minutes to the sample, restarts, faults of the device."""

from __future__ import annotations

import dataclasses
import logging
from fractions import Fraction

import numpy as np
import pytest

from firmware_bridge import (
    INVALID,
    Data,
    Descriptor,
    Frame,
    Log,
    Message,
    Scalar,
    Scalars,
    SensorDescriptor,
    SensorStatus,
    Status,
    StreamDecoder,
    counts_to_bytes,
    encode_frame,
)
from pdm_edge.acquire.device_stream import DeviceStream
from pdm_edge.records import Gap, Measurement, Reading, Stamp, Waveform

TICK_HZ = 25_000_000  # wraps every 172 s
RATE_HZ = 6400
N = 256


def descriptor(boot: int = 1, revision: int = 0, scale: float = 1.0, format: str = "int16") -> Descriptor:
    sensor = SensorDescriptor(0, "de", "g", format, ("x",), Fraction(RATE_HZ), scale)
    return Descriptor("dev", "1", TICK_HZ, (sensor,), boot, revision)


def value(sample: np.ndarray[tuple[int], np.dtype[np.int64]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return (sample * 7919) % 65521 - 32760


def at(seconds_s: float) -> Stamp:
    ns = 10**12 + round(seconds_s * 1e9)
    return Stamp(ns, ns, "boot", True)


class Feeder:
    """A device whose clock is off, on a line that delivers late."""

    def __init__(self, *, drift_ppm: float = 0.0) -> None:
        self.stream = DeviceStream("test", {0: "de"})
        self.decoder = StreamDecoder()
        self.sequence = 0
        self.boot = 1
        self.revision = 0
        self.started_s = 0.0
        self._pace = 1 - drift_ppm * 1e-6
        self._random = np.random.default_rng(11)

    def send(self, message: Message, true_s: float, tick_s: float | None = None) -> list[Measurement]:
        tick = round(((true_s if tick_s is None else tick_s) - self.started_s) * self._pace * TICK_HZ)
        wire = encode_frame(message, sequence=self.sequence, tick=tick)
        self.sequence += 1
        late_s = float(self._random.exponential(0.004))
        got: list[Measurement] = []
        for frame in self.decoder.feed(wire):
            got += self.stream.take(frame, at(true_s + late_s))
        return got

    def block(self, first: int, n: int = N, flags: int = 0, rate_hz: float = RATE_HZ) -> list[Measurement]:
        raw = counts_to_bytes(value(np.arange(first, first + n))[None, :], "int16")
        begun_s = self.started_s + first / rate_hz
        data = Data(0, first, n, raw, flags, self.boot, self.revision)
        return self.send(data, begun_s + n / rate_hz, begun_s)


def test_ten_minutes_have_no_invented_and_no_missing_sample_and_stamps_to_a_tenth_of_a_millisecond() -> None:
    """40 ppm of drift, 4 ms of jitter, three wraps of the tick, a lost frame every minute or so."""
    feeder = Feeder(drift_ppm=40.0)
    rate_hz = RATE_HZ / (1 + 40e-6)  # the device's second is longer than ours
    feeder.send(descriptor(), 0.0)
    lost_frames = set(np.random.default_rng(2).integers(100, 14_900, 10).tolist())
    expected, told, errors_ms = 0, 0, []
    for frame in range(15_000):
        if frame in lost_frames:
            feeder.sequence += 1
            continue
        for measurement in feeder.block(frame * N, rate_hz=rate_hz):
            if isinstance(measurement, Gap):
                assert (measurement.first, measurement.lost) == (expected, frame * N - expected)
                told += measurement.lost
            elif isinstance(measurement, Waveform):
                first = measurement.first_sample
                np.testing.assert_array_equal(measurement.samples[0], value(np.arange(first, first + N)))
                expected = first + N
                true_ns = 10**12 + first / rate_hz * 1e9
                errors_ms.append((measurement.stamp.monotonic_ns - true_ns) / 1e6)
    assert expected == 15_000 * N == 10 * 60 * RATE_HZ
    assert told == len(lost_frames) * N
    assert feeder.stream.counters["lost_samples"] == told
    assert feeder.decoder.counters.lost_frames == len(lost_frames)
    assert feeder.stream.counters["restarts"] == 0
    settled = np.array(errors_ms[500:])
    assert np.abs(settled).max() < 0.5
    assert settled.std() < 0.1


def test_samples_are_never_scaled_by_a_descriptor_of_another_time() -> None:
    """The new DESCRIPTOR is lost: what it describes is dropped until the device is asked again."""
    feeder = Feeder()
    feeder.send(descriptor(scale=1.0), 0.0)
    assert len(feeder.block(0)) == 1
    feeder.revision = 1
    assert feeder.block(N) == []
    assert feeder.stream.needs_descriptor
    assert feeder.stream.counters["other_descriptor"] == 1
    feeder.send(descriptor(revision=1, scale=2.0), 0.2)
    gap, waveform = feeder.block(2 * N)
    assert isinstance(gap, Gap)
    assert gap.lost == N
    assert isinstance(waveform, Waveform)
    np.testing.assert_array_equal(waveform.samples[0], 2 * value(np.arange(2 * N, 3 * N)))


def test_a_restart_right_after_the_start_is_not_taken_for_a_repetition() -> None:
    feeder = Feeder()
    feeder.send(descriptor(boot=1), 0.0)
    feeder.block(0)
    feeder.block(N)
    feeder.boot, feeder.started_s, feeder.sequence = 2, 3.0, 0
    feeder.send(descriptor(boot=2), 3.0)
    gap, waveform = feeder.block(0)
    assert isinstance(gap, Gap)
    assert "restarted" in gap.why
    assert gap.lost == pytest.approx((3.0 - 2 * N / RATE_HZ) * RATE_HZ, abs=0.03 * RATE_HZ)
    assert isinstance(waveform, Waveform)
    assert waveform.first_sample == 0


def test_a_restart_that_has_counted_further_than_before_is_not_taken_for_a_loss() -> None:
    feeder = Feeder()
    feeder.send(descriptor(boot=1), 0.0)
    feeder.block(0)
    feeder.boot, feeder.started_s = 2, 5.0
    feeder.send(descriptor(boot=2), 5.0)
    gap, _ = feeder.block(100 * N)
    assert isinstance(gap, Gap)
    assert gap.first is None
    assert "restarted" in gap.why


def test_another_device_at_the_same_line_does_not_continue_the_count_of_the_first() -> None:
    feeder = Feeder()
    feeder.send(descriptor(), 0.0)
    feeder.block(0)
    feeder.stream.forget_descriptor()
    feeder.send(dataclasses.replace(descriptor(), device_id="another"), 1.0)
    gap, _ = feeder.block(100 * N)
    assert isinstance(gap, Gap)
    assert gap.first is None
    assert "exchanged" in gap.why
    assert feeder.stream.counters["devices_exchanged"] == 1


def test_repeated_data_and_scalars_are_dropped_and_counted() -> None:
    feeder = Feeder()
    feeder.send(descriptor(), 0.0)
    raw = counts_to_bytes([[1, 2]], "int16")
    data = Frame(5, 1000, Data(0, 0, 2, raw, boot=1))
    scalars = Frame(6, 2000, Scalars((Scalar(0, "temperature", 20.0),)))
    got = [m for frame in (data, scalars, data, scalars) for m in feeder.stream.take(frame, at(1.0))]
    assert [type(m) for m in got] == [Waveform, Reading]
    assert feeder.stream.counters["repeated"] == 2


def test_samples_that_are_no_measurement_are_bad() -> None:
    feeder = Feeder()
    feeder.send(descriptor(), 0.0)
    (waveform,) = feeder.block(0, flags=INVALID)
    assert isinstance(waveform, Waveform)
    assert str(waveform.quality) == "bad (device)"


def test_samples_that_are_no_number_are_bad_and_counted() -> None:
    feeder = Feeder()
    feeder.send(descriptor(format="float32"), 0.0)
    raw = np.array([1.0, np.nan], dtype="<f4").tobytes()
    (waveform,) = feeder.send(Data(0, 0, 2, raw, boot=1), 1.0)
    assert isinstance(waveform, Waveform)
    assert str(waveform.quality) == "bad (nonfinite)"
    assert feeder.stream.counters["nonfinite"] == 1


@pytest.mark.parametrize(
    ("status", "quality"),
    [
        (Status(1, sensors=(SensorStatus(0, "streaming"),)), "good"),
        (Status(1, self_test="failed", sensors=(SensorStatus(0, "streaming"),)), "uncertain (device)"),
        (Status(1, sensors=(SensorStatus(0, "fault"),)), "bad (device)"),
    ],
)
def test_what_a_device_says_of_its_own_health_marks_its_samples(status: Status, quality: str) -> None:
    feeder = Feeder()
    feeder.send(descriptor(), 0.0)
    feeder.send(status, 0.0)
    (waveform,) = feeder.block(0)
    assert isinstance(waveform, Waveform)
    assert str(waveform.quality) == quality
    feeder.send(Status(2, 7, 8, sensors=(SensorStatus(0, "streaming", 9, 10),)), 0.1)
    (waveform,) = feeder.block(N)
    assert isinstance(waveform, Waveform)
    assert waveform.quality.level == "good"
    counters = feeder.stream.counters
    assert [counters[f"device_{n}"] for n in ("dropped_frames", "damaged_frames")] == [7, 8]
    assert [counters[f"device_{n}"] for n in ("dropped_samples", "clipped_samples")] == [9, 10]


def test_a_chatty_device_cannot_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    feeder = Feeder()
    with caplog.at_level(logging.DEBUG):
        for i in range(100):
            feeder.send(Log("error", f"help {i}\nforged line"), 1.0)
    said = [r for r in caplog.records if "device says" in r.getMessage()]
    assert len(said) == 20
    assert not any("\n" in r.getMessage() for r in said)
    assert feeder.stream.counters["device_logs_dropped"] == 80


def test_a_clock_that_is_far_off_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    feeder = Feeder(drift_ppm=20_000)
    feeder.send(descriptor(), 0.0)
    for frame in range(2000):
        feeder.block(frame * N, rate_hz=RATE_HZ / 1.02)
    assert len([r for r in caplog.records if "clock is off by 2.0" in r.getMessage()]) == 1
