"""The picture of `pdm-edge analyze`: waveform, spectrum, envelope spectrum with the bearing lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pdm_edge import features as f
from pdm_edge.errors import ConfigError

if TYPE_CHECKING:
    from pdm_edge.cli.analysis import Analysis

COLOURS = {"bpfo": "tab:red", "bpfi": "tab:orange", "bsf": "tab:green", "ftf": "tab:purple"}


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
    rows = 3 if analysis.bands else 2
    figure = Figure(figsize=(5.5 * len(record.axes) + 3, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, len(record.axes), squeeze=False)
    for column, (axis, x) in enumerate(zip(record.axes, analysis.samples, strict=True)):
        _waveform(axes[0, column], x, record.sample_rate_hz, unit, f"{record.path.name}: {axis}")
        _spectrum(axes[1, column], x, record.sample_rate_hz, unit)
        if analysis.bands:
            _envelope(axes[2, column], analysis, column)
    try:
        figure.savefig(file, dpi=110)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be written: {error}", where=str(file)) from error


def _waveform(plot: Any, x: Any, rate_hz: float, unit: str, title: str) -> None:
    shown = x[: round(0.5 * rate_hz)]
    plot.plot(np.arange(len(shown)) / rate_hz, shown, linewidth=0.5)
    plot.set(title=title, xlabel="s", ylabel=unit)


def _spectrum(plot: Any, x: Any, rate_hz: float, unit: str) -> None:
    frequencies_hz, amplitude = f.amplitude_spectrum(x, rate_hz)
    plot.semilogy(frequencies_hz[1:], amplitude[1:], linewidth=0.5)
    plot.set(xlabel="Hz", ylabel=f"{unit} RMS", xlim=(0, rate_hz / 2.56))


def _envelope(plot: Any, analysis: Analysis, column: int) -> None:
    band_hz = analysis.bands[column].band_hz
    frequencies_hz, amplitude = f.envelope_spectrum(
        analysis.samples[column], analysis.record.sample_rate_hz, band_hz
    )
    lines = [line for line in analysis.lines if line.axis == analysis.record.axes[column]]
    reach_hz = min(float(frequencies_hz[-1]), 4.2 * max((line.nominal_hz for line in lines), default=125.0))
    shown = frequencies_hz <= reach_hz
    plot.plot(frequencies_hz[shown], amplitude[shown], linewidth=0.7)
    for line in lines:
        for order in (1, 2, 3):
            if order * line.found_hz < reach_hz:
                plot.axvline(
                    order * line.found_hz,
                    color=COLOURS[line.name],
                    linestyle="-" if line.stands_out else ":",
                    linewidth=1.0 if line.stands_out else 0.6,
                    alpha=0.6,
                    label=f"{line.name.upper()} {line.level_db:.0f} dB" if order == 1 else None,
                )
    if lines:
        plot.legend(loc="upper right", fontsize="small")
    plot.set(
        title=f"envelope {band_hz[0]:.0f}-{band_hz[1]:.0f} Hz",
        xlabel="Hz",
        ylabel="g RMS",
        xlim=(0, reach_hz),
        ylim=(0, None),
    )
