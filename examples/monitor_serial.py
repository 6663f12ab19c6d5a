"""Watch one machine with a vibration sensor on a serial line.

    python examples/monitor_serial.py /dev/serial/by-id/usb-ACME_vib-if00 --baud 921600
    python examples/monitor_serial.py --simulate

The sensor speaks the wire protocol of firmware_bridge/PROTOCOL.md. Until it has seen 300 windows of a
second, the monitor learns what healthy looks like; from then on it tells what changes. Everything is
kept in pump-7.db, beside the learned model, so a restart does not learn anew.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from pathlib import Path

import pdm_edge as pdm
from pdm_edge.acquire.simulate import VibrationSimulator
from pdm_edge.acquire.simulated_devices import SimulatedSensor

CONFIG = """
[gateway]
id = "example-gateway"

[[machine]]
id = "pump-7"
rated_speed_rpm = 1480
iso20816 = {{ group = 2, support = "rigid" }}      # a 30 kW pump on a concrete foundation
window_s = {window_s}
detect = {{ learn_windows = {learn_windows} }}

[[machine.sensor]]
id = "drive-end"
source = "serial://{port}?baud={baud}"
bearing = {{ designation = "6205" }}

[store]
path = "pump-7.db"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Watch one machine on a serial line.")
    parser.add_argument("port", nargs="?", help="serial device; pdm-edge ports lists them")
    parser.add_argument("--baud", type=int, default=921600)
    parser.add_argument("--folder", type=Path, default=Path(), help="where database and model are kept")
    parser.add_argument("--window-s", type=float, default=1.0, help="length of a window")
    parser.add_argument("--learn-windows", type=int, default=300)
    parser.add_argument("--for-s", type=float, help="stop after so many seconds")
    parser.add_argument("--simulate", action="store_true", help="plug in a simulated sensor")
    options = parser.parse_args()
    if (options.port is None) != options.simulate:
        parser.error("give a port, or --simulate")
    with ExitStack() as stack:
        port = options.port or simulated_port(stack)
        config = options.folder / "machine.toml"
        config.write_text(
            CONFIG.format(
                port=port,
                baud=options.baud,
                window_s=options.window_s,
                learn_windows=options.learn_windows,
            ),
            encoding="utf-8",
        )
        watch(config, options.for_s)


def watch(config: Path, for_s: float | None) -> None:
    """Print every change of state, and a line of numbers every 5 s."""
    end_s = None if for_s is None else time.monotonic() + for_s
    next_line_s = time.monotonic()
    with pdm.Monitor.from_config(config) as monitor:
        while end_s is None or time.monotonic() < end_s:
            for advisory in monitor.step(timeout_s=0.5):
                print(advisory, flush=True)
            if time.monotonic() >= next_line_s:
                next_line_s += 5.0
                m = monitor.status().machines[0]
                learning = f", learned {m.learned} of {m.to_learn} windows" if m.to_learn else ""
                print(f"{m.machine}: {m.state}, {m.velocity_mm_s:.2f} mm/s, score {m.score:.2f}{learning}")


def simulated_port(stack: ExitStack) -> str:
    """A sensor on a pseudo terminal, with a healthy pump behind it."""
    pump = VibrationSimulator(sample_rate_hz=12_800.0, shaft_hz=1480 / 60, strike_hz=88.4, seed=1)
    sensor = SimulatedSensor(pump)
    sensor.start()
    stack.callback(sensor.close)
    return sensor.port


if __name__ == "__main__":
    main()
