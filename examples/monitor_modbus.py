"""Watch a machine by the values of a Modbus transmitter: no waveform, one value a second.

    python examples/monitor_modbus.py modbus+tcp://192.168.0.20:502
    python examples/monitor_modbus.py "modbus+rtu:///dev/ttyUSB0?baud=19200"
    python examples/monitor_modbus.py --simulate

Such a machine is a full citizen: its readings are joined into one vector a window, a model is learned
from it, and a dead or silent transmitter is told as *unknown*, never as normal. The register below is
that of the simulated transmitter; take yours from the register list of the maker.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from pathlib import Path

import pdm_edge as pdm
from pdm_edge.acquire.simulated_devices import SimulatedTransmitter

CONFIG = """
[gateway]
id = "example-gateway"

[[machine]]
id = "gearbox-2"
window_s = {window_s}
detect = {{ learn_windows = {learn_windows} }}
alarm = {{ stale_after_s = 5 }}

[[machine.sensor]]
id = "oil-sump"
source = "{source}"
poll_s = 0.2

[[machine.sensor.register]]
quantity = "temperature"
unit = "degc"
device = 1
table = "input"
address = 0           # counted from 0, as on the wire: manuals call it 30001
type = "int16"
scale = 0.1
minimum = -40
maximum = 200

[store]
path = "gearbox-2.db"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Watch a machine by a Modbus transmitter.")
    parser.add_argument("source", nargs="?", help="modbus+tcp://host:port or modbus+rtu:///dev/...?baud=...")
    parser.add_argument("--folder", type=Path, default=Path(), help="where database and model are kept")
    parser.add_argument("--window-s", type=float, default=1.0, help="length of a window")
    parser.add_argument("--learn-windows", type=int, default=300)
    parser.add_argument("--for-s", type=float, help="stop after so many seconds")
    parser.add_argument("--simulate", action="store_true", help="serve a simulated transmitter")
    options = parser.parse_args()
    if (options.source is None) != options.simulate:
        parser.error("give a source, or --simulate")
    with ExitStack() as stack:
        source = options.source or simulated_source(stack)
        config = options.folder / "machine.toml"
        text = CONFIG.format(source=source, window_s=options.window_s, learn_windows=options.learn_windows)
        config.write_text(text, encoding="utf-8")
        end_s = None if options.for_s is None else time.monotonic() + options.for_s
        with pdm.Monitor.from_config(config) as monitor:
            while end_s is None or time.monotonic() < end_s:
                for advisory in monitor.step(timeout_s=0.5):
                    print(advisory, flush=True)
            for name, count in sorted(monitor.status().counters.items()):
                print(f"  {name}: {count}")


def simulated_source(stack: ExitStack) -> str:
    """A transmitter on Modbus TCP at 40 degC."""
    transmitter = SimulatedTransmitter()
    transmitter.start()
    stack.callback(transmitter.close)
    return f"modbus+tcp://127.0.0.1:{transmitter.port}"


if __name__ == "__main__":
    main()
