"""The picture of `pdm-edge analyze`: waveform, spectra, envelope spectrum with the bearing lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pdm_edge import features as f
from pdm_edge.errors import ConfigError

if TYPE_CHECKING:
    from pdm_edge.cli.analysis import Analysis, Line

COLOURS = {"bpfo": "tab:red", "bpfi": "tab:orange", "bsf": "tab:green", "ftf": "tab:purple"}
_DECADES = 5
"""What is shown of a spectrum below its highest line."""
_TURNS = 10
"""Multiples of the shaft speed that the velocity spectrum shows; 200 Hz where the speed is unknown."""


def default_file(recording: Path) -> Path:
    """Where the picture of a recording goes without a wish: the folder one is in."""
    return Path(f"{recording.stem}_analysis.png")


def draw(analysis: Analysis, file: Path) -> None:
    """Write the picture; the kind is told by the name (.png, .svg, .pdf).

    Raises
    ------
    ConfigError
        If matplotlib is not installed, or cannot write such a file.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            "a plot needs matplotlib", where=str(file), mend="pip install 'pdm-edge[dashboard]'"
        ) from error
    record = analysis.record
    unit = "mm/s" if record.unit == "mm_s" else "g"
    rows = 4 if analysis.bands else 3
    figure = Figure(figsize=(6.5 * len(record.axes) + 3, 2.5 * rows), layout="constrained")
    axes = figure.subplots(rows, len(record.axes), squeeze=False)
    speed = "speed unknown" if analysis.speed_hz is None else f"{60 * analysis.speed_hz:.0f} r/min"
    for column, (axis, x) in enumerate(zip(record.axes, analysis.samples, strict=True)):
        rate_hz = record.sample_rate_hz
        _waveform(axes[0, column], x, rate_hz, unit, f"{record.path.name}, {axis}, {speed}")
        _spectrum(axes[1, column], x, rate_hz, unit, analysis, column)
        _velocity(axes[2, column], x, rate_hz, unit, analysis, column)
        if analysis.bands:
            _envelope(axes[3, column], analysis, column)
    try:
        figure.savefig(file, dpi=110)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the plot cannot be written: {error}", where=str(file), mend="Name another file with --plot"
        ) from error


def _waveform(plot: Any, x: Any, rate_hz: float, unit: str, title: str) -> None:
    shown = x[: round(0.5 * rate_hz)]
    plot.plot(np.arange(len(shown)) / rate_hz, shown, linewidth=0.5)
    plot.set(title=title, xlabel="s", ylabel=unit, xlim=(0, len(shown) / rate_hz))


def _spectrum(plot: Any, x: Any, rate_hz: float, unit: str, analysis: Analysis, column: int) -> None:
    frequencies_hz, amplitude = f.amplitude_spectrum(x, rate_hz)
    reach_hz = rate_hz / 2.56
    title = "spectrum"
    if analysis.bands:
        low_hz, high_hz = analysis.bands[column].band_hz
        plot.axvspan(low_hz, high_hz, color="tab:orange", alpha=0.15, linewidth=0)
        title += "; shaded: the band of the envelope"
    plot.plot(frequencies_hz[1:], amplitude[1:], linewidth=0.5)
    highest = float(amplitude[1:].max())
    if highest > 0:  # silence has no logarithm
        plot.set_yscale("log")
        plot.set_ylim(highest / 10**_DECADES, 2 * highest)
    plot.set(title=title, xlabel="Hz", ylabel=f"{unit} RMS", xlim=(0, reach_hz))


def _velocity(plot: Any, x: Any, rate_hz: float, unit: str, analysis: Analysis, column: int) -> None:
    """Unbalance, misalignment and looseness stand at multiples of the speed, in velocity."""
    speed_hz = analysis.speed_hz
    plot.set_title("velocity spectrum", pad=14)
    try:
        velocity = x if unit == "mm/s" else f.integrate(x, rate_hz, "mm_s")
    except ValueError as error:  # too short or too slow to tell any velocity
        plot.text(0.5, 0.5, str(error), transform=plot.transAxes, ha="center", fontsize="small")
        return
    frequencies_hz, amplitude = f.amplitude_spectrum(velocity, rate_hz)
    reach_hz = min(_TURNS * speed_hz if speed_hz is not None else 200.0, rate_hz / 2.56)
    shown = frequencies_hz <= 1.03 * reach_hz
    if speed_hz is not None:
        for order in range(1, _TURNS + 1):
            plot.axvline(order * speed_hz, color="0.6", linestyle=":", linewidth=0.8, zorder=0)
            plot.annotate(
                f"{order}x", (order * speed_hz, 1), xycoords=("data", "axes fraction"), ha="center",
                va="bottom", fontsize="x-small",
            )  # fmt: skip
    for line in _lines(analysis, column):
        if line.stands_out:
            _mark(plot, line, reach_hz)
    plot.plot(frequencies_hz[shown], amplitude[shown], linewidth=0.8, color="black")
    plot.set(xlabel="Hz", ylabel="mm/s RMS", xlim=(0, 1.03 * reach_hz), ylim=(0, None))


def _envelope(plot: Any, analysis: Analysis, column: int) -> None:
    band_hz = analysis.bands[column].band_hz
    frequencies_hz, amplitude = f.envelope_spectrum(
        analysis.samples[column], analysis.record.sample_rate_hz, band_hz
    )
    lines = _lines(analysis, column)
    reach_hz = min(float(frequencies_hz[-1]), 3.3 * max((line.nominal_hz for line in lines), default=125.0))
    shown = frequencies_hz <= reach_hz
    for line in sorted(lines, key=lambda line: line.stands_out):
        _mark(plot, line, reach_hz)
        if line.stands_out:
            _name(plot, line, reach_hz)
    plot.plot(frequencies_hz[shown], amplitude[shown], linewidth=0.8, color="black")
    if lines:
        plot.legend(loc="upper right", fontsize="small")
    found = [line.name.upper() for line in lines if line.stands_out]
    told = f"; stands out: {', '.join(found)}" if found else "; no bearing line stands out" if lines else ""
    plot.set_title(f"envelope spectrum of {band_hz[0]:.0f}-{band_hz[1]:.0f} Hz{told}", pad=14)
    plot.set(xlabel="Hz", ylabel="g RMS", xlim=(0, reach_hz), ylim=(0, None))


def _lines(analysis: Analysis, column: int) -> list[Line]:
    return [line for line in analysis.lines if line.axis == analysis.record.axes[column]]


def _mark(plot: Any, line: Line, reach_hz: float) -> None:
    """A line and its harmonics, behind the curve: broad where it stands out, else faint."""
    text = f"{line.name.upper()} {line.found_hz:.1f} Hz, {line.level_db:.0f} dB"
    for at_hz in _places_hz(line, reach_hz):
        plot.axvline(
            at_hz,
            color=COLOURS[line.name],
            linestyle="-" if line.stands_out else ":",
            linewidth=4.0 if line.stands_out else 1.0,
            alpha=0.45,
            label=text if at_hz == line.found_hz else None,
            zorder=0,
        )


def _name(plot: Any, line: Line, reach_hz: float) -> None:
    for order, at_hz in enumerate(_places_hz(line, reach_hz), 1):
        plot.annotate(
            line.name.upper() if order == 1 else f"{order} x", (at_hz, 1),
            xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize="x-small",
        )  # fmt: skip


def _places_hz(line: Line, reach_hz: float) -> list[float]:
    return [order * line.found_hz for order in (1, 2, 3) if order * line.found_hz < reach_hz]
