"""pdm-edge analyze: what one recording says, as a vibration analyst would ask it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from pdm_edge import features as f
from pdm_edge.assess.evidence import LINE_LEVEL_DB, LINE_NAMES
from pdm_edge.cli.analysis import Analysis, analyse, spread
from pdm_edge.cli.options import positive
from pdm_edge.cli.show import json_line
from pdm_edge.errors import ConfigError


@click.command()
@click.argument("recording", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--sample-rate-hz", type=float, help="Where the file does not state it.")
@click.option("--unit", help="g, m_s2 or mm_s, where the file does not state it.")
@click.option("--variable", help="Which array of the file; a pattern such as '*DE_time' will do.")
@click.option("--scale", type=float, default=1.0, help="Factor from the numbers in the file to the unit.")
@click.option(
    "--window-s", type=float, callback=positive, default=1.0, show_default=True, help="Length of a window."
)
@click.option("--speed-rpm", type=float, callback=positive, help="Speed of the shaft.")
@click.option(
    "--bearing",
    help="Designation from the catalogue, such as 6205; others of series 62, 63, NU2, NU22, 222 with --balls",
)
@click.option(
    "--orders",
    type=(float, float),
    metavar="BPFO BPFI",
    help="Passes of both races for each turn, as the maker publishes them; instead of --bearing.",
)
@click.option(
    "--balls",
    type=int,
    help="Counted number of balls or rollers of one row, for a bearing not in the catalogue.",
)
@click.option(
    "--ball-mm", type=float, help="Ball diameter; with --balls and --pitch-mm instead of --bearing."
)
@click.option("--pitch-mm", type=float, help="Pitch diameter.")
@click.option("--angle-deg", type=float, default=0.0, help="Contact angle.")
@click.option("--group", type=click.IntRange(1, 2), help="Machine group of ISO 20816-3.")
@click.option("--support", type=click.Choice(["rigid", "flexible"]), help="Support of ISO 20816-3.")
@click.option("--band-hz", type=(float, float), help="Envelope band; chosen by the kurtogram without it.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for the picture (.png, .svg, .pdf); without it RECORDING_analysis.png, where you are.",
)
@click.option("--no-plot", is_flag=True, help="Write no picture.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")
def analyze(recording: Path, as_json: bool, plot: Path | None, no_plot: bool, **options: Any) -> None:
    """Analyse RECORDING (.npz, .csv, .wav, .mat): features, ISO zone, envelope, sensor self-check.

    Prints the table and writes a picture of waveform, spectra and envelope spectrum with the
    bearing lines marked. Ends with exit status 1 if a bearing line stands out or the ISO zone is C or D.
    """
    from pdm_edge.acquire.recordings import load_recording

    if plot is not None and no_plot:
        raise click.UsageError("--plot and --no-plot contradict each other")
    if (options["group"] is None) != (options["support"] is None):
        raise click.UsageError("--group and --support belong together; neither is guessed")
    record = load_recording(
        recording,
        sample_rate_hz=options["sample_rate_hz"],
        unit=options["unit"],
        variable=options["variable"],
        scale=options["scale"],
    )
    geometry = _geometry(options)
    basis = "" if geometry is None else _bearing_basis(options, geometry)
    analysis = analyse(record, geometry=geometry, bearing_basis=basis, options=options)
    if as_json:
        click.echo(json_line(analysis.as_dict()))
    else:
        _print(analysis)
        sys.stdout.flush()
    if not no_plot:
        _draw(analysis, plot)
    graded = analysis.grade is not None and analysis.grade.zone in ("C", "D")
    sys.exit(1 if graded or any(line.stands_out for line in analysis.lines) else 0)


def _draw(analysis: Analysis, wanted: Path | None) -> None:
    """The picture. One that was not asked for by name may fail, and says how to get it."""
    from pdm_edge.cli.plot import default_file, draw

    file = wanted or default_file(analysis.record.path)
    try:
        draw(analysis, file)
    except ConfigError as error:
        if wanted is not None:
            raise
        click.echo(f"no plot: {error.what}. {error.mend}; --no-plot leaves it out", err=True)
    else:
        click.echo(f"plot written to {file}", err=True)


def _geometry(options: dict[str, Any]) -> f.BearingGeometry | None:
    from pdm_edge.config_bearing import BearingConfig

    sizes = (options["ball_mm"], options["pitch_mm"])
    bpfo, bpfi = options["orders"] or (None, None)
    if (options["bearing"], options["balls"], bpfo, *sizes) == (None,) * 5:
        return None
    try:
        return BearingConfig(
            designation=options["bearing"],
            balls=options["balls"],
            ball_diameter_mm=sizes[0],
            pitch_diameter_mm=sizes[1],
            contact_angle_deg=options["angle_deg"],
            bpfo_order=bpfo,
            bpfi_order=bpfi,
        ).geometry()
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error), where="bearing") from error


def _bearing_basis(options: dict[str, Any], geometry: f.BearingGeometry) -> str:
    """Which bearing the lines are those of, and who says so."""
    row = None if options["bearing"] is None else f.catalogued(options["bearing"])
    if options["orders"] is not None:
        source = "by the orders given"
    elif row is not None and options["balls"] in (None, row[1].balls):
        source = f"{row[0]} of the catalogue: {f.CATALOGUE_SOURCES[row[0]]}"
    elif options["bearing"] is not None:
        source = f"{options['bearing']}, estimated from its boundary dimensions"
    else:
        source = "by the geometry given"
    return f"{geometry.balls} rolling elements, {source}"


def _print(analysis: Analysis) -> None:
    console = Console(highlight=False, soft_wrap=True)
    record = analysis.record
    console.print(
        f"{record.path.name}: {len(record.axes)} x {analysis.seconds:.2f} s "
        f"at {record.sample_rate_hz:g} Hz, {record.unit}; {analysis.windows} windows",
        markup=False,
    )
    speed = "unknown" if analysis.speed_hz is None else f"{analysis.speed_hz:.2f} Hz"
    console.print(f"speed: {speed} ({analysis.speed_basis.removeprefix('unknown: ')})", markup=False)
    if analysis.bearing_basis:
        console.print(f"bearing: {analysis.bearing_basis}", markup=False)
    for doubt in analysis.doubts or ("nothing found",):
        console.print(f"sensor self-check: {doubt}", markup=False)
    table = Table("feature", "unit")
    for heading in ("median", "min", "max"):
        table.add_column(heading, justify="right")
    for name, unit, *values in zip(
        analysis.schema.names, analysis.schema.units, *spread(analysis.features), strict=True
    ):
        table.add_row(name, unit, *(f"{value:.4g}" for value in values))
    console.print(table)
    if analysis.grade is not None:
        console.print(f"ISO 20816-3 {analysis.grade}", markup=False)
        grade = analysis.grade
        limit = f.alarm_proposal_mm_s(grade.velocity_rms_mm_s, grade.group, grade.support)
        console.print(f"taken as the baseline it would put ALARM at {limit:.2f} mm/s", markup=False)
    for axis, choice in zip(record.axes, analysis.bands, strict=False):
        low_hz, high_hz = choice.band_hz
        console.print(f"envelope band {axis}: {low_hz:.0f}-{high_hz:.0f} Hz, {choice.why}", markup=False)
    if analysis.lines:
        console.print(_lines_table(analysis))
        standing = sorted(
            (line for line in analysis.lines if line.stands_out), key=lambda line: -line.level_db
        )
        named = [f"{LINE_NAMES[line.name]} at {line.axis}, {line.level_db:.0f} dB" for line in standing]
        console.print(f"standing out: {', '.join(named) or 'none'}", markup=False)


def _lines_table(analysis: Analysis) -> Table:
    table = Table(title=f"envelope lines; one counts from {LINE_LEVEL_DB:g} dB", padding=(0, 0, 0, 1))
    for heading in ("axis", "line"):
        table.add_column(heading, no_wrap=True)
    for heading in ("nominal Hz", "found Hz", "g RMS", "level dB", "harmonics", "sides"):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in analysis.lines:
        table.add_row(
            line.axis,
            f"{line.name.upper()} [b]<<[/b]" if line.stands_out else line.name.upper(),
            f"{line.nominal_hz:.2f}",
            f"{line.found_hz:.2f}",
            f"{line.amplitude:.4g}",
            f"{line.level_db:.1f}",
            " ".join(f"{level:.0f}" for level in line.harmonics_db),
            str(line.sidebands),
        )
    return table
