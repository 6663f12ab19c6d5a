"""Draw the pictures of docs/features.md from real recordings.

    python tools/feature_plots.py FOLDER_OF_RECORDINGS

The folder holds ``mfpt/`` (baseline_1, OuterRaceFault_vload_3, InnerRaceFault_vload_5) and
``cwru/`` (105_inner_007_12k), as their publishers give them; the recordings themselves are not
part of the project.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from pdm_edge import features as f
from pdm_edge.acquire.recordings import load_recording

OUT = Path(__file__).resolve().parents[1] / "docs" / "img"
Samples = npt.NDArray[np.float64]
BEARING = f.CATALOGUE["NICE-MFPT"]
SHAFT_HZ = 25.0


def load(folder: Path, name: str) -> tuple[Samples, float]:
    record = load_recording(folder / "mfpt" / f"{name}.mat", variable="gs")
    return record.samples[0].astype(np.float64), record.sample_rate_hz


def save(figure: Figure, name: str) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    figure.savefig(OUT / f"{name}.png", dpi=80, metadata={"Software": None})
    print(OUT / f"{name}.png")


def grid(rows: int, columns: int = 2, height: float = 2.4) -> tuple[Figure, Any]:
    figure = Figure(figsize=(10, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def waveform(healthy: tuple[Samples, float], faulty: tuple[Samples, float]) -> None:
    figure, axes = grid(1)
    for plot, (x, rate_hz), name in zip(axes[0], (healthy, faulty), ("healthy", "outer race"), strict=True):
        x = x - x.mean()
        shown = x[: round(0.2 * rate_hz)]
        plot.plot(np.arange(len(shown)) / rate_hz, shown, linewidth=0.4)
        for sign in (-1, 1):
            plot.axhline(sign * float(f.rms(x)), color="tab:orange", linewidth=0.8)
            plot.axhline(sign * float(f.peak(shown)), color="tab:red", linewidth=0.8)
        second = x[: round(rate_hz)]
        text = f"RMS {f.rms(second):.2f} g, peak {f.peak(second):.1f} g, crest {f.crest_factor(second):.1f}"
        plot.set(title=f"{name}: {text}, kurtosis {f.kurtosis(second):.1f}", xlabel="s", ylabel="g")
    save(figure, "waveform")


def spectra(healthy: tuple[Samples, float], faulty: tuple[Samples, float]) -> None:
    figure, axes = grid(2)
    for column, ((x, rate_hz), name) in enumerate(
        zip((healthy, faulty), ("healthy", "outer race"), strict=True)
    ):
        window = x[: round(rate_hz)]
        frequencies_hz, amplitude = f.amplitude_spectrum(window, rate_hz)
        plot = axes[0, column]
        plot.loglog(frequencies_hz[1:], amplitude[1:], linewidth=0.4)
        edges = [10, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000]
        bands = [(a, b) for a, b in itertools.pairwise(edges) if b <= rate_hz / 2]
        for (a, b), value in zip(bands, f.band_rms(window, rate_hz, bands), strict=True):
            plot.plot((a, b), (value, value), color="tab:red", linewidth=1.5)
        centroid = float(f.spectral_centroid(window, rate_hz))
        plot.axvline(centroid, color="tab:green", linewidth=0.8)
        plot.set(title=f"{name}: spectrum, band RMS (red), centroid (green)", xlabel="Hz", ylabel="g RMS")
        plot.set(xlim=(10, 20000), ylim=(1e-5, 3))
        velocity = f.integrate(window, rate_hz, "mm_s")
        hz, lines = f.amplitude_spectrum(velocity, rate_hz)
        shown = hz <= 300
        plot = axes[1, column]
        plot.plot(hz[shown], lines[shown], linewidth=0.8)
        for order in (1, 2, 3):
            plot.axvline(order * SHAFT_HZ, color="tab:orange", linewidth=0.6, linestyle=":")
        rms = float(f.velocity_rms(window, rate_hz))
        plot.set(
            title=f"velocity, 10-1000 Hz: {rms:.2f} mm/s RMS; 1x 2x 3x dotted", xlabel="Hz", ylabel="mm/s RMS"
        )
    save(figure, "spectrum")


def envelope(folder: Path, healthy: tuple[Samples, float]) -> None:
    figure, axes = grid(3, 1)
    outer, inner = load(folder, "OuterRaceFault_vload_3"), load(folder, "InnerRaceFault_vload_5")
    frequencies = BEARING.frequencies(SHAFT_HZ)
    for plot, (x, rate_hz), name, line_hz, side_hz in zip(
        axes[:, 0],
        (healthy, outer, inner),
        ("healthy", "outer race", "inner race"),
        (frequencies.bpfo_hz, frequencies.bpfo_hz, frequencies.bpfi_hz),
        (None, None, SHAFT_HZ),
        strict=True,
    ):
        x = x[: round(3 * rate_hz)]
        hz, amplitude = f.envelope_spectrum(x, rate_hz, (500.0, 10000.0))
        shown = hz <= 400
        plot.plot(hz[shown], amplitude[shown], linewidth=0.7)
        trace = f.trace_lines(amplitude, float(hz[1]), line_hz, sideband_hz=side_hz)
        for at, beside in zip(trace.frequency_hz, trace.sideband, strict=True):
            if at < 400:
                colour = "tab:red" if beside == 0 else "tab:orange"
                plot.axvline(at, color=colour, linewidth=0.8, linestyle=":")
        _, level_db = f.line_amplitudes(amplitude, float(hz[1]), line_hz)
        race = "BPFI" if side_hz else "BPFO"
        plot.set(title=f"{name}: {race} {level_db:.0f} dB above its floor", xlabel="Hz", ylabel="g RMS")
    save(figure, "envelope")


def kurtogram(folder: Path) -> None:
    figure, axes = grid(1, 2, 3.2)
    for plot, name in zip(axes[0], ("InnerRaceFault_vload_1", "baseline_1"), strict=True):
        x, rate_hz = load(folder, name)
        x = x[: round(2 * rate_hz)]
        found, choice = f.kurtogram(x, rate_hz), f.choose_band(x, rate_hz)
        rows = len(found.splits)
        for row, (edges, values) in enumerate(zip(found.edges_hz, found.kurtosis, strict=True)):
            y = np.array([row, row + 1])
            mesh = plot.pcolormesh(edges, y, values[None, :], vmin=0, vmax=max(found.peak, 1.0))
        plot.set_yticks(np.arange(rows) + 0.5, [str(count) for count in found.splits], fontsize="small")
        low_hz, high_hz = choice.band_hz
        plot.set(title=f"{name}\nchosen {low_hz:.0f}-{high_hz:.0f} Hz", xlabel="Hz", ylabel="bands")
        figure.colorbar(mesh, ax=plot, label="spectral kurtosis")
    save(figure, "kurtogram")


def shape(healthy: tuple[Samples, float], faulty: tuple[Samples, float]) -> None:
    figure, axes = grid(1)
    for (x, rate_hz), name in zip((healthy, faulty), ("healthy", "outer race"), strict=True):
        window = x[: round(rate_hz)]
        thirds = f.octave_bands_hz(20.0, 18000.0, 3)
        levels = f.band_rms(window, rate_hz, thirds)
        centres = [np.sqrt(a * b) for a, b in thirds]
        axes[0, 0].loglog(centres, levels, drawstyle="steps-mid", label=name)
        quefrency_s, value = f.cepstrum(x[: round(3 * rate_hz)], rate_hz)
        shown = (quefrency_s > 0.004) & (quefrency_s < 0.06)
        axes[0, 1].plot(1000 * quefrency_s[shown], value[shown], linewidth=0.6, label=name)
    axes[0, 0].set(title="third-octave bands", xlabel="Hz", ylabel="g RMS")
    period_ms = 1000 / BEARING.frequencies(SHAFT_HZ).bpfo_hz
    axes[0, 1].axvline(period_ms, color="tab:red", linewidth=0.6, linestyle=":")
    axes[0, 1].set(title="cepstrum; 1 / BPFO dotted", xlabel="quefrency, ms", ylabel="")
    axes[0, 0].legend()
    save(figure, "shape")


def orders(folder: Path) -> None:
    """Speed, read from the spectrum; the average over turns needs a tachometer, here that speed."""
    figure, axes = grid(1)
    record = load_recording(
        folder / "cwru" / "105_inner_007_12k.mat", sample_rate_hz=12000.0, unit="g", variable="*DE_time"
    )
    x, rate_hz = record.samples[0, :60000].astype(np.float64), record.sample_rate_hz
    estimate = f.estimate_speed(x, rate_hz, (27.0, 33.0))
    hz, amplitude = f.amplitude_spectrum(x, rate_hz)
    shown = hz < 200
    axes[0, 0].semilogy(hz[shown], amplitude[shown], linewidth=0.6)
    for order in range(1, 6):
        axes[0, 0].axvline(order * estimate.speed_hz, color="tab:red", linewidth=0.6, linestyle=":")
    axes[0, 0].set(
        title=f"speed {estimate.speed_hz:.2f} Hz, confidence {estimate.confidence:.2f}",
        xlabel="Hz",
        ylabel="g RMS",
    )
    pulses_s = np.arange(0, len(x) / rate_hz, 1 / estimate.speed_hz)
    mean, turns = f.time_synchronous_average(x, rate_hz, pulses_s)
    axes[0, 1].plot(np.arange(256) / 256, mean, linewidth=0.8)
    axes[0, 1].set(title=f"mean of {turns} turns", xlabel="turn", ylabel="g")
    save(figure, "speed")


def main() -> None:
    folder = Path(sys.argv[1])
    healthy, faulty = load(folder, "baseline_1"), load(folder, "OuterRaceFault_vload_3")
    waveform(healthy, faulty)
    spectra(healthy, faulty)
    envelope(folder, healthy)
    kurtogram(folder)
    shape(healthy, faulty)
    orders(folder)


if __name__ == "__main__":
    main()
