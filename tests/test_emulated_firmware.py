"""The firmware on an emulated Cortex-M3 behind a real terminal: pulled plugs, noise, lost and
repeated bytes; and every sample that arrives is compared with what the firmware sampled."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge import Command, encode_frame
from firmware_bridge.conform import CHECKS, conform
from firmware_bridge.device import SerialStream
from firmware_bridge.emulator import C_FOLDER, EmulatedDevice, build_cortex_m3, build_posix, expected_counts
from firmware_bridge.session import CheckError, Session
from pdm_edge.acquire.serial_link import SerialSource
from pdm_edge.clock import SystemClock
from pdm_edge.records import Gap, Measurement, Reading, Waveform

ROOT = Path(__file__).resolve().parents[1]
HARM_EVERY_BYTES = 4000
SLOW_RATE_HZ = 6400  # what a loaded machine emulates with ease
SLOWLY = ("-DDEVICE_FIRST_RATE=2",)


@pytest.fixture(scope="session")
def firmware(require_tool: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_tool("arm-none-eabi-gcc", "gcc-arm-none-eabi")
    require_tool("qemu-system-arm", "qemu-system-arm")
    return build_cortex_m3(tmp_path_factory.mktemp("firmware") / "device.elf", *SLOWLY)


@pytest.fixture
def device(firmware: Path) -> Iterator[EmulatedDevice]:
    running = EmulatedDevice(firmware)
    yield running
    running.kill()


def collect(
    source: SerialSource, enough: Callable[[list[Measurement]], bool], got: list[Measurement] | None = None
) -> list[Measurement]:
    got = [] if got is None else got
    deadline = time.monotonic() + 40
    while not enough(got):
        assert time.monotonic() < deadline, (
            f"{len(got)} measurements, the last {got[-3:]}; {source.counters()}"
        )
        got.extend(source.read(0.05))
    return got


def n_samples(got: list[Measurement]) -> int:
    return sum(m.n_samples for m in got if isinstance(m, Waveform))


def assert_every_sample_is_right(got: list[Measurement]) -> None:
    for waveform in got:
        if isinstance(waveform, Waveform):
            expected = expected_counts(waveform.first_sample, waveform.n_samples) * np.float32(2.0**-11)
            np.testing.assert_array_equal(waveform.samples, expected)


def assert_nothing_is_missing_untold(got: list[Measurement]) -> int:
    """Waveforms and gaps follow one another sample by sample; returns how many were lost."""
    at: int | None = None
    lost = 0
    for measurement in got:
        if isinstance(measurement, Gap):
            assert measurement.first == at
            assert measurement.last is not None
            at, lost = measurement.last + 1, lost + measurement.lost
        elif isinstance(measurement, Waveform):
            assert at is None or measurement.first_sample == at
            at = measurement.first_sample + measurement.n_samples
    return lost


@pytest.mark.parametrize("posix", [False, True], ids=["Cortex-M3", "POSIX"])
def test_our_own_ports_pass_the_conformance_kit(
    posix: bool, tmp_path: Path, require_tool: Callable[[str, str], str], request: pytest.FixtureRequest
) -> None:
    if posix:
        require_tool("gcc", "gcc")
        running = EmulatedDevice(build_posix(tmp_path / "device", *SLOWLY), posix=True)
    else:
        running = EmulatedDevice(request.getfixturevalue("firmware"))
    try:
        stream = SerialStream(running.port, 921600)
        # On a loaded machine the emulator stands still at times and loses frames, as a device must;
        # what is wrong with a device fails each time.
        for _attempt in range(3):
            outcomes = conform(stream, listen_s=1.0)
            if all(o.state == "passed" for o in outcomes):
                break
        stream.close()
        assert [(o.check, o.text) for o in outcomes if o.state != "passed"] == []
        assert len(outcomes) > 20
    finally:
        running.kill()


def test_samples_readings_and_rate_arrive_as_the_firmware_made_them(device: EmulatedDevice) -> None:
    source = SerialSource(device.port, baud=921600, clock=SystemClock(), sensor_ids={0: "de"})
    try:
        got = collect(
            source, lambda got: n_samples(got) > SLOW_RATE_HZ and any(isinstance(m, Reading) for m in got)
        )
    finally:
        source.close()
    first = next(m for m in got if isinstance(m, Waveform))
    assert (first.sample_rate_hz, first.unit, first.axes) == (SLOW_RATE_HZ, "g", ("x", "y", "z"))
    assert_every_sample_is_right(got)
    readings = {m.quantity: m.value for m in got if isinstance(m, Reading)}
    assert readings == {"temperature": 41.5, "supply": pytest.approx(3.3)}


def test_after_the_plug_was_pulled_the_stream_goes_on_and_the_gap_is_told(
    firmware: Path, tmp_path: Path
) -> None:
    line = tmp_path / "line"
    running = EmulatedDevice(firmware, boot=1)
    line.symlink_to(running.port)
    source = SerialSource(str(line), baud=921600, clock=SystemClock(), sensor_ids={0: "de"})
    try:
        got = collect(source, lambda got: n_samples(got) > 2000)
        running.kill()
        collect(source, lambda _: source.counters().get("disconnects", 0) == 1, got)
        running = EmulatedDevice(firmware, boot=2)
        line.unlink()
        line.symlink_to(running.port)
        before = n_samples(got)
        collect(source, lambda got: n_samples(got) > before + 4000, got)
    finally:
        source.close()
        running.kill()
    assert_every_sample_is_right(got)
    (restart,) = [m for m in got if isinstance(m, Gap) and m.first is None]
    assert "restarted" in restart.why
    told_s = float(re.findall(r"about ([\d.]+) s", restart.why)[0])
    at = got.index(restart)
    assert restart.lost == pytest.approx(told_s * SLOW_RATE_HZ, abs=10)
    assert 0 < told_s < 60
    assert_nothing_is_missing_untold(got[:at])
    assert_nothing_is_missing_untold(got[at + 1 :])
    after = next(m for m in got[at:] if isinstance(m, Waveform))
    assert after.quality.reasons == ("gap",)


class Fault:
    """A proxy between two terminals that harms what passes from the device to the gateway."""

    def __init__(self, port: str, harm: Callable[[bytes, np.random.Generator], bytes]) -> None:
        self._device = os.open(port, os.O_RDWR | os.O_NOCTTY)
        self._gateway, self._slave = os.openpty()
        for end in (self._device, self._slave):
            tty.setraw(end)
        self.port = os.ttyname(self._slave)
        self._harm = harm
        self._random = np.random.default_rng(7)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            ready, _, _ = select.select([self._device, self._gateway], [], [], 0.05)
            if self._gateway in ready:
                os.write(self._device, os.read(self._gateway, 4096))
            if self._device in ready:
                rest = self._harm(os.read(self._device, 2048), self._random)
                while rest:
                    rest = rest[os.write(self._gateway, rest) :]

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for end in (self._device, self._gateway, self._slave):
            os.close(end)

    def command(self, message: Command) -> None:
        """Tell the device something, beside the gateway."""
        os.write(self._device, encode_frame(message, sequence=0, tick=0))


def noise(chunk: bytes, random: np.random.Generator) -> bytes:
    at = int(random.integers(0, len(chunk) + 1))
    return chunk[:at] + random.bytes(int(random.integers(1, 100))) + chunk[at:]


def flip(chunk: bytes, random: np.random.Generator) -> bytes:
    harmed = bytearray(chunk)
    harmed[int(random.integers(0, len(chunk)))] ^= 1 << int(random.integers(0, 8))
    return bytes(harmed)


def repeat(chunk: bytes, _random: np.random.Generator) -> bytes:
    return chunk + chunk


def drop(chunk: bytes, random: np.random.Generator) -> bytes:
    a, b = sorted(random.integers(0, len(chunk) + 1, 2))
    return chunk[:a] + chunk[b:]


@pytest.mark.parametrize("harms", [[noise], [flip], [repeat], [drop], [noise, flip, repeat, drop]])
def test_no_wrong_sample_gets_through_a_bad_line_and_every_gap_is_told_to_the_sample(
    device: EmulatedDevice, harms: list[Callable[[bytes, np.random.Generator], bytes]]
) -> None:
    def harm(chunk: bytes, random: np.random.Generator) -> bytes:
        if random.random() > len(chunk) / HARM_EVERY_BYTES:
            return chunk
        return harms[int(random.integers(0, len(harms)))](chunk, random)

    fault = Fault(device.port, harm)
    source = SerialSource(fault.port, baud=921600, clock=SystemClock(), sensor_ids={0: "de"})
    try:
        got = collect(source, lambda got: n_samples(got) > SLOW_RATE_HZ)
    finally:
        source.close()
        fault.close()
    assert_every_sample_is_right(got)
    lost = assert_nothing_is_missing_untold(got)
    counters = source.counters()
    assert lost == counters.get("lost_samples", 0)
    assert counters.get("restarts", 0) == 0
    noticed = sum(
        counters.get(n, 0) for n in ("bad_crc", "bad_cobs", "bad_length", "repeated", "lost_samples")
    )
    assert noticed > 0
    if harms == [repeat]:
        # A chunk twice spoils the frame that it cuts, and brings others again; none is taken twice.
        assert sum(counters.get(n, 0) for n in ("repeated", "bad_crc", "bad_cobs")) > 0


def test_samples_stay_right_when_the_range_changes_and_the_new_descriptor_may_be_lost(
    device: EmulatedDevice,
) -> None:
    """In g the samples are the same in each range; with the scale of another they would double."""
    descriptors = 0

    def lose_every_second_descriptor(chunk: bytes, _random: np.random.Generator) -> bytes:
        nonlocal descriptors
        if b"demo-vibration" not in chunk:
            return chunk
        descriptors += 1
        return chunk if descriptors % 2 else chunk.replace(b"demo", b"d\0mo")

    fault = Fault(device.port, lose_every_second_descriptor)
    source = SerialSource(fault.port, baud=921600, clock=SystemClock(), sensor_ids={0: "de"})
    try:
        got = collect(source, lambda got: n_samples(got) > 500)
        for i, range_g in enumerate((8.0, 4.0, 16.0, 8.0)):
            fault.command(Command("set_range", i + 1, (0, range_g)))
            enough = n_samples(got) + SLOW_RATE_HZ // 2
            collect(source, lambda got, enough=enough: n_samples(got) > enough, got)  # type: ignore[misc]
    finally:
        source.close()
        fault.close()
    assert_every_sample_is_right(got)
    assert_nothing_is_missing_untold(got)
    assert source.counters()["other_descriptor"] > 0
    assert source.descriptor is not None
    assert source.descriptor.sensors[0].range_max == 8.0


def test_pdm_edge_run_reads_the_emulated_firmware(firmware: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "firmware_demo.py"), "--for", "3", "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=100,
    )
    assert done.returncode in (0, 1), done.stderr
    counters = re.search(r'\{.*"counters".*\}', done.stdout)
    assert counters is not None, done.stdout
    frames = re.search(r' frames": ?(\d+)', counters.group())
    assert frames is not None
    assert int(frames.group(1)) > 100


SICK = {
    "final XOR": ("pdm_wire.c", "put_u32(writer, ~writer->crc);", "put_u32(writer, writer->crc);"),
    "254 bytes without a zero": ("pdm_wire.c", "else if (at - code == 254u)", "else if (at - code == 9999u)"),
    "It counts samples of each axis": ("ports/device.c", "device->taken++;", "device->taken += 3;"),
    "state the measured rate": (
        "ports/device.c",
        ".rate_numerator = rates_hz[device->rate],",
        ".rate_numerator = 6667u,",
    ),
    "must be `refused`": ("ports/device.c", "return PDM_REFUSED;", "return PDM_OK;"),
    "sequence stands still": (
        "pdm_wire.c",
        "link->sequence = (uint16_t)(link->sequence + 1u);",
        "link->sequence = 0u;",
    ),
}


def run_all(session: Session) -> None:
    for check in CHECKS:
        check(session)


@pytest.mark.parametrize("told", SICK)
def test_the_kit_tells_what_is_wrong_with_a_sick_device(
    told: str, tmp_path: Path, require_tool: Callable[[str, str], str]
) -> None:
    gcc = require_tool("gcc", "gcc")
    file, good, sick = SICK[told]
    folder = tmp_path / "c"
    shutil.copytree(C_FOLDER, folder)
    text = (folder / file).read_text()
    assert text.count(good) == 1
    (folder / file).write_text(text.replace(good, sick))
    sources = [folder / "pdm_wire.c", folder / "ports" / "device.c", folder / "ports" / "posix_tty.c"]
    subprocess.run([gcc, "-O1", *SLOWLY, *map(str, sources), "-o", str(tmp_path / "device")], check=True)
    running = EmulatedDevice(tmp_path / "device", posix=True)
    stream = SerialStream(running.port, 921600)
    session = Session(stream, listen_s=1.0)
    try:
        with pytest.raises(CheckError, match=told):
            run_all(session)
    finally:
        stream.close()
        running.kill()
