"""pdm-edge status and sync: what waits in a buffer, and emptying it now."""

from __future__ import annotations

import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from pdm_edge.cli.show import json_line, utc_text


@click.command()
@click.argument("database", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(database: Path, as_json: bool) -> None:
    """Show what waits in the buffer file DATABASE; a running monitor is not disturbed."""
    from dataclasses import asdict

    from pdm_edge.store import read_status

    found = read_status(database)
    if as_json:
        click.echo(json_line(asdict(found)))
        return
    table = Table(title=f"{database} (gateway {found.gateway}, {found.file_bytes / 1e6:.2f} MB)")
    for heading in ("lane", "waiting", "kB", "oldest (UTC)", "age", "delivered", "given up"):
        table.add_column(heading, justify="left" if heading == "lane" else "right")
    for name, lane in found.lanes.items():
        oldest = "-" if lane.oldest_utc_ns is None else utc_text(lane.oldest_utc_ns)
        age = "-" if lane.oldest_utc_ns is None else _age(time.time() - lane.oldest_utc_ns / 1e9)
        table.add_row(
            name,
            str(lane.rows),
            f"{lane.body_bytes / 1e3:.1f}",
            oldest,
            age,
            str(lane.delivered),
            str(lane.evicted),
        )
    console = Console()
    console.print(table)
    console.print(f"last alarm that waits: {found.last_alarm or 'none'}", highlight=False, markup=False)


@click.command()
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def sync(config: Path) -> None:
    """Deliver everything that waits in the buffer of CONFIG now, then stop.

    Rows leave the buffer only on a receipt; after a failure the rest stays, exit status 2.
    """
    from pdm_edge.clock import SystemClock
    from pdm_edge.config import load_config
    from pdm_edge.sync import drain
    from pdm_edge.wiring import open_buffer, uploader_for

    loaded = load_config(config)
    uploader = uploader_for(loaded)
    buffer = open_buffer(loaded, SystemClock())
    try:
        rows = drain(buffer, uploader)
        left = buffer.status().rows
    finally:
        uploader.close()
        buffer.close()
    click.echo(f"{rows} rows delivered, {left} left")


def _age(seconds_s: float) -> str:
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds_s >= size:
            return f"{seconds_s / size:.1f} {unit}"
    return f"{max(seconds_s, 0):.0f} s"
