"""pdm-edge ports: which serial devices are there."""

from __future__ import annotations

from pathlib import Path

import click

from pdm_edge.cli.show import json_line


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def ports(as_json: bool) -> None:
    """List serial devices, with the name that stays the same after a reboot."""
    from serial.tools.list_ports import comports

    stable = _stable_names()
    found = sorted(comports(), key=lambda port: str(port.device))
    for port in found:
        name = stable.get(str(Path(port.device).resolve()), "")
        if as_json:
            row = {"device": port.device, "stable": name, "description": port.description, "hwid": port.hwid}
            click.echo(json_line(row))
        else:
            click.echo(f"{port.device}  {port.description}")
            click.echo(f'    source = "serial://{name or port.device}?baud=..."')
    if not found:
        click.echo("No serial devices found. Is the adapter plugged in? Try: ls /dev/tty*", err=True)


def _stable_names() -> dict[str, str]:
    folder = Path("/dev/serial/by-id")
    if not folder.is_dir():
        return {}
    return {str(link.resolve()): str(link) for link in sorted(folder.iterdir())}
