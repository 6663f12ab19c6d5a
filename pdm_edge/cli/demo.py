"""pdm-edge demo: the whole chain in under a minute, without hardware.

A simulated machine, but real lines: frames of the wire protocol through a pseudo terminal, a real
Modbus TCP server, a real HTTP receiver. What the monitor does is what it does beside a machine.
"""

from __future__ import annotations

import logging
import math
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pdm_edge.cli.show import machine_table
from pdm_edge.errors import ConfigError, PdmError

if TYPE_CHECKING:
    from pdm_edge.acquire.simulate import VibrationSimulator
    from pdm_edge.acquire.simulated_devices import SimulatedSensor, SimulatedTransmitter
    from pdm_edge.monitor import Monitor, MonitorStatus
    from pdm_edge.records import Advisory
    from pdm_edge.store import BufferStatus
    from pdm_edge.sync.receive_http import HttpReceiver
from pdm_edge.sync.receiver import Receiver

SPEED_RPM: Final = 1480.0
SAMPLE_RATE_HZ: Final = 12_800.0
LONGEST_S: Final = 55.0
_HEALTHY_S: Final = 4.0
_GROWTH_S: Final = 12.0
_FIRST_SEVERITY: Final = 0.004
_LINK_DOWN_S: Final = 10.0

_CONFIG: Final = """\
[gateway]
id = "demo-gateway"

[[machine]]
id = "pump-1"
rated_speed_rpm = {speed_rpm:g}
iso20816 = {{ group = 2, support = "rigid" }}
window_s = 0.25
detect = {{ learn_windows = 60 }}

[[machine.sensor]]
id = "drive-end"
source = "serial://{port}?baud=921600"
bearing = {{ designation = "6205" }}

[[machine.sensor]]
id = "drive-end-temp"
source = "modbus+tcp://127.0.0.1:{modbus_port}?device=1"
poll_s = 0.2

[[machine.sensor.register]]
quantity = "temperature"
unit = "degc"
table = "input"
address = 0
type = "int16"
scale = 0.1

[store]
path = "pump-1.db"
max_mb = 64

[sync]
url = "http://127.0.0.1:{http_port}/"
longest_pause_s = 2
"""


@click.command()
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Leave configuration, model and databases in this new folder.",
)
def demo(keep: Path | None) -> None:
    """Run the whole chain on a simulated machine, in under a minute.

    The monitor learns what healthy looks like; a bearing fault grows; the alarm rises; the link is
    down for a while; then everything arrives. Ends with exit status 0 if all of that happened.
    """
    if logging.getLogger().level == logging.WARNING:
        # The story tells of the broken link by itself.
        logging.getLogger("pdm_edge").setLevel(logging.ERROR)
    if sys.platform == "win32":
        raise ConfigError("the demo needs pseudo terminals", mend="Run it on Linux or macOS")
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise ConfigError("is not empty", where=str(keep), mend="Name a new folder: a demo starts afresh")
    folder = keep or Path(tempfile.mkdtemp(prefix="pdm-edge-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _plant(folder) as plant:
            failures = _run(plant)
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    if keep is not None:
        click.echo(f"\nEverything is kept. Try: pdm-edge status {folder / 'pump-1.db'}")
    if failures:
        raise PdmError(f"the demo did not do what it promises: {'; '.join(failures)}")


@dataclass(slots=True)
class _Plant:
    """The simulated machine, its sensors, the far end, and where the story stands."""

    folder: Path
    vibration: VibrationSimulator
    sensor: SimulatedSensor
    transmitter: SimulatedTransmitter
    receiver: Receiver
    link: HttpReceiver | None
    link_port: int
    monitor: Monitor
    started_s: float = field(default_factory=time.monotonic)
    learned_s: float | None = None
    link_was_down: bool = False
    advisories: list[Advisory] = field(default_factory=list)
    scores: deque[float] = field(default_factory=lambda: deque(maxlen=60))
    told: list[str] = field(default_factory=list)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started_s

    def say(self, text: str) -> None:
        self.told.append(f"{self.elapsed_s:5.1f} s  {text}")

    def play(self) -> None:
        """Move the story on: the fault, the temperature, the link."""
        if self.learned_s is None:
            return
        since_s = self.elapsed_s - self.learned_s - _HEALTHY_S
        # Damage grows by a factor in equal times: at first there is next to nothing to be seen.
        severity = _FIRST_SEVERITY ** (1 - min(since_s / _GROWTH_S, 1.0)) if since_s > 0 else 0.0
        if severity > 0 and self.vibration.severity == 0:
            self.say("(the bearing starts to fail; the monitor does not know)")
        self.vibration.severity = severity
        self.transmitter.temperature_degc = 40.0 + 6.0 * severity
        if since_s > 1 and self.link is not None and not self.link_was_down:
            self.link_was_down = True
            self.link.close()
            self.link = None
            self.say("(the link to the receiver goes down)")
        if since_s > 1 + _LINK_DOWN_S and self.link is None:
            self.link = _serve(self.receiver, self.link_port)
            self.say("(the link is back)")

    def take(self, advisory: Advisory) -> None:
        self.advisories.append(advisory)
        self.say(str(advisory))
        if advisory.previous == "learning" and self.learned_s is None:
            self.learned_s = self.elapsed_s

    @property
    def alarmed(self) -> bool:
        return any(advisory.state == "alarm" for advisory in self.advisories)


def _serve(receiver: Receiver, port: int) -> HttpReceiver:
    from pdm_edge.sync.receive_http import HttpReceiver

    return HttpReceiver(receiver, port=port)


@contextmanager
def _plant(folder: Path) -> Iterator[_Plant]:
    """Start everything around the monitor, and the monitor; stop it all again."""
    from pdm_edge.acquire.simulate import VibrationSimulator
    from pdm_edge.acquire.simulated_devices import SimulatedSensor, SimulatedTransmitter
    from pdm_edge.features import CATALOGUE
    from pdm_edge.monitor import Monitor
    from pdm_edge.sync.receiver import Receiver

    strike_hz = CATALOGUE["6205"].frequencies(SPEED_RPM / 60).bpfo_hz
    vibration = VibrationSimulator(
        sample_rate_hz=SAMPLE_RATE_HZ, shaft_hz=SPEED_RPM / 60, strike_hz=strike_hz, seed=time.time_ns()
    )
    sensor, transmitter = SimulatedSensor(vibration), SimulatedTransmitter()
    receiver = Receiver(folder / "received.db")
    transmitter.start()
    link = _serve(receiver, 0)
    config = folder / "machine.toml"
    config.write_text(
        _CONFIG.format(
            speed_rpm=SPEED_RPM, port=sensor.port, modbus_port=transmitter.port, http_port=link.port
        )
    )
    monitor = Monitor.from_config(config)
    plant = _Plant(folder, vibration, sensor, transmitter, receiver, link, link.port, monitor)
    try:
        monitor.start()
        sensor.start()
        yield plant
    finally:
        sensor.stop()
        monitor.close()
        sensor.close()
        if plant.link is not None:
            plant.link.close()
        transmitter.close()
        receiver.close()


def _run(plant: _Plant) -> list[str]:
    """Play the story to its end; return what went wrong."""
    console = Console()
    console.print("A pump with a failing bearing. Simulated is the machine; lines and records are real.\n")
    plant.say("connecting; then learning what healthy looks like")
    shown = 0
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while plant.elapsed_s < LONGEST_S:
            for advisory in plant.monitor.step(timeout_s=0.2):
                plant.take(advisory)
            plant.play()
            for line in plant.told[shown:]:
                console.print(Text(line), soft_wrap=not console.is_terminal)
            shown = len(plant.told)
            status, buffer = plant.monitor.status(), _buffer(plant)
            plant.scores.append(status.machines[0].score)
            if console.is_terminal:
                live.update(_view(plant, status, buffer), refresh=True)
            if plant.alarmed and plant.link_was_down and plant.link is not None and not buffer.rows:
                break
    return _finish(plant, console)


def _buffer(plant: _Plant) -> BufferStatus:
    from pdm_edge.store import read_status

    return read_status(plant.folder / "pump-1.db")


def _finish(plant: _Plant, console: Console) -> list[str]:
    """Stop measuring, let the last rows go, count both ends, and print the balance."""
    plant.sensor.stop()
    plant.monitor.close()
    status, buffer = plant.monitor.status(), _buffer(plant)
    arrived = plant.receiver.count()
    lost = buffer.last_seq - arrived - buffer.rows - buffer.held
    lost_samples = status.counters.get("lost samples", 0)
    sent = plant.receiver.bytes_received
    console.print()
    console.print(Text(f"At the end: {status.machines[0].finding}"), soft_wrap=not console.is_terminal)
    table = Table(title="What happened", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in (
        ("windows judged or learned", f"{status.machines[0].windows:,}"),
        ("alarms", str(sum(a.state == "alarm" and a.previous != "alarm" for a in plant.advisories))),
        ("samples measured", f"{plant.sensor.samples_taken:,}"),
        ("samples lost on the line", f"{lost_samples:,}"),
        ("rows buffered", f"{buffer.last_seq - buffer.held:,}"),
        ("rows delivered", f"{arrived:,}"),
        ("rows that wait", f"{buffer.rows:,}"),
        ("waveforms kept as evidence", f"{buffer.held:,}"),
        ("rows lost", f"{lost:,}"),
        ("bytes raw (serial line)", f"{plant.sensor.bytes_written:,}"),
        ("bytes sent (to the receiver)", f"{sent:,}"),
        ("raw : sent", f"{plant.sensor.bytes_written / max(sent, 1):.0f} : 1"),
        ("time", f"{plant.elapsed_s:.0f} s"),
    ):
        table.add_row(name, value)
    console.print()
    console.print(table)
    checks = {
        "the alarm did not rise": plant.alarmed,
        "the link was never down": plant.link_was_down,
        f"{buffer.rows} rows were not delivered": buffer.rows == 0,
        f"{lost} rows were lost": lost == 0,
        f"{lost_samples} samples were lost": lost_samples == 0,
    }
    return [what for what, fine in checks.items() if not fine]


def _view(plant: _Plant, status: MonitorStatus, buffer: BufferStatus) -> Group:
    table = machine_table(status.machines)
    link = status.link
    parts = [
        f"link {'up' if link is not None and link.link_up else 'DOWN'}",
        f"{buffer.rows} rows wait",
        f"{buffer.delivered} delivered",
        f"true condition of the bearing: {plant.vibration.severity:.0%} failed",
    ]
    history = Text(f"score, last {len(plant.scores) / 4:.0f} s (log scale)  {_bars(plant.scores)}")
    return Group(Text(), table, history, Text("  ".join(parts)))


def _bars(scores: Iterable[float]) -> str:
    """Scores from 0.01 to 1000 as bars."""
    bars = " ▁▂▃▄▅▆▇█"
    heights = (0.0 if math.isnan(s) else (math.log10(max(s, 0.01)) + 2) / 5 for s in scores)
    return "".join(bars[min(max(round(h * 8), 0), 8)] for h in heights)
