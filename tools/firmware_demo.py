"""The firmware of firmware_bridge/c on an emulated Cortex-M3, and `pdm-edge run` on its terminal.

What is given behind the name of this script goes to `pdm-edge run`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from firmware_bridge.emulator import EmulatedDevice, EmulatorError, build_cortex_m3

RATE = "-DDEVICE_FIRST_RATE=1"  # 12.8 kHz: the emulator makes a system call for each byte
MACHINE = """
[gateway]
id = "firmware-demo"

[[machine]]
id = "demo-machine"
rated_speed_rpm = 1480

[[machine.sensor]]
id = "drive-end"
source = "serial://{port}?baud=921600"
channel = 0

[store]
path = "{folder}/demo.db"
"""


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="pdm-firmware-"))
    try:
        print("building the firmware for Cortex-M3", file=sys.stderr)
        device = EmulatedDevice(build_cortex_m3(folder / "device.elf", RATE))
        try:
            print(f"it runs on {device.port}", file=sys.stderr)
            config = folder / "machine.toml"
            config.write_text(MACHINE.format(port=device.port, folder=folder))
            arguments = sys.argv[1:] or ["--for", "20"]
            command = [sys.executable, "-c", "from pdm_edge.cli import main; main()", "run", str(config)]
            return subprocess.run([*command, *arguments], check=False).returncode
        finally:
            device.kill()
    except EmulatorError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
