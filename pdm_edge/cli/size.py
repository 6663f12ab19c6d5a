"""pdm-edge size: what a configuration will need, before it runs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from pdm_edge.cli.show import json_line
from pdm_edge.config_file import load_config


@click.command()
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--sample-rate",
    "sample_rate_hz",
    type=click.FloatRange(min=0, min_open=True),
    help="Of sensors that only tell it when they are connected, in Hz.",
)
@click.option("--axes", type=click.IntRange(1, 4), default=1, show_default=True, help="Of those sensors.")
@click.option(
    "--burst-samples",
    type=click.IntRange(min=1),
    help="Samples of each axis in a burst over Modbus.  [default: as long as the machine's window]",
)
@click.option(
    "--turnaround-ms",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="What a Modbus device takes to begin its reply.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def size(
    config: Path,
    sample_rate_hz: float | None,
    axes: int,
    burst_samples: int | None,
    turnaround_ms: float,
    as_json: bool,
) -> None:
    """Say what CONFIG needs: line use, poll times, samples/s, CPU, disk and bytes a day.

    Lines are reckoned; the rest is measured here, by running each machine's pipeline on noise.
    Ends with exit status 1 if a line or the CPU is asked for more than it has.
    """
    from pdm_edge.sizing import size_of

    checked = load_config(config)
    click.echo("measuring ...", err=True)
    result = size_of(
        checked,
        sample_rate_hz=sample_rate_hz,
        n_axes=axes,
        burst_samples=burst_samples,
        turnaround_s=turnaround_ms / 1000,
    )
    if as_json:
        for line in result.lines:
            click.echo(json_line({"record": "line", **asdict(line)}))
        for machine in result.machines:
            click.echo(json_line({"record": "machine", **asdict(machine)}))
        total = {k: v for k, v in asdict(result).items() if k not in ("lines", "machines")}
        click.echo(json_line({"record": "total", **total}))
    else:
        for line in result.lines:
            use = "" if line.use is None else f"  line use {line.use:.1%}"
            polls = f"  {line.requests_s:.1f} requests/s, slowest poll {line.slowest_poll_s * 1000:.0f} ms"
            if line.slowest_burst_s:
                polls += f"; bursts {line.burst_use:.1%}, one takes {line.slowest_burst_s:.1f} s"
            what = f"  {line.values_s:.0f} {'values' if line.kind == 'modbus' else 'samples'}/s"
            click.echo(
                f"{line.line}{use}{what}{polls if line.kind == 'modbus' else ''}  {line.note}".rstrip()
            )
        for machine in result.machines:
            click.echo(
                f"machine {machine.machine}: {machine.samples_s:.0f} samples/s, "
                f"{machine.windows_s:g} windows/s of {machine.features} features, "
                f"CPU {machine.cpu:.2%} of a core here"
            )
        click.echo(
            f"in all: CPU {result.cpu:.2%} of a core, disk {result.stored_bytes_day / 1e6:.1f} MB/day "
            f"({result.days_offline:.0f} days offline in {checked.store.max_mb} MB), "
            f"upload {result.sent_bytes_day / 1e6:.1f} MB/day"
        )
    over = result.cpu > 1 or any(line.use is not None and line.use > 1 for line in result.lines)
    raise SystemExit(1 if over else 0)
