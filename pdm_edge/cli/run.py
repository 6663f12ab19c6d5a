"""pdm-edge run: monitor the machines of a configuration until stopped."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from types import FrameType

import click
from rich.console import Console
from rich.live import Live

from pdm_edge.cli.options import positive
from pdm_edge.cli.show import echo_advisory, json_line, machine_table


@click.command()
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--for", "for_s", type=float, callback=positive, help="Stop after so many seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print advisories as JSON lines.")
def run(config: Path, for_s: float | None, as_json: bool) -> None:
    """Monitor the machines of CONFIG until Ctrl-C, SIGTERM or --for.

    Advisories go to stdout; a live table goes to stderr if that is a terminal. Ends with exit
    status 1 if a machine is in alert or alarm, 2 if the condition of one is unknown, else 0.
    """
    from pdm_edge.monitor import Monitor

    stop = False

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stop
        stop = True

    previous = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    deadline = None if for_s is None else time.monotonic() + for_s
    monitor = Monitor.from_config(config)
    console = Console(stderr=True)
    try:
        with monitor, Live(console=console, transient=True, auto_refresh=False) as live:
            while not (stop or monitor.ended or (deadline is not None and time.monotonic() > deadline)):
                for advisory in monitor.step():
                    echo_advisory(advisory, as_json=as_json)
                if console.is_terminal:
                    live.update(machine_table(monitor.status().machines), refresh=True)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    status = monitor.status()
    if as_json:
        counters = {"record": "counters", **status.counters}
        click.echo(json_line(counters))
    else:
        console.print(machine_table(status.machines))
        for name, count in sorted(status.counters.items()):
            if count:
                console.print(f"  {name}: {count}", highlight=False, markup=False)
    states = {machine.state for machine in status.machines}
    sys.exit(1 if states & {"alert", "alarm"} else 2 if "unknown" in states else 0)
