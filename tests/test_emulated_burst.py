"""Waveforms over Modbus from an emulated Cortex-M3: whole, aligned, and through a bad line."""

from __future__ import annotations

import os
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from modbus_peers import BURST_FAULTS, BadLine, every_eighth, fetch_bursts

from firmware_bridge.emulator import EmulatedDevice, build_burst_cortex_m3, expected_counts
from pdm_edge.acquire.burst import BurstTask
from pdm_edge.acquire.modbus import ModbusSource
from pdm_edge.clock import SystemClock
from pdm_edge.records import Gap, Waveform

RATE_HZ, N_SAMPLES, DEVICE = 6400, 1200, 3
OPTIONS = (f"-DBURST_RATE_HZ={RATE_HZ}", f"-DBURST_SAMPLES={N_SAMPLES}")


@pytest.fixture(scope="session")
def firmware(require_tool: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_tool("arm-none-eabi-gcc", "gcc-arm-none-eabi")
    require_tool("qemu-system-arm", "qemu-system-arm")
    return build_burst_cortex_m3(tmp_path_factory.mktemp("firmware") / "burst.elf", *OPTIONS)


@pytest.fixture
def sensor(firmware: Path) -> Iterator[EmulatedDevice]:
    running = EmulatedDevice(firmware)
    yield running
    running.kill()


def url_of(port: str) -> str:
    return f"modbus+rtu://{port}?baud=115200&timeout_ms=300"


def check(waveform: Waveform) -> None:
    """Every sample is the one that the firmware took, in its place, under its number."""
    assert (waveform.unit, waveform.sample_rate_hz, waveform.axes) == ("g", RATE_HZ, ("x", "y", "z"))
    expected = expected_counts(waveform.first_sample, N_SAMPLES) * np.float32(2.0**-11)
    np.testing.assert_array_equal(waveform.samples, expected)
    assert waveform.quality.level == "good"


@pytest.mark.parametrize("fifo", [False, True])
def test_bursts_of_a_microcontroller_arrive_whole_aligned_and_dated(
    fifo: bool, sensor: EmulatedDevice
) -> None:
    task = BurstTask("de", DEVICE, every_s=0.1, clock=SystemClock(), fifo=fifo)
    before_ns = time.monotonic_ns()
    (first, second), gaps = fetch_bursts(url_of(sensor.port), task, n=2, within_s=60)
    assert not gaps
    check(first)
    check(second)
    assert second.first_sample >= first.first_sample + N_SAMPLES
    assert first.stamp.monotonic_ns > before_ns - 50_000_000
    # The device's own count of samples and our stamps tell the same time between the two.
    apart_s = (second.stamp.monotonic_ns - first.stamp.monotonic_ns) / 1e9
    assert apart_s == pytest.approx((second.first_sample - first.first_sample) / RATE_HZ, abs=0.5)
    assert task.counters["burst chunks" if fifo else "burst pages"] > 0


@pytest.mark.parametrize("fault", ["missing", "a bit flipped"])
def test_what_a_bad_line_does_to_a_microcontroller_does_not_get_into_a_waveform(
    fault: str, sensor: EmulatedDevice
) -> None:
    def reach() -> int:
        far = os.open(sensor.port, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(far)
        return far

    line = BadLine(reach, serial=True)
    line.fault = every_eighth(BURST_FAULTS[fault])
    try:
        url = line.url.replace("19200", "115200").replace("=250", "=150")
        task = BurstTask("de", DEVICE, every_s=0.1, clock=SystemClock())
        (waveform,), _ = fetch_bursts(url, task, within_s=90)
        check(waveform)
        assert line.replies > 8  # at least one of them was harmed
    finally:
        line.close()


def test_a_plug_pulled_in_the_middle_of_a_burst_is_told_and_the_next_burst_is_whole(
    firmware: Path, tmp_path: Path
) -> None:
    """The same port again after a power cut; the device has forgotten the burst that was on its way."""
    port = tmp_path / "port"
    first = EmulatedDevice(firmware)
    port.symlink_to(first.port)
    task = BurstTask("de", DEVICE, every_s=0.1, clock=SystemClock())
    source = ModbusSource(
        url_of(str(port)), [], clock=SystemClock(), bursts=[task], writable=[(DEVICE, task.command_register)]
    )
    second: EmulatedDevice | None = None
    got: list[Waveform | Gap] = []
    ends = time.monotonic() + 120
    try:
        while task.counters["burst pages"] < 5:
            assert time.monotonic() < ends
            got += [i for i in source.read(0.02) if isinstance(i, Waveform | Gap)]
        first.kill()
        port.unlink()
        second = EmulatedDevice(firmware)
        port.symlink_to(second.port)
        while not any(isinstance(item, Waveform) for item in got):
            assert time.monotonic() < ends, f"{got}, {source.counters()}"
            got += [i for i in source.read(0.05) if isinstance(i, Waveform | Gap)]
    finally:
        source.close()
        first.kill()
        if second is not None:
            second.kill()
    gap, waveform = got
    assert isinstance(gap, Gap)
    assert gap.lost == N_SAMPLES
    assert isinstance(waveform, Waveform)
    check(waveform)
