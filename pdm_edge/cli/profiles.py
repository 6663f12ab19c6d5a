"""pdm-edge profiles: the devices whose register map is known."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from pdm_edge.acquire.profiles import Profile, all_profiles, load_profile
from pdm_edge.cli.show import json_line


@click.command()
@click.argument("name", required=False)
@click.option(
    "--beside",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of your configuration, with profiles of your own in it or in its folder 'profiles'.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def profiles(name: str | None, beside: Path | None, as_json: bool) -> None:
    """List the Modbus devices whose register map is known, or show the map of one.

    Use one in a configuration with profile = "NAME" in [[machine.sensor]].
    """
    if name is not None:
        _show(load_profile(name, beside=beside), as_json)
        return
    for profile in all_profiles(beside=beside):
        if as_json:
            click.echo(json_line(_summary(profile)))
        else:
            click.echo(f"{profile.id:28} {profile.vendor}: {profile.device}")
            click.echo(f"{'':28} {', '.join(row.quantity for row in profile.register)}")


def _summary(profile: Profile) -> dict[str, object]:
    return {
        "id": profile.id,
        "vendor": profile.vendor,
        "device": profile.device,
        "quantities": [{"quantity": r.quantity, "unit": r.unit, "extra": r.extra} for r in profile.register],
        "document": profile.document.title,
        "revision": profile.document.revision,
    }


def _show(profile: Profile, as_json: bool) -> None:
    if as_json:
        click.echo(json_line(msgspec.to_builtins(profile)))
        return
    click.echo(f"{profile.id}: {profile.vendor} {profile.device}")
    click.echo(f"  from {profile.document.title}, {profile.document.revision}")
    for place in profile.document.seen:
        click.echo(f"    {place}")
    for text in (profile.document.note, profile.left_out and f"Left out: {profile.left_out}"):
        if text:
            click.echo(f"  {text}")
    for row in profile.register:
        bits = "" if row.bit is None else f" bit {row.bit}"
        extra = "  (only with take)" if row.extra else ""
        what = f"{row.quantity} [{row.unit}]"
        click.echo(f"  {what:32} {row.table} {row.address} {row.type}{bits} x {row.scale:g}{extra}")
        click.echo(f"      {row.stated}")
