"""SerialSource on a real pseudo terminal: pieces, noise, loss, unplugging, restarts."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge import (
    CLIPPED,
    Command,
    Data,
    Descriptor,
    Scalar,
    Scalars,
    SensorDescriptor,
    StreamDecoder,
    counts_to_bytes,
    encode_frame,
)
from pdm_edge.acquire.serial_link import SerialSource
from pdm_edge.clock import SystemClock
from pdm_edge.records import Gap, Measurement, Reading, Waveform

RATE_HZ = 1000


def descriptor(rate_hz: int = RATE_HZ) -> Descriptor:
    sensors = (
        SensorDescriptor(0, "drive end", "g", "int16", ("x",), Fraction(rate_hz), 0.001),
        SensorDescriptor(1, "fan end", "g", "int16", ("x",), Fraction(rate_hz), 0.001),
    )
    return Descriptor("dev-1", "1.0", 1_000_000, sensors)


class Device:
    """The far end of the line: sends frames, sees what it is asked."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.sequence = 0
        self.asked = StreamDecoder()

    def send(self, message: Descriptor | Data | Scalars, tick: int = 0) -> None:
        self.raw(encode_frame(message, sequence=self.sequence, tick=tick))
        self.sequence += 1

    def raw(self, content: bytes) -> None:
        os.write(self.fd, content)

    def block(self, first: int, n: int = 10, *, sensor: int = 0, flags: int = 0) -> None:
        counts = np.arange(first, first + n)[None, :] % 1000
        self.send(Data(sensor, first, n, counts_to_bytes(counts, "int16"), flags), tick=first * 1000)


@pytest.fixture
def line() -> Iterator[tuple[Device, str]]:
    import tty

    master, slave = os.openpty()
    tty.setraw(slave)
    yield Device(master), os.ttyname(slave)
    os.close(slave)
    os.close(master)


@pytest.fixture
def source(line: tuple[Device, str]) -> Iterator[SerialSource]:
    opened = SerialSource(line[1], baud=921600, clock=SystemClock(), sensor_ids={0: "de"})
    opened.read(0.01)
    yield opened
    opened.close()


def collect(
    source: SerialSource, enough: Callable[[list[Measurement]], bool], within_s: float = 5.0
) -> list[Measurement]:
    """Read until `enough` is true of all that came."""
    got: list[Measurement] = []
    deadline = time.monotonic() + within_s
    while not enough(got):
        assert time.monotonic() < deadline, f"got only {got}; {source.counters()}"
        got.extend(source.read(0.05))
    return got


def counted(source: SerialSource, name: str) -> Callable[[list[Measurement]], bool]:
    return lambda _got: source.counters().get(name, 0) > 0


def test_waveforms_arrive_with_rate_unit_axes_and_count(
    line: tuple[Device, str], source: SerialSource
) -> None:
    device = line[0]
    device.send(descriptor())
    device.block(0)
    device.block(10)
    first, second = collect(source, lambda got: len(got) >= 2)
    assert isinstance(first, Waveform)
    assert isinstance(second, Waveform)
    assert (first.sensor, first.sample_rate_hz, first.unit, first.axes) == ("de", 1000.0, "g", ("x",))
    np.testing.assert_allclose(first.samples, [np.arange(10) * 0.001], rtol=1e-6)
    assert second.first_sample == first.first_sample + first.n_samples
    assert second.quality.level == "good"
    assert second.stamp.monotonic_ns >= first.stamp.monotonic_ns


def test_the_device_is_asked_to_describe_itself(line: tuple[Device, str], source: SerialSource) -> None:
    frames = line[0].asked.feed(os.read(line[0].fd, 4096))
    assert [frame.message for frame in frames] == [Command("identify")]


def test_data_before_the_descriptor_are_dropped_and_counted(
    line: tuple[Device, str], source: SerialSource
) -> None:
    line[0].block(0)
    assert collect(source, counted(source, "before_descriptor")) == []
    line[0].send(descriptor())
    line[0].block(10)
    assert len(collect(source, lambda got: len(got) >= 1)) == 1


def test_garbage_between_frames_costs_no_good_frame(line: tuple[Device, str], source: SerialSource) -> None:
    device, random = line[0], np.random.default_rng(5)
    device.send(descriptor())
    for block in range(20):
        device.raw(random.integers(1, 256, 40, dtype=np.uint8).tobytes() + b"\x00")
        device.block(10 * block)
    got = collect(source, lambda got: len(got) >= 20)
    assert [w.first_sample for w in got if isinstance(w, Waveform)] == list(range(0, 200, 10))
    assert not any(isinstance(m, Gap) for m in got)
    counters = source.counters()
    assert counters["bad_crc"] + counters["bad_cobs"] + counters["bad_length"] == 20


def test_bad_crc_is_dropped_counted_and_its_samples_are_an_exact_gap(
    line: tuple[Device, str], source: SerialSource
) -> None:
    device = line[0]
    device.send(descriptor())
    device.block(0)
    counts = counts_to_bytes(np.zeros((1, 10), dtype=int), "int16")
    wire = bytearray(encode_frame(Data(0, 10, 10, counts), sequence=2, tick=0))
    wire[-3] ^= 0x40
    device.raw(bytes(wire))
    device.sequence += 1
    device.block(20)
    got = collect(source, lambda got: len(got) >= 3)
    gap = got[1]
    assert isinstance(gap, Gap)
    assert (gap.origin, gap.what, gap.lost, gap.first, gap.last) == ("de", "samples", 10, 10, 19)
    last = got[2]
    assert isinstance(last, Waveform)
    assert last.quality.reasons == ("gap",)
    assert source.counters()["bad_crc"] == 1
    assert source.counters()["lost_samples"] == 10
    assert source.counters()["lost_frames"] == 1


def test_repeated_samples_are_dropped_and_counted(line: tuple[Device, str], source: SerialSource) -> None:
    device = line[0]
    device.send(descriptor())
    for first in (0, 10, 10, 20):
        device.block(first)
    got = collect(source, lambda got: len(got) >= 3)
    assert [w.first_sample for w in got if isinstance(w, Waveform)] == [0, 10, 20]
    assert source.counters()["repeated"] == 1


def test_clipping_marks_quality(line: tuple[Device, str], source: SerialSource) -> None:
    line[0].send(descriptor())
    line[0].block(0, flags=CLIPPED)
    (waveform,) = collect(source, lambda got: len(got) >= 1)
    assert waveform.quality.reasons == ("clipped",) if isinstance(waveform, Waveform) else False


def test_scalars_become_readings_and_nan_is_dropped_and_counted(
    line: tuple[Device, str], source: SerialSource
) -> None:
    line[0].send(descriptor())
    values = (Scalar(0, "temperature", 41.5), Scalar(0, "supply", float("nan")))
    line[0].send(Scalars(values))
    (reading,) = collect(source, lambda got: len(got) >= 1)
    assert isinstance(reading, Reading)
    assert (reading.sensor, reading.quantity, reading.value, reading.unit) == (
        "de",
        "temperature",
        41.5,
        "degc",
    )
    assert source.counters()["bad_scalars"] == 1


def test_a_sensor_that_is_not_configured_is_counted_and_named_once(
    line: tuple[Device, str], source: SerialSource, caplog: pytest.LogCaptureFixture
) -> None:
    line[0].send(descriptor())
    line[0].block(0, sensor=1)
    line[0].block(10, sensor=1)
    assert collect(source, lambda _: source.counters().get("unmapped", 0) == 2) == []
    assert [r for r in caplog.records if "channel = 1" in r.getMessage()] != []


def test_a_restarted_device_is_no_loss_of_samples(line: tuple[Device, str], source: SerialSource) -> None:
    device = line[0]
    device.send(descriptor())
    device.block(100_000)
    device.block(0)
    got = collect(source, lambda got: len(got) >= 3)
    assert isinstance(got[1], Gap)
    assert got[1].first is None
    assert "restarted" in got[1].why
    assert source.counters()["restarts"] == 1


def test_a_new_rate_applies_from_its_descriptor_on(line: tuple[Device, str], source: SerialSource) -> None:
    device = line[0]
    device.send(descriptor())
    device.block(0)
    device.send(descriptor(rate_hz=2000))
    device.block(10)
    got = collect(source, lambda got: len(got) >= 2)
    assert [w.sample_rate_hz for w in got if isinstance(w, Waveform)] == [1000.0, 2000.0]


def test_an_absent_port_is_no_error_and_is_tried_again(tmp_path: Path) -> None:
    source = SerialSource(str(tmp_path / "nothing"), baud=9600, clock=SystemClock(), sensor_ids={0: "de"})
    assert collect(source, lambda _: source.counters().get("connect_failures", 0) >= 3) == []
    source.close()


def test_a_pulled_cable_raises_nothing_and_reading_resumes(
    tmp_path: Path, require_tool: Callable[[str, str], str]
) -> None:
    socat = require_tool("socat", "socat")
    near, far = tmp_path / "near", tmp_path / "far"

    def plug() -> subprocess.Popen[bytes]:
        ends = [f"PTY,link={end},raw,echo=0" for end in (near, far)]
        process = subprocess.Popen([socat, *ends])
        deadline = time.monotonic() + 5
        while not (near.exists() and far.exists()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return process

    cable = plug()
    source = SerialSource(str(near), baud=921600, clock=SystemClock(), sensor_ids={0: "de"})
    try:
        source.read(0.05)
        fd = os.open(far, os.O_RDWR | os.O_NOCTTY)
        device = Device(fd)
        device.send(descriptor())
        device.block(0)
        collect(source, lambda got: len(got) >= 1)
        os.close(fd)
        cable.kill()
        cable.wait()
        collect(source, counted(source, "disconnects"))
        cable = plug()
        collect(source, lambda _: source.counters()["connects"] >= 2)
        fd = os.open(far, os.O_RDWR | os.O_NOCTTY)
        device.fd = fd
        device.send(descriptor())
        device.block(500)
        gap, waveform = collect(source, lambda got: len(got) >= 2)
        os.close(fd)
        assert isinstance(gap, Gap)
        assert gap.lost == 490
        assert isinstance(waveform, Waveform)
        assert waveform.first_sample == 500
    finally:
        source.close()
        cable.kill()
        cable.wait()
