"""pdm-edge export: what a buffer holds, for a spreadsheet, a notebook or a replay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pdm_edge.cli import options
from pdm_edge.errors import ConfigError, StoreError


@click.command()
@click.argument("database", type=click.Path(path_type=Path), callback=options.database)
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--what",
    type=click.Choice(["features", "readings", "scores", "alarms", "gaps", "spectra", "trend"]),
    default="features",
    show_default=True,
    help="Which table; .npz holds waveforms, or spectra.",
)
@click.option("--subject", default="", metavar="ID", help="Only this machine or sensor.")
@click.option("--alarm", default="", metavar="ID", help="Only the evidence of this alarm (.npz).")
def export(database: Path, out: Path, what: Any, subject: str, alarm: str) -> None:
    """Write what the buffer file DATABASE holds to OUT: .csv, .parquet, or .npz for waveforms and spectra.

    Units stand in the headings. Nothing leaves the buffer, and a running monitor is not disturbed.
    The waveforms of an .npz can be replayed. A configuration (.toml) stands for its buffer file.
    """
    from pdm_edge.store.export import export_csv, export_npz, export_parquet, export_spectra_npz

    kind = out.suffix.lower()
    try:
        if kind == ".csv":
            n = export_csv(database, out, what=what, subject=subject)
        elif kind == ".parquet":
            n = export_parquet(database, out, what=what, subject=subject)
        elif kind == ".npz" and what == "spectra":
            n = export_spectra_npz(database, out, subject=subject, alarm=alarm)
        elif kind == ".npz":
            n = export_npz(database, out, subject=subject, alarm=alarm)
        else:
            raise ConfigError(
                f"unknown kind of file {kind!r}", where=str(out), mend="Name .csv, .parquet or .npz"
            )
    except OSError as error:
        raise StoreError(
            f"cannot be written: {error.strerror or error}",
            where=str(out),
            mend="Name a file in a folder that is there and may be written to",
        ) from error
    arrays = "spectra" if what == "spectra" else "waveforms"
    click.echo(f"{n} {arrays if kind == '.npz' else 'rows'} written to {out}")
