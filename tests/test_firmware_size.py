"""The figures of docs/firmware.md are what the compiler and the emulator say, and within the bounds."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGEST_ENCODER = 25.0  # instructions a payload byte
COMPILERS_DIFFER = 0.1


def test_the_documented_sizes_are_true_and_the_encoder_takes_no_more_than_25_instructions_a_byte(
    require_tool: Callable[[str, str], str],
) -> None:
    require_tool("arm-none-eabi-gcc", "gcc-arm-none-eabi")
    require_tool("qemu-system-arm", "qemu-system-arm")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "firmware_size.py")], capture_output=True, text=True, check=True
    )
    document = (ROOT / "docs" / "firmware.md").read_text()
    readme = (ROOT / "README.md").read_text()
    assert "| Cortex-M3 | send DATA |" in readme
    for line in done.stdout.splitlines():
        name, *measured = [cell.strip() for cell in line.strip("| \n").rsplit("|", 2)]
        if not measured or not measured[0][0].isdigit():
            continue
        row = re.compile(rf"^\| {re.escape(name)} \| ([\d.]+) \| ([\d.]+) \|$", re.MULTILINE)
        assert len(row.findall(document)) == 1, line
        for told in row.findall(document + readme):
            for said, is_ in zip(told, measured, strict=True):
                assert abs(float(said) / float(is_) - 1) < COMPILERS_DIFFER, line
        if name.startswith("encode"):
            assert float(measured[0]) <= LARGEST_ENCODER
