"""The firmware of c/ports: built, run in an emulator, and the samples it must have sent.

For tests and for trying the protocol without hardware. Needs `gcc-arm-none-eabi` and
`qemu-system-arm` of Debian, or a host compiler for the POSIX port.
"""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

C_FOLDER: Final = Path(__file__).resolve().parent / "c"
WARNINGS: Final = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic")
BOOT_ADDRESS: Final = 0x2000FFF8
"""Where the emulated board keeps its count of starts; see c/ports/mps2_an385.ld."""
_READY_WITHIN_S: Final = 20.0


class EmulatorError(Exception):
    """The firmware could not be built or started."""


def build_cortex_m3(target: Path, *options: str) -> Path:
    """Compile the bare-metal port to an ELF file, and return its path.

    Raises
    ------
    EmulatorError
        With what the compiler said.
    """
    sources = [C_FOLDER / "pdm_wire.c", *(C_FOLDER / "ports" / n for n in ("device.c", "mps2_an385.c"))]
    return _build_cortex_m3(target, sources, options)


def build_burst_cortex_m3(target: Path, *options: str) -> Path:
    """Compile the sensor of burst/ for the same board, a Modbus RTU slave with id 3; raises as the other."""
    sources = [C_FOLDER.parent / "burst" / "pdm_burst.c", C_FOLDER / "ports" / "mps2_burst.c"]
    return _build_cortex_m3(target, sources, options)


def _build_cortex_m3(target: Path, sources: Sequence[Path], options: Sequence[str]) -> Path:
    command = [
        *("arm-none-eabi-gcc", "-mcpu=cortex-m3", "-mthumb", "-O2", *WARNINGS),
        *("-ffreestanding", "-nostdlib", "-ffunction-sections", "-Wl,--gc-sections", *options),
        *("-T", str(C_FOLDER / "ports" / "mps2_an385.ld"), str(C_FOLDER / "ports" / "mps2_board.c")),
        *(*map(str, sources), "-lgcc", "-o", str(target)),
    ]
    return _build(command, target)


def build_posix(target: Path, *options: str) -> Path:
    """Compile the port for a POSIX terminal with the host's compiler; raises as the other."""
    sources = [C_FOLDER / "pdm_wire.c", *(C_FOLDER / "ports" / n for n in ("device.c", "posix_tty.c"))]
    return _build(["gcc", "-O2", *WARNINGS, *options, *map(str, sources), "-o", str(target)], target)


def _build(command: list[str], target: Path) -> Path:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise EmulatorError(f"{command[0]} is not installed") from error
    if done.returncode != 0:
        raise EmulatorError(f"{' '.join(command)}\n{done.stderr}")
    return target


class EmulatedDevice:
    """A running device; `port` is the pseudo terminal to open.

    Parameters
    ----------
    program
        What `build_cortex_m3` or `build_burst_cortex_m3` made, or with ``posix=True`` what
        `build_posix` made.
    boot
        The device's count of starts (the emulated board only; the POSIX port makes up its own).
    """

    def __init__(self, program: Path, *, boot: int = 1, posix: bool = False) -> None:
        loader = f"loader,addr={BOOT_ADDRESS:#x},data={boot},data-len=4"
        command = (
            [str(program)]
            if posix
            else [
                *("qemu-system-arm", "-M", "mps2-an385", "-nographic", "-monitor", "none"),
                *("-kernel", str(program), "-device", loader, "-serial", "pty"),
            ]
        )
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        except FileNotFoundError as error:
            raise EmulatorError(f"{command[0]} is not installed") from error
        self.port = self._read_port()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """Pull the plug."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read_port(self) -> str:
        lines: list[str] = []

        def read() -> None:
            assert self._process.stdout is not None
            for line in self._process.stdout:
                lines.append(line)
                if "/dev/" in line:
                    return

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        reader.join(_READY_WITHIN_S)
        found = re.search(r"/dev/\S+", "".join(lines))
        if found is None:
            self.kill()
            raise EmulatorError(f"no terminal within {_READY_WITHIN_S} s; it said: {''.join(lines)}")
        return found.group()


def expected_counts(first_sample: int, n_samples: int, *, range_max: float = 16.0) -> npt.NDArray[np.int32]:
    """What the firmware of c/ports samples, shape ``(3, n_samples)``; see c/ports/signal.h."""
    sample = np.arange(first_sample, first_sample + n_samples, dtype=np.uint64).astype(np.uint32)
    since = (sample % 240).astype(np.uint32)
    rows = []
    for axis in range(3):
        noise = (sample * np.uint32(3) + np.uint32(axis)) * np.uint32(2654435761)
        noise ^= noise >> np.uint32(15)
        noise *= np.uint32(2246822519)
        noise ^= noise >> np.uint32(13)
        value = _wave(sample * np.uint32(63 + axis)) >> 4
        value += (noise & np.uint32(255)).astype(np.int32) - 128
        impact = (_wave(since * np.uint32(9000)) * (32 - since.astype(np.int32))) >> (6 + axis)
        rows.append(value + np.where(since < 32, impact, 0))
    gained = np.stack(rows) * round(16.0 / range_max)
    clipped: npt.NDArray[np.int32] = np.clip(gained, -32768, 32767).astype(np.int32)
    return clipped


def _wave(phase: npt.NDArray[np.uint32]) -> npt.NDArray[np.int32]:
    p = (phase & np.uint32(0x7FFF)).astype(np.int32) - 0x4000
    half = 8192 - ((p * p) >> 15)
    wave: npt.NDArray[np.int32] = np.where(phase & np.uint32(0x8000), -half, half).astype(np.int32)
    return wave
