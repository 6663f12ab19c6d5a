"""pdm-edge status and sync: what waits in a buffer, and emptying it now."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from pdm_edge.cli import options
from pdm_edge.cli.show import json_line, utc_text

if TYPE_CHECKING:
    from pdm_edge.advise import StandingAlarm
    from pdm_edge.store import BufferStatus


@click.command()
@click.argument("database", type=click.Path(path_type=Path), callback=options.database)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(database: Path, as_json: bool) -> None:
    """Show what waits in the buffer file DATABASE; a running monitor is not disturbed.

    A configuration (.toml) stands for its buffer file.
    """
    from dataclasses import asdict

    from pdm_edge.store import read_status

    found = read_status(database)
    if as_json:
        derived = {
            "standing": [asdict(standing) for standing in _standing(database)],
            "rows": found.rows,
            "oldest_utc_ns": found.oldest_utc_ns,
            "drained_in_s": found.drained_in_s,
        }
        click.echo(json_line({**asdict(found), **derived}))
        return
    table = Table(title=f"{database} (gateway {found.gateway}, {found.file_bytes / 1e6:.2f} MB)")
    for heading in ("lane", "waiting", "kB", "oldest (UTC)", "age", "delivered", "given up"):
        table.add_column(heading, justify="left" if heading == "lane" else "right")
    for name, lane in found.lanes.items():
        oldest = "-" if lane.oldest_utc_ns is None else utc_text(lane.oldest_utc_ns)
        table.add_row(
            f"{name} (on request)" if lane.on_request else name,
            str(lane.rows),
            f"{lane.body_bytes / 1e3:.1f}",
            oldest,
            _age(lane.oldest_utc_ns),
            str(lane.delivered),
            str(lane.evicted),
        )
    console = Console()
    console.print(table)
    lines = [_backlog(found), _link(found), _clock(found), f"last alarm: {found.last_alarm or 'none'}"]
    for standing in _standing(database):
        since = f"{standing.level} since {utc_text(standing.raised.utc_ns)} UTC"
        lines.append(f"standing: {standing.machine}: {since}: {standing.headline}")
    if found.refused:
        lines.append(
            f"refused by the far end: {found.refused} rows set aside, the latest {found.last_refused}"
        )
    for line in lines:
        console.print(line, highlight=False, markup=False)


@click.command()
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--again", is_flag=True, help="Try rows once more that the far end has refused, as new rows.")
def sync(config: Path, again: bool) -> None:
    """Deliver everything that waits in the buffer of CONFIG now, and what the far end asks for; then stop.

    Rows leave the buffer only on a receipt; after a failure the rest stays, exit status 2.
    """
    from pdm_edge.clock import SystemClock
    from pdm_edge.config_file import load_config
    from pdm_edge.sync import drain
    from pdm_edge.wiring import open_buffer, uploader_for

    loaded = load_config(config)
    uploader = uploader_for(loaded)
    buffer = open_buffer(loaded, SystemClock())
    try:
        if again:
            click.echo(f"{buffer.release_refused()} refused rows are tried again", err=True)
        ask = loaded.sync is not None and loaded.sync.receipt == "end_to_end"
        rows = drain(buffer, uploader, ask=ask)
        left = buffer.status().rows
    finally:
        uploader.close()
        buffer.close()
    click.echo(f"{rows} rows delivered, {left} left")


def _standing(database: Path) -> list[StandingAlarm]:
    from pdm_edge.advise import standing_alarms

    return standing_alarms(database.parent / "models")


def _backlog(found: BufferStatus) -> str:
    if not found.rows:
        return f"backlog: none{f'; {found.held} rows wait for a request' if found.held else ''}"
    when = f"the oldest row is {_age(found.oldest_utc_ns)} old"
    left_s = found.drained_in_s
    if left_s is None:
        return f"backlog: {found.rows} rows, {when}"
    return f"backlog: {found.rows} rows, {when}; about {_span(left_s)} to drain once the link is up"


def _link(found: BufferStatus) -> str:
    if found.last_receipt_utc_ns is None:
        told = "nothing was ever delivered"
    else:
        told = f"last receipt {_age(found.last_receipt_utc_ns)} ago"
    if found.link_error:
        told += f"; down: {found.link_error}"
    days = found.sent_bytes_by_day or {}
    if days:
        day, sent = list(days.items())[-1]
        told += f"; {sent / 1e3:.1f} kB sent on {day}"
    return f"link: {told}"


def _clock(found: BufferStatus) -> str:
    words = {None: "no row yet", True: "trusted", False: "NOT trusted: rows are corrected when it is set"}
    return f"clock: {words[found.clock_trusted]}"


def _age(utc_ns: int | None) -> str:
    return "-" if utc_ns is None else _span(time.time() - utc_ns / 1e9)


def _span(seconds_s: float) -> str:
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds_s >= size:
            return f"{seconds_s / size:.1f} {unit}"
    return f"{max(seconds_s, 0):.0f} s"
