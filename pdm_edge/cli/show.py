"""How records and status look on a terminal, and as JSON lines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import click
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pdm_edge.machine import MachineStatus
from pdm_edge.records import Advisory

STYLES = {
    "learning": "cyan",
    "normal": "green",
    "alert": "yellow",
    "alarm": "bold red",
    "unknown": "magenta",
}


def utc_text(utc_ns: int) -> str:
    return datetime.fromtimestamp(utc_ns / 1e9, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def plain(value: Any) -> Any:
    """A value as JSON can hold it: NaN becomes null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def json_line(value: Any) -> str:
    return json.dumps(plain(value), separators=(",", ":"), ensure_ascii=False)


def echo_advisory(advisory: Advisory, *, as_json: bool, elapsed: bool = False) -> None:
    """Print an advisory; with `elapsed`, its time is that within a recording."""
    if as_json:
        click.echo(json_line({"record": "advisory", **asdict(advisory)}))
        return
    when = f"at {advisory.stamp.utc_ns / 1e9:.1f} s" if elapsed else utc_text(advisory.stamp.utc_ns)
    click.echo(f"{when}  {advisory}")


def number(value: float, digits: int = 2) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def machine_table(machines: tuple[MachineStatus, ...]) -> Group:
    """Numbers as a table, and what there is to say of a machine in full below it."""
    table = Table(expand=False, title_justify="left")
    for heading in ("machine", "state", "operating", "windows", "score", "velocity mm/s", "zone"):
        table.add_column(heading, justify="right" if heading in ("windows", "score") else "left")
    said = []
    for m in machines:
        state = f"[{STYLES[m.state]}]{m.state}[/]"
        velocity = number(m.velocity_mm_s)
        table.add_row(m.machine, state, m.operating, str(m.windows), number(m.score), velocity, m.zone or "-")
        learning = f"learned {m.learned} of {m.to_learn} windows" if m.to_learn else ""
        if m.raised_utc_ns is not None:
            said.append(Text(f"{m.machine}: stands since {utc_text(m.raised_utc_ns)} UTC"))
        said += [Text(f"{m.machine}: {text}") for text in (m.finding, m.note or learning) if text]
    return Group(table, *said)
