"""Draw the pictures of docs/features.md from real recordings.

    python tools/feature_plots.py FOLDER_OF_RECORDINGS

The folder holds ``cwru/`` (97, 105, 130, 209), ``femto/bearing1_1_every_5th.npz`` and
``uestc/O_1000_1.mat``, as their publishers give them but for the FEMTO file, which holds each
fifth snapshot as ``acceleration_g`` of shape (561, 2, 2560) with its ``time_s``. The recordings
themselves are not part of the project.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.signal
from matplotlib.figure import Figure

from pdm_edge import features as f
from pdm_edge.acquire.recordings import load_recording

OUT = Path(__file__).resolve().parents[1] / "docs" / "img"
Samples: TypeAlias = "npt.NDArray[np.float64]"
BEARING = f.CATALOGUE["6205"]
RATE_HZ = 12000.0
SHAFT_HZ = 1797 / 60
BAND_HZ = (500.0, RATE_HZ / 2.56)
GREY = {"color": "0.5", "linewidth": 0.7, "linestyle": ":"}


def cwru(folder: Path, name: str) -> Samples:
    """Ten seconds at 12 kHz; the healthy file is taken down from 48 kHz."""
    rate_hz = 48000.0 if name.endswith("48k") else RATE_HZ
    file = folder / "cwru" / f"{name}.mat"
    record = load_recording(file, sample_rate_hz=rate_hz, unit="g", variable="*DE_time")
    x = record.samples[0].astype(np.float64)
    if rate_hz != RATE_HZ:
        x = scipy.signal.decimate(x, round(rate_hz / RATE_HZ), ftype="fir", zero_phase=True)
    return np.asarray(x[: round(10 * RATE_HZ)], dtype=np.float64)


def save(figure: Figure, name: str) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    figure.savefig(OUT / f"{name}.png", dpi=80, metadata={"Software": None})
    print(OUT / f"{name}.png")


def grid(rows: int, columns: int = 2, height: float = 2.4) -> tuple[Figure, Any]:
    figure = Figure(figsize=(10, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def waveform(healthy: Samples, faulty: Samples) -> None:
    figure, axes = grid(1)
    for plot, x, name in zip(axes[0], (healthy, faulty), ("healthy", "outer race"), strict=True):
        second = x[: round(RATE_HZ)] - x[: round(RATE_HZ)].mean()
        shown = second[: round(0.2 * RATE_HZ)]
        plot.plot(np.arange(len(shown)) / RATE_HZ, shown, linewidth=0.4)
        for sign in (-1, 1):
            plot.axhline(sign * float(f.rms(second)), color="tab:orange", linewidth=0.8)
            plot.axhline(sign * float(f.peak(shown)), color="tab:red", linewidth=0.8)
        text = f"RMS {f.rms(second):.2f} g, peak {f.peak(second):.1f} g, crest {f.crest_factor(second):.1f}"
        plot.set(title=f"{name}: {text}, kurtosis {f.kurtosis(second):.1f}", xlabel="s", ylabel="g")
        plot.title.set_fontsize("small")
    save(figure, "waveform")


def spectra(healthy: Samples, faulty: Samples) -> None:
    figure, axes = grid(3)
    for column, (x, name) in enumerate(((healthy, "healthy"), (faulty, "outer race"))):
        window = x[: round(RATE_HZ)]
        frequencies_hz, amplitude = f.amplitude_spectrum(window, RATE_HZ)
        plot = axes[0, column]
        plot.loglog(frequencies_hz[1:], amplitude[1:], linewidth=0.4)
        edges = [10, 50, 100, 200, 500, 1000, 2000, BAND_HZ[1]]
        bands = list(itertools.pairwise(edges))
        for (a, b), value in zip(bands, f.band_rms(window, RATE_HZ, bands), strict=True):
            plot.plot((a, b), (value, value), color="tab:red", linewidth=1.5)
        plot.axvline(float(f.spectral_centroid(window, RATE_HZ)), color="tab:green", linewidth=0.8)
        plot.set_title(f"{name}: spectrum, band RMS (red), centroid (green)", fontsize="small")
        plot.set(xlabel="Hz", ylabel="g RMS", xlim=(10, 6000), ylim=(1e-5, 1))
        hz, density = f.psd(x, RATE_HZ)
        axes[1, column].semilogy(hz, density, linewidth=0.6)
        axes[1, column].set(title=f"{name}: PSD", xlabel="Hz", ylabel="g²/Hz", ylim=(1e-9, 1e-2))
        plot = axes[2, column]
        shown_hz = 250
        for on, wave, unit, colour in (
            (plot.twinx(), f.integrate(x, RATE_HZ, "um"), "um", "tab:orange"),
            (plot, f.integrate(x, RATE_HZ, "mm_s"), "mm/s", "tab:blue"),
        ):
            hz, lines = f.amplitude_spectrum(wave, RATE_HZ)
            shown = hz <= shown_hz
            on.plot(hz[shown], lines[shown], linewidth=0.8, color=colour)
            on.set(ylabel=f"{unit} RMS", ylim=(0, None))
        for order in (1, 2, 3):
            plot.axvline(order * SHAFT_HZ, **GREY)
        velocity, displacement = f.velocity_rms(x, RATE_HZ), f.displacement_rms(x, RATE_HZ)
        text = f"velocity {velocity:.2f} mm/s (blue), displacement {displacement:.2f} um (orange)"
        plot.set_title(f"{name}: {text}", fontsize="small")
        plot.set_xlabel("Hz; dotted: 1x 2x 3x")
    save(figure, "spectrum")


def envelope(healthy: Samples, outer: Samples, inner: Samples) -> None:
    figure, axes = grid(3, 1)
    lines = BEARING.frequencies(SHAFT_HZ)
    for plot, x, name, line_hz, side_hz in zip(
        axes[:, 0],
        (healthy, outer, inner),
        ("healthy", "outer race", "inner race"),
        (lines.bpfo_hz, lines.bpfo_hz, lines.bpfi_hz),
        (None, None, SHAFT_HZ),
        strict=True,
    ):
        hz, amplitude = f.envelope_spectrum(x[: round(2 * RATE_HZ)], RATE_HZ, BAND_HZ)
        shown = hz <= 400
        plot.plot(hz[shown], amplitude[shown], linewidth=0.7)
        trace = f.trace_lines(amplitude, float(hz[1]), line_hz, sideband_hz=side_hz)
        for at_hz, beside in zip(trace.frequency_hz, trace.sideband, strict=True):
            if at_hz < 400:
                colour = "tab:red" if beside == 0 else "tab:orange"
                plot.axvline(at_hz, color=colour, linewidth=0.8, linestyle=":")
        _, level_db = f.line_amplitudes(amplitude, float(hz[1]), line_hz)
        rms = np.sqrt(np.sum(amplitude**2) / 1.5)
        race = "BPFI (red), sidebands (orange)" if side_hz else "BPFO (red)"
        text = f"envelope RMS {rms:.2f} g; {race} {level_db:.0f} dB above its floor"
        plot.set(title=f"{name}: {text}", xlabel="Hz", ylabel="g RMS")
    save(figure, "envelope")


def kurtogram(folder: Path) -> None:
    figure, axes = grid(1, 2, 3.2)
    for plot, name in zip(axes[0], ("209_inner_021_12k", "97_normal_48k"), strict=True):
        x = cwru(folder, name)[: round(2 * RATE_HZ)]
        found, choice = f.kurtogram(x, RATE_HZ), f.choose_band(x, RATE_HZ)
        rows = len(found.splits)
        for row, (edges, values) in enumerate(zip(found.edges_hz, found.kurtosis, strict=True)):
            y = np.array([row, row + 1])
            mesh = plot.pcolormesh(edges, y, values[None, :], vmin=0, vmax=max(found.peak, 1.0))
        plot.set_yticks(np.arange(rows) + 0.5, [str(count) for count in found.splits], fontsize="small")
        low_hz, high_hz = choice.band_hz
        plot.set(title=f"CWRU {name}\nchosen {low_hz:.0f}-{high_hz:.0f} Hz", xlabel="Hz", ylabel="bands")
        figure.colorbar(mesh, ax=plot, label="spectral kurtosis")
    save(figure, "kurtogram")


def shape(healthy: Samples, inner: Samples) -> None:
    figure, axes = grid(1)
    for x, name in ((healthy, "healthy"), (inner, "inner race")):
        thirds = f.octave_bands_hz(20.0, 4500.0, 3)
        centres = [np.sqrt(a * b) for a, b in thirds]
        levels = f.band_rms(x[: round(RATE_HZ)], RATE_HZ, thirds)
        axes[0, 0].loglog(centres, levels, drawstyle="steps-mid", label=name)
        quefrency_s, value = f.cepstrum(x, RATE_HZ)
        shown = (quefrency_s > 0.0045) & (quefrency_s < 0.035)
        axes[0, 1].plot(1000 * quefrency_s[shown], value[shown], linewidth=0.6, label=name)
    axes[0, 0].set(title="third-octave bands", xlabel="Hz", ylabel="g RMS")
    for period_ms in (1000 / BEARING.frequencies(SHAFT_HZ).bpfi_hz, 1000 / SHAFT_HZ):
        axes[0, 1].axvline(period_ms, **GREY)
    axes[0, 1].set(title="cepstrum; dotted: 1 / BPFI, one turn", xlabel="quefrency, ms")
    axes[0, 0].legend()
    save(figure, "shape")


def turns(inner: Samples) -> None:
    """Speed, read from the spectrum. The average over turns needs a tachometer; here that speed."""
    figure, axes = grid(2)
    x = inner[: round(5 * RATE_HZ)]
    estimate = f.estimate_speed(x, RATE_HZ, (27.0, 33.0))
    hz, amplitude = f.amplitude_spectrum(x, RATE_HZ)
    shown = hz < 200
    axes[0, 0].semilogy(hz[shown], amplitude[shown], linewidth=0.6)
    for order in range(1, 6):
        axes[0, 0].axvline(order * estimate.speed_hz, color="tab:red", linewidth=0.6, linestyle=":")
    title = f"speed {estimate.speed_hz:.2f} Hz, confidence {estimate.confidence:.2f}"
    axes[0, 0].set(title=title, xlabel="Hz; dotted: 1x to 5x", ylabel="g RMS")
    pulses_s = np.arange(0, len(x) / RATE_HZ, 1 / estimate.speed_hz)
    mean, count = f.time_synchronous_average(x, RATE_HZ, pulses_s)
    axes[0, 1].plot(np.arange(len(mean)) / len(mean), mean, linewidth=0.8)
    axes[0, 1].set(title=f"mean of {count} turns", xlabel="turn", ylabel="g")
    per_turn = 256
    at_angles = f.order_resample(x, RATE_HZ, pulses_s, samples_per_turn=per_turn)
    orders, lines = f.amplitude_spectrum(at_angles, float(per_turn))
    shown = orders < 12
    axes[1, 0].plot(orders[shown], lines[shown], linewidth=0.6)
    bpfi = BEARING.frequencies(1.0).bpfi_hz
    for marked in (1.0, 2.0, 3.0, 4.0, bpfi, 2 * bpfi):
        axes[1, 0].axvline(marked, **GREY)
    axes[1, 0].set(title="orders; dotted: 1 to 4, BPFI, 2 BPFI", xlabel="order", ylabel="g RMS")
    motor = f.induction_motor(SHAFT_HZ, 60.0, 4)
    hz, amplitude = f.amplitude_spectrum(inner, RATE_HZ)
    shown = (hz > 118) & (hz < 122)
    axes[1, 1].plot(hz[shown], 1000 * amplitude[shown], linewidth=0.8)
    axes[1, 1].axvline(4 * SHAFT_HZ, color="tab:orange", linewidth=0.8, linestyle=":")
    axes[1, 1].axvline(motor.twice_line_hz, color="tab:red", linewidth=0.8, linestyle=":")
    title = f"4x at {4 * SHAFT_HZ:.1f} (orange), twice line at {motor.twice_line_hz:.0f} Hz (red)"
    axes[1, 1].set(title=title, xlabel="Hz", ylabel="mg RMS")
    save(figure, "speed")


def life(folder: Path) -> None:
    """Each feature of a window, over the life of one bearing until it failed."""
    with np.load(folder / "femto" / "bearing1_1_every_5th.npz") as content:
        x, time_s = content["acceleration_g"][:, 0].astype(np.float64), content["time_s"]
    rate_hz, hours = 25600.0, (time_s - time_s[0]) / 3600
    waveform: dict[str, Callable[[Samples], Any]] = {
        "rms, g": f.rms,
        "peak, g": f.peak,
        "peak_to_peak, g": f.peak_to_peak,
        "crest_factor": f.crest_factor,
        "kurtosis": f.kurtosis,
        "skewness": f.skewness,
        "impulse_factor": f.impulse_factor,
        "shape_factor": f.shape_factor,
        "clearance_factor": f.clearance_factor,
    }
    spectrum: dict[str, Callable[[Samples], Any]] = {
        "velocity_rms 20-1000 Hz, mm/s": lambda x: f.velocity_rms(x, rate_hz, (20.0, 1000.0)),
        "displacement_rms 20-1000 Hz, um": lambda x: f.displacement_rms(x, rate_hz, (20.0, 1000.0)),
        "band_rms 500-1000 Hz, g": lambda x: f.band_rms(x, rate_hz, [(500.0, 1000.0)])[..., 0],
        "band_rms 5-10 kHz, g": lambda x: f.band_rms(x, rate_hz, [(5000.0, 10000.0)])[..., 0],
        "envelope_rms 0.5-10 kHz, g": lambda x: envelope_rms(x, rate_hz),
        "spectral_centroid, Hz": lambda x: f.spectral_centroid(x, rate_hz),
        "spectral_kurtosis": lambda x: f.spectral_kurtosis(x, rate_hz),
        "spectral_entropy": lambda x: f.spectral_entropy(x, rate_hz),
        "spectral_flatness": lambda x: f.spectral_flatness(x, rate_hz),
    }
    centred = x - x.mean(axis=-1, keepdims=True)
    for name, features in (("life_waveform", waveform), ("life_spectrum", spectrum)):
        figure, axes = grid(3, 3, 1.9)
        for plot, (title, feature) in zip(axes.ravel(), features.items(), strict=True):
            values = np.asarray(feature(centred))
            plot.plot(hours, values, color="0.8", linewidth=0.5)
            plot.plot(hours, scipy.signal.medfilt(values, 9), linewidth=1.0)
            plot.set_ylim(0.98 * np.quantile(values, 0.002), 1.02 * np.quantile(values, 0.998))
            plot.set_title(title, fontsize="small")
        for plot in axes[-1]:
            plot.set_xlabel("hours")
        save(figure, name)


def envelope_rms(x: Samples, rate_hz: float) -> Samples:
    _, amplitude = f.envelope_spectrum(x, rate_hz, (500.0, 10000.0))
    # 1.5 lines is the equivalent noise bandwidth of the Hann window.
    return np.asarray(np.sqrt(np.sum(amplitude**2, axis=-1) / 1.5))


def sensor(folder: Path) -> None:
    """A second that the self-check marks, and the one before: the mean over 10 ms tells why."""
    figure, axes = grid(1)
    file, rate_hz = folder / "uestc" / "O_1000_1.mat", 20000.0
    record = load_recording(file, sample_rate_hz=rate_hz, unit="m_s2", variable="Data", scale=97.85)
    size, block = round(rate_hz), round(0.01 * rate_hz)
    for plot, second in zip(axes[0], (3, 4), strict=True):
        window = record.samples[:, second * size : (second + 1) * size]
        check = f.self_check(window, rate_hz, "m_s2", axes=("x",))
        means_g = window[0].reshape(-1, block).mean(axis=1) / 9.80665
        plot.plot(second + 0.01 * np.arange(len(means_g)), means_g, linewidth=0.8)
        found = ", ".join(f"{finding.level}: {finding.what}" for finding in check.findings)
        plot.set(title=f"quality {check.quality}; {found}", xlabel="s", ylabel="g, mean of 10 ms")
        plot.set_ylim(-1.5, 0.5)
        plot.title.set_fontsize("small")
    save(figure, "sensor")


def main() -> None:
    folder = Path(sys.argv[1])
    healthy, outer = cwru(folder, "97_normal_48k"), cwru(folder, "130_outer_007_12k")
    inner = cwru(folder, "105_inner_007_12k")
    waveform(healthy, outer)
    spectra(healthy, outer)
    envelope(healthy, outer, inner)
    kurtogram(folder)
    shape(healthy, inner)
    turns(inner)
    life(folder)
    sensor(folder)


if __name__ == "__main__":
    main()
