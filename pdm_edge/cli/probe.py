"""pdm-edge probe: get to know a Modbus line, without writing anything."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import click

from pdm_edge.acquire import modbus_probe as modbus
from pdm_edge.acquire.burst import DEFAULT_BASE, BurstDescriptor, transfer_s
from pdm_edge.acquire.modbus_line import ModbusLine, NoAnswerError
from pdm_edge.acquire.modbus_url import LineSettings, line_settings
from pdm_edge.acquire.profiles import all_profiles
from pdm_edge.cli.show import json_line


@click.command()
@click.argument("url")
@click.option("--ids", default="1-247", show_default=True, help="Device ids to ask, such as 1-10,80.")
@click.option(
    "--at",
    type=click.IntRange(0, 65535),
    help="Show registers from this address on, as on the wire: what a manual calls 40001 or 30001 is 0.",
)
@click.option("--count", type=click.IntRange(1, 125), default=8, show_default=True, help="How many.")
@click.option("--table", type=click.Choice(["holding", "input"]), default="holding", show_default=True)
@click.option("--all", "show_all", is_flag=True, help="Show implausible readings too.")
@click.option(
    "--pause-ms", type=click.IntRange(0, 5000), default=20, show_default=True, help="Between requests."
)
@click.option(
    "--wait-ms", type=click.IntRange(10, 5000), default=150, show_default=True, help="For a device to answer."
)
@click.option(
    "--rows", type=click.Path(dir_okay=False, path_type=Path), help="Write sensor tables for what was found."
)
@click.option(
    "--beside",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with profiles of your own.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def probe(
    url: str,
    ids: str,
    at: int | None,
    count: int,
    table: str,
    show_all: bool,
    pause_ms: int,
    wait_ms: int,
    rows: Path | None,
    beside: Path | None,
    as_json: bool,
) -> None:
    """Find the devices on a Modbus line, recognise them, and show what their registers may mean.

    URL is that of the line (docs/modbus.md): modbus+rtu:///dev/ttyUSB0, modbus+tcp://192.168.0.10.
    Without ?baud= the usual baud rates and parities are tried. Everything is read-only and paced.
    Ends with exit status 2 if no device answers.
    """
    asked = _ids(ids)
    pause_s = pause_ms / 1000
    profiles = all_profiles(beside=beside)
    sensors: list[str] = []
    n_found = 0
    for settings in _settings(url, wait_ms / 1000):
        click.echo(f"asking {len(asked)} ids at {settings.url}", err=True)
        line = ModbusLine(settings)
        try:
            found = list(_told(modbus.find_devices(line, asked, pause_s=pause_s), as_json, settings.url))
            for device, _ in found:
                n_found += 1
                matches = modbus.recognise(line, device, profiles, pause_s=pause_s)
                for match in matches:
                    _show_match(match, device, as_json)
                if matches:
                    sensors.append(_sensor(settings, device, matches))
                burst = modbus.burst_of(line, device, pause_s=pause_s)
                if burst is not None:
                    sensors.append(_burst(settings, device, burst, as_json))
                if at is not None:
                    sensors += _registers(
                        line, settings, device, table, at, count, pause_s, show_all, as_json
                    )
        finally:
            line.close()
        if found and urlsplit(url).scheme == "modbus+rtu":
            break  # a serial line has one rate
    if rows is not None and sensors:
        rows.write_text("\n".join(sensors), encoding="utf-8")
        click.echo(f"wrote {len(sensors)} sensor tables to {rows}; put them under a [[machine]]", err=True)
    if not n_found:
        click.echo(
            f"No device answered within {wait_ms} ms. Check A/B wiring, termination, power, and the ids; "
            "a slow device needs more, such as --wait-ms 1000.",
            err=True,
        )
        raise SystemExit(2)


def _ids(text: str) -> list[int]:
    out: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if match is None:
            raise click.BadParameter(f"{part!r} is no id and no range", param_hint="--ids")
        first = int(match[1])
        out += range(first, int(match[2] or first) + 1)
    if not out or not all(0 <= device <= 255 for device in out):
        raise click.BadParameter("ids are 0 to 255", param_hint="--ids")
    return list(dict.fromkeys(out))


def _settings(url: str, timeout_s: float) -> Iterator[LineSettings]:
    """The settings to try, one after the other."""
    if urlsplit(url).scheme != "modbus+rtu" or "baud=" in url:
        yield replace(line_settings(url), timeout_s=timeout_s)
        return
    separator = "&" if "?" in url else "?"
    parities: Sequence[str] = modbus.PARITIES if "parity=" not in url else ("",)
    for baud in modbus.BAUDS:
        for parity in parities:
            tried = f"{url}{separator}baud={baud}" + (f"&parity={parity}" if parity else "")
            yield replace(line_settings(tried), timeout_s=timeout_s)


def _told(found: Iterator[tuple[int, str]], as_json: bool, url: str) -> Iterator[tuple[int, str]]:
    for device, how in found:
        if as_json:
            click.echo(json_line({"found": device, "how": how, "url": url}))
        else:
            click.echo(f"device {device}: {how}")
        yield device, how


def _show_match(match: modbus.Match, device: int, as_json: bool) -> None:
    if as_json:
        click.echo(json_line({"device": device, **asdict(match)}))
        return
    values = ", ".join(f"{quantity} {value:g} {unit}" for quantity, unit, value in match.values)
    click.echo(f"  {'is' if match.sure else 'may be'} {match.profile}: {values}")


def _registers(
    line: ModbusLine,
    settings: LineSettings,
    device: int,
    table: str,
    at: int,
    count: int,
    pause_s: float,
    show_all: bool,
    as_json: bool,
) -> list[str]:
    """Show registers in every type and order; return a sensor table with the plausible ones."""
    name: Literal["input", "holding"] = "input" if table == "input" else "holding"
    try:
        words = modbus.read_words(line, device, name, at, count, pause_s=pause_s)
    except NoAnswerError as error:
        click.echo(f"device {device}: {error}", err=True)
        return []
    if not words:
        numbered = at // 10000 * 10000 + 1  # 30001 and 40001 number a table in a manual
        hint = (
            f"; if that is a number in a manual, ask --at {at - numbered}" if at > numbered >= 30001 else ""
        )
        click.echo(f"device {device} refuses all of {name} {at} to {at + count - 1}{hint}", err=True)
        return []
    likely = []
    for view in modbus.views(words):
        if view.plausible:
            likely.append(view)
        if as_json:
            click.echo(json_line({"device": device, "table": name, **asdict(view)}))
        elif view.plausible or show_all:
            mark = "*" if view.plausible else " "
            click.echo(f"  {mark} {name} {view.address:5} {view.type:8} {view.letters:4} {view.value:.7g}")
    return [_hints(settings, device, name, likely)] if likely else []


def _burst(settings: LineSettings, device: int, burst: BurstDescriptor, as_json: bool) -> str:
    """Tell of a device that has waveforms, and how long one takes; return its sensor table."""
    takes_s = transfer_s(settings, burst)
    shape = (
        f"{len(burst.axes)} x {burst.n_samples} samples at {float(burst.sample_rate_hz):g} Hz, {burst.unit}"
    )
    if as_json:
        click.echo(json_line({"device": device, "burst": shape, "takes_s": takes_s}))
    else:
        click.echo(f"  has waveforms: {shape}; one takes about {takes_s:.1f} s on this line")
    return (
        f'[[machine.sensor]]\nid = "modbus-{device}-waveform"\nsource = "{_source(settings, device)}"\n'
        f"burst = {{ every_s = 600 }}  # one takes about {takes_s:.1f} s\n"
        f"# writable = [{DEFAULT_BASE + 32}]  # the trigger; allow it to get waveforms\n"
    )


def _source(settings: LineSettings, device: int) -> str:
    separator = "&" if "?" in settings.url else "?"
    return settings.url if "device=" in settings.url else f"{settings.url}{separator}device={device}"


def _sensor(settings: LineSettings, device: int, matches: Sequence[modbus.Match]) -> str:
    best, others = matches[0], [m.profile for m in matches[1:]]
    doubt = "" if best.sure else "  # by its values only; check it against the nameplate"
    also = f"# it could also be {', '.join(others)}\n" if others else ""
    return (
        f'[[machine.sensor]]\nid = "modbus-{device}"\nsource = "{_source(settings, device)}"\n'
        f'{also}profile = "{best.profile}"{doubt}\n'
    )


def _hints(settings: LineSettings, device: int, table: str, likely: Sequence[modbus.View]) -> str:
    """A sensor table with a row for each plausible reading, to be thinned out by a person."""
    lines = [
        "[[machine.sensor]]",
        f'id = "modbus-{device}-registers"',
        f'source = "{_source(settings, device)}"',
        "# Keep the rows that are right; the unit cannot be read from a register and must be given.",
    ]
    for view in likely:
        lines += [
            "[[machine.sensor.register]]",
            f'quantity = "{table}-{view.address}-{view.type}-{view.letters}"  # read {view.value:.7g}',
            'unit = ""',
            f"address = {view.address}",
            f'type = "{view.type}"',
            f'table = "{table}"',
            f'word_order = "{view.word_order}"',
            f'byte_order = "{view.byte_order}"',
        ]
    return "\n".join(lines) + "\n"
