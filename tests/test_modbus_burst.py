"""Waveforms over Modbus: a sensor in C on a serial line, fetched by us, whole and in the right order."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from modbus_peers import BURST_FAULTS, BadLine, every_eighth, fetch_bursts, register, wait_for

from pdm_edge.acquire.burst import BurstTask, parse_descriptor, transfer_s
from pdm_edge.acquire.modbus import ModbusSource
from pdm_edge.acquire.modbus_line import ModbusLine
from pdm_edge.acquire.modbus_url import line_settings
from pdm_edge.acquire.registers import Block
from pdm_edge.cli import cli
from pdm_edge.clock import SystemClock
from pdm_edge.config_file import parse_config
from pdm_edge.errors import ConfigError
from pdm_edge.records import Reading, Waveform
from pdm_edge.wiring import open_sources

ROOT = Path(__file__).resolve().parents[1]
STRICT = ("-std=c99", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic")


@pytest.fixture(scope="session")
def sensor_binary(tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str, str], str]) -> Path:
    gcc = require_tool("gcc", "gcc libc6-dev")
    binary = tmp_path_factory.mktemp("burst") / "sensor"
    sources = [ROOT / "firmware_bridge/burst/pdm_burst.c", ROOT / "tests/modbus/burst_sensor.c"]
    include = f"-I{ROOT / 'firmware_bridge/burst'}"
    subprocess.run([gcc, *STRICT, "-O2", include, *map(str, sources), "-o", str(binary)], check=True)
    return binary


class Sensor:
    """The C sensor at the far end of a cable."""

    def __init__(self, folder: Path, socat: str, binary: Path, *shape: str) -> None:
        self.near, self.far = folder / "near", folder / "far"
        ends = [f"PTY,link={end},raw,echo=0" for end in (self.near, self.far)]
        self._processes: list[subprocess.Popen[str]] = [subprocess.Popen([socat, *ends], text=True)]
        wait_for(lambda: self.near.exists() and self.far.exists())
        command = [str(binary), str(self.far), "3", *shape]
        self._processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        out = self._processes[1].stdout
        assert out is not None
        assert out.readline() == "ready\n"
        self.url = f"modbus+rtu://{self.near}?baud=115200&timeout_ms=150"

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@pytest.fixture
def sensor(tmp_path: Path, sensor_binary: Path, require_tool: Callable[[str, str], str]) -> Iterator[Sensor]:
    opened = Sensor(tmp_path, require_tool("socat", "socat"), sensor_binary, "3", "500")
    yield opened
    opened.close()


def expected(waveform: Waveform) -> np.ndarray:
    n = waveform.first_sample + np.arange(waveform.n_samples)
    return np.stack([((n * 7 + axis * 1000) % 20001 - 10000) / 2048 for axis in range(3)])


def check(waveform: Waveform) -> None:
    assert (waveform.unit, waveform.sample_rate_hz, waveform.axes) == ("g", 1000.0, ("x", "y", "z"))
    assert waveform.samples.shape == (3, 500)
    np.testing.assert_array_equal(waveform.samples, expected(waveform).astype(np.float32))
    assert waveform.quality.level == "good"


@pytest.mark.parametrize("fifo", [False, True])
def test_a_burst_arrives_whole_aligned_and_dated(fifo: bool, sensor: Sensor) -> None:
    task = BurstTask("de", 3, every_s=0.1, clock=SystemClock(), fifo=fifo)
    before_ns = time.monotonic_ns()
    (first, second), gaps = fetch_bursts(sensor.url, task, n=2)
    assert not gaps
    check(first)
    check(second)
    assert second.first_sample >= first.first_sample + 500
    # The first sample was taken after the trigger, and the sensor counts in real time.
    assert first.stamp.monotonic_ns > before_ns - 50_000_000
    apart_s = (second.stamp.monotonic_ns - first.stamp.monotonic_ns) / 1e9
    assert apart_s == pytest.approx((second.first_sample - first.first_sample) / 1000, abs=0.3)
    assert task.counters["burst chunks" if fifo else "burst pages"] > 0


@pytest.mark.parametrize(("fault", "fifo"), [*((name, False) for name in BURST_FAULTS), ("missing", True)])
def test_no_fault_of_the_line_gets_into_a_waveform(fault: str, fifo: bool, sensor: Sensor) -> None:
    line = BadLine(lambda: os.open(sensor.near, os.O_RDWR | os.O_NOCTTY), serial=True)
    line.fault = every_eighth(BURST_FAULTS[fault])
    try:
        task = BurstTask("de", 3, every_s=0.1, clock=SystemClock(), fifo=fifo)
        url = line.url.replace("19200", "115200").replace("=250", "=150")
        (waveform,), _ = fetch_bursts(url, task)
        check(waveform)
    finally:
        line.close()


def test_polls_go_on_between_the_pages(sensor: Sensor) -> None:
    polled = [register("number", 4096 + 1, device=3, table="holding")]
    task = BurstTask("de", 3, every_s=0.1, clock=SystemClock())
    source = ModbusSource(
        sensor.url, polled, clock=SystemClock(), poll_s=0.05, bursts=[task], writable=[(3, 4128)]
    )
    seen: list[str] = []
    ends = time.monotonic() + 30
    try:
        while seen.count("Waveform") < 2:
            assert time.monotonic() < ends
            for item in source.read(0.05):
                seen.append(type(item).__name__)
                if isinstance(item, Reading):
                    assert item.value == 1
    finally:
        source.close()
    between = seen[seen.index("Waveform") :]
    assert between.count("Reading") >= 3


def test_mbpoll_reads_the_map_too(sensor: Sensor, require_tool: Callable[[str, str], str]) -> None:
    program = require_tool("mbpoll", "mbpoll")
    rtu = ("-m", "rtu", "-b", "115200", "-P", "none", "-a", "3", "-0", "-1", "-q")
    command = [program, *rtu, "-t", "4:hex", "-r", "4096", "-c", "4", str(sensor.near)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert re.findall(r"0x[0-9A-F]{4}", done.stdout) == ["0x5057", "0x0001", "0x0001", "0x0003"]


def test_only_the_trigger_can_be_written_and_only_if_allowed(sensor: Sensor) -> None:
    task = BurstTask("de", 3, every_s=1.0, clock=SystemClock())
    with pytest.raises(ConfigError, match="has to write register 4128"):
        ModbusSource(sensor.url, [], clock=SystemClock(), bursts=[task])
    line = ModbusLine(line_settings(sensor.url), writable=[(3, 4128), (3, 4096)])
    try:
        with pytest.raises(ConfigError, match="may not be written"):
            line.write(3, 4129, 1)
        with pytest.raises(Exception, match="exception 2"):
            line.write(3, 4096, 1)
        with pytest.raises(Exception, match="exception 3"):
            line.write(3, 4128, 2)
        line.write(3, 4128, 1)
        with pytest.raises(Exception, match="exception 6"):
            line.write(3, 4128, 1)
    finally:
        line.close()


def test_the_time_is_told_beforehand(sensor: Sensor) -> None:
    """At 9600 Bd by the sum of the document; against the clock on a line without a real baud rate."""
    line = ModbusLine(line_settings(sensor.url))
    descriptor = parse_descriptor(list(line.read(3, Block("holding", 4096, 17, ()))))
    line.close()
    assert (descriptor.n_words, descriptor.n_pages) == (1500, 13)
    slow_s = transfer_s(line_settings("modbus+rtu:///dev/x?baud=9600"), descriptor)
    assert slow_s == pytest.approx(0.5 + 16 * 0.29, abs=0.4)
    fast_s = transfer_s(line_settings("modbus+rtu:///dev/x?baud=115200"), descriptor)
    assert 0.5 < fast_s < 0.5 + 16 * 0.04


def test_a_configuration_fetches_bursts(sensor: Sensor, tmp_path: Path) -> None:
    text = f"""
[gateway]
id = "g"
[[machine]]
id = "m"
window_s = 0.25
[[machine.sensor]]
id = "de"
source = "{sensor.url}&device=3"
burst = {{ every_s = 0.2 }}
writable = [4128]
[store]
path = "x.db"
"""
    config = parse_config(text, base=str(tmp_path))
    assert config.machine[0].sensor[0].is_waveform
    (source,), _ = open_sources(config, SystemClock())
    ends = time.monotonic() + 30
    got: list[object] = []
    try:
        while not got:
            assert time.monotonic() < ends
            got.extend(source.read(0.05))
    finally:
        source.close()
    assert isinstance(got[0], Waveform)
    refused = parse_config(text.replace("writable = [4128]", ""), base=str(tmp_path))
    with pytest.raises(ConfigError, match="has to write register 4128"):
        open_sources(refused, SystemClock())


def test_probe_finds_the_waveforms_and_tells_their_time(sensor: Sensor, tmp_path: Path) -> None:
    rows = tmp_path / "rows.toml"
    command = ["probe", f"modbus+rtu://{sensor.near}?baud=115200", "--ids", "3", "--rows", str(rows)]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    told = re.search(r"has waveforms: 3 x 500 samples at 1000 Hz, g; one takes about (\S+) s", done.output)
    assert told is not None, done.output
    assert 0.8 < float(told[1]) < 1.3
    text = rows.read_text().replace("# writable", "writable")
    config = f'[gateway]\nid="g"\n[[machine]]\nid="m"\n{text}\n[store]\npath="x.db"\n'
    assert parse_config(config).machine[0].sensor[0].writable == (4128,)


def test_the_slave_compiles_for_a_microcontroller_without_a_library(
    tmp_path: Path, require_tool: Callable[[str, str], str]
) -> None:
    gcc = require_tool("arm-none-eabi-gcc", "gcc-arm-none-eabi")
    target = ["-mcpu=cortex-m3", "-mthumb", "-Os", "-ffreestanding"]
    source, compiled = ROOT / "firmware_bridge/burst/pdm_burst.c", tmp_path / "burst.o"
    strict = [option for option in STRICT if not option.startswith("-D")]
    subprocess.run([gcc, *strict, *target, "-c", str(source), "-o", str(compiled)], check=True)
    size = subprocess.run(["arm-none-eabi-size", str(compiled)], capture_output=True, text=True, check=True)
    text, data, bss = (int(n) for n in size.stdout.splitlines()[1].split()[:3])
    assert text < 3000
    assert data == bss == 0
