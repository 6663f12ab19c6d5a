"""Code size, stack and instruction counts of pdm_wire, as the table that docs/firmware.md keeps.

Sizes are sums over the functions that can be reached, from the compiler's own call graph; stack is
the deepest chain of their frames. Nothing is estimated.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from firmware_bridge.emulator import C_FOLDER, WARNINGS

CORES: Final = {
    "Cortex-M0+": ("-mcpu=cortex-m0plus",),
    "Cortex-M3": ("-mcpu=cortex-m3",),
    "Cortex-M4F": ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"),
}
SENDERS: Final = tuple(f"pdm_encode_{n}" for n in ("descriptor", "data", "scalars", "status", "log", "reply"))
PARTS: Final = {
    "send DATA": ("pdm_encode_data",),
    "send all, take commands": (*SENDERS, "pdm_decoder_init", "pdm_decode", "pdm_parse_command"),
}
CORTEX_M3: Final = ("arm-none-eabi-gcc", "-mcpu=cortex-m3", "-mthumb", "-ffreestanding", *WARNINGS)
NS_A_TICK: Final = 40


@dataclass(frozen=True, slots=True)
class Size:
    """Of one part on one core."""

    core: str
    part: str
    code_bytes: int
    stack_bytes: int


@dataclass(frozen=True, slots=True)
class Count:
    """Instructions for each payload byte on the emulated Cortex-M3."""

    what: str
    payload_bytes: int
    instructions_a_byte: float


def sizes(core: str) -> list[Size]:
    """Compile with -Os for a core and measure each part."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "pdm_wire.o"
        command = [
            *("arm-none-eabi-gcc", *CORES[core], "-mthumb", "-Os", "-ffreestanding", *WARNINGS),
            *("-ffunction-sections", "-fdata-sections", "-fcallgraph-info=su", "-c"),
            *(str(C_FOLDER / "pdm_wire.c"), "-o", str(target)),
        ]
        subprocess.run(command, check=True)
        graph = target.with_suffix(".ci").read_text()
        symbols = subprocess.run(
            ["arm-none-eabi-nm", "--print-size", str(target)], capture_output=True, text=True, check=True
        ).stdout
    code = {
        name: int(size, 16)
        for size, kind, name in re.findall(r"^\S+ (\S+) (\w) (\S+)$", symbols, re.MULTILINE)
        if kind in "tTrR"
    }
    stack, calls = call_graph(graph)
    tables = sum(size for name, size in code.items() if name not in stack)
    rows = []
    for part, entries in PARTS.items():
        reached = reachable(entries, calls)
        used = sum(code.get(name, 0) for name in reached) + tables
        rows.append(Size(core, part, used, max(depth(entry, stack, calls) for entry in entries)))
    return rows


def call_graph(text: str) -> tuple[dict[str, int], dict[str, set[str]]]:
    """Frame size of each function in bytes, and whom it calls, from gcc's .ci file."""
    stack = {
        name.split(":")[-1]: int(size)
        for name, size in re.findall(r'node: \{ title: "([^"]+)" label: "[^"]*?\\n(\d+) bytes', text)
    }
    calls: dict[str, set[str]] = {}
    for source, called in re.findall(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', text):
        calls.setdefault(source.split(":")[-1], set()).add(called.split(":")[-1])
    return stack, calls


def reachable(entries: tuple[str, ...], calls: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(entries)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(calls.get(name, ()))
    return found


def depth(name: str, stack: dict[str, int], calls: dict[str, set[str]]) -> int:
    """Bytes of stack from a function down; there is no recursion, or this would not end."""
    return stack.get(name, 0) + max((depth(n, stack, calls) for n in calls.get(name, ())), default=0)


def counts(optimise: str) -> list[Count]:
    """Run c/tests/count_m3.c under QEMU's instruction counter."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "count.elf"
        sources = (C_FOLDER / "pdm_wire.c", C_FOLDER / "tests" / "count_m3.c")
        script = C_FOLDER / "ports" / "mps2_an385.ld"
        linker = ("-nostdlib", "-ffunction-sections", "-Wl,--gc-sections", "-T", str(script))
        command = [*CORTEX_M3, optimise, *linker, *map(str, sources), "-lgcc", "-o", str(program)]
        subprocess.run(command, check=True)
        emulator = [
            *("qemu-system-arm", "-M", "mps2-an385", "-nographic", "-monitor", "none"),
            *("-icount", "shift=0", "-kernel", str(program), "-serial", "stdio"),
        ]
        process = subprocess.Popen(
            emulator, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            if line.startswith("end"):
                break
            lines.append(line)
        process.kill()
        process.wait()
        process.stdout.close()
    rows = [line.split() for line in lines if line.startswith(("encode", "decode"))]
    return [
        Count(what, int(n), int(ticks) * NS_A_TICK / int(frames) / int(n)) for what, frames, n, ticks in rows
    ]


def table() -> str:
    lines = ["| core | part | code and tables, bytes | deepest stack, bytes |", "|---|---|---|---|"]
    for core in CORES:
        for row in sizes(core):
            lines.append(f"| {row.core} | {row.part} | {row.code_bytes} | {row.stack_bytes} |")
    lines += ["", "| Cortex-M3, instructions a payload byte | -O2 | -Os |", "|---|---|---|"]
    for fast, small in zip(counts("-O2"), counts("-Os"), strict=True):
        name = f"{fast.what} a DATA frame of {fast.payload_bytes} bytes"
        lines.append(f"| {name} | {fast.instructions_a_byte:.1f} | {small.instructions_a_byte:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    version = subprocess.run(["arm-none-eabi-gcc", "--version"], capture_output=True, text=True, check=True)
    print(version.stdout.splitlines()[0], file=sys.stderr)
    print(table())
