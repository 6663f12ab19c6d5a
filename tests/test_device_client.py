"""The command client against the firmware of c/ports, compiled for this machine."""

from __future__ import annotations

import os
import time
import tty
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge import (
    BURST_END,
    CLIPPED,
    INVALID,
    Command,
    Data,
    DeviceClient,
    DeviceError,
    Status,
    counts,
    encode_frame,
)
from firmware_bridge.device import SerialStream
from firmware_bridge.emulator import EmulatedDevice, build_posix, expected_counts


@pytest.fixture(scope="module")
def program(require_tool: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_tool("gcc", "gcc")
    options = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    return build_posix(tmp_path_factory.mktemp("posix") / "device", *options)


@pytest.fixture
def client(program: Path) -> Iterator[DeviceClient]:
    device = EmulatedDevice(program, posix=True)
    stream = SerialStream(device.port, 921600)
    yield DeviceClient(stream)
    stream.close()
    device.kill()


def data(client: DeviceClient, within_s: float) -> list[Data]:
    return [f.message for f in client.frames(within_s) if isinstance(f.message, Data)]


def burst(client: DeviceClient, n_samples: int) -> list[Data]:
    client.burst(0, n_samples)
    got: list[Data] = []
    deadline = time.monotonic() + 10
    while not got or not got[-1].flags & BURST_END:
        assert time.monotonic() < deadline
        got += data(client, 0.1)
    return got


def test_what_a_device_says_when_asked_and_by_itself(client: DeviceClient) -> None:
    descriptor = client.identify()
    assert (descriptor.device_id, descriptor.tick_hz) == ("demo-vibration-3", 1_000_000)
    assert str(descriptor.sensors[0].calibrated) == "2026-02-28"
    status = client.wait_for(lambda f: isinstance(f.message, Status), 10.0)
    assert status is not None
    assert isinstance(status.message, Status)
    assert status.message.sensors[0].state == "streaming"


def test_a_burst_is_as_long_as_asked_and_counted_on_from_what_was_taken_before(client: DeviceClient) -> None:
    assert client.wait_for(lambda f: isinstance(f.message, Data), 10.0) is not None
    client.stop()
    before = data(client, 0.2)
    first, second = burst(client, 1000), burst(client, 1)
    for frames, n in ((first, 1000), (second, 1)):
        assert sum(d.n_samples for d in frames) == n
        assert [bool(d.flags & BURST_END) for d in frames] == [False] * (len(frames) - 1) + [True]
    assert first[0].first_sample == before[-1].first_sample + before[-1].n_samples
    assert second[0].first_sample == first[0].first_sample + 1000


def test_rate_and_range_are_taken_exactly_or_not_at_all(client: DeviceClient) -> None:
    client.stop()
    client.set_rate(0, Fraction(12_800))
    client.set_range(0, 4.0)
    (sensor,) = client.identify().sensors
    assert (float(sensor.sample_rate_hz), sensor.range_max, sensor.scale) == (12_800.0, 4.0, 4.0 / 32768)
    client.frames(0.2)  # what had come before
    frames = burst(client, 600)
    for frame in frames:
        expected = expected_counts(frame.first_sample, frame.n_samples, range_max=4.0)
        np.testing.assert_array_equal(counts(frame, sensor).T, expected)
        assert bool(frame.flags & CLIPPED) == bool((np.abs(expected) >= 32767).any())
    with pytest.raises(DeviceError, match=r"set_rate.*'argument'"):
        client.set_rate(0, Fraction(44_100))
    with pytest.raises(DeviceError, match=r"set_range.*'argument'"):
        client.set_range(7, 4.0)
    assert client.identify().sensors == (sensor,)


def test_samples_taken_during_the_self_test_say_so(client: DeviceClient) -> None:
    client.frames(0.1)
    client.self_test()
    frames = client.frames(0.6)
    outcome = [f.message.self_test for f in frames if isinstance(f.message, Status)]
    assert "passed" in outcome
    marked = [bool(f.message.flags & INVALID) for f in frames if isinstance(f.message, Data)]
    assert any(marked)
    assert not marked[-1]


def test_the_round_trip_bounds_the_error_of_a_time_sync(client: DeviceClient) -> None:
    client.stop()
    first = client.time_sync(time.time_ns())
    client.frames(0.5)
    second = client.time_sync(time.time_ns())
    assert 0 < first.error_ns < 1_000_000_000
    between_ns = ((second.tick - first.tick) % 2**32) * 1000
    error_ns = abs(between_ns - (second.monotonic_ns - first.monotonic_ns))
    assert error_ns <= first.error_ns + second.error_ns + 1_000_000


def test_no_frame_to_the_bootloader(client: DeviceClient) -> None:
    assert client.request("reboot_to_bootloader").result == "refused"


def test_a_command_that_comes_twice_is_done_once(client: DeviceClient) -> None:
    client.stop()
    client.frames(0.2)
    wire = encode_frame(Command("burst", 0x4242, (0, 100)), sequence=0, tick=0)
    client.send_bytes(wire + wire)
    assert sum(d.n_samples for d in data(client, 0.5)) == 100


def test_a_device_that_is_silent_is_an_error_that_says_so() -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    stream = SerialStream(os.ttyname(slave), 921600)
    try:
        client = DeviceClient(stream)
        with pytest.raises(DeviceError, match=r"stop: no REPLY within 3 x 0\.05 s"):
            client.request("stop", 255, within_s=0.05)
        with pytest.raises(DeviceError, match="no DESCRIPTOR"):
            client.identify(within_s=0.05)
    finally:
        stream.close()
        os.close(slave)
        os.close(master)
