"""What the features cost, as a ratio to the least they could: one rfft, one mean, one mean square.

All alternatives take turns in one process; the table gives the least of many rounds. Absolute
times are those of the machine at hand, the ratios carry over. Peers that are not installed are named as such
(``pip install tsfel``). Ends with exit status 1 if a bound is missed by more than its margin.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.fft

from pdm_edge import features as f

ROUNDS = 25
MARGIN = 1.15  # a shared machine scatters by this much

Call = Callable[[], object]
BEARING = f.CATALOGUE["6205"]


def least_us(calls: dict[str, Call], rounds: int = ROUNDS) -> dict[str, float]:
    """Least time of each call, taking turns; each turn repeats a call for some milliseconds.

    The least of many rounds is what the code costs when nothing else takes the processor.
    """
    repeats: dict[str, int] = {}
    for name, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        repeats[name] = max(1, round(0.005 / max(time.perf_counter() - start, 1e-6)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            times[name].append((time.perf_counter() - start) / repeats[name] * 1e6)
    return {name: min(values) for name, values in times.items()}


def bound(x: npt.NDArray[np.float32]) -> Call:
    """The least: the transform at a length that is quick, the mean and the mean square."""
    smooth = x[: scipy.fft.prev_fast_len(len(x), real=True)]

    def least() -> object:
        return scipy.fft.rfft(smooth), smooth.mean(), (smooth * smooth).mean()

    return least


def scipy_set(x: npt.NDArray[np.float32], rate_hz: float) -> Call:
    """The same outputs by one call of scipy for each, filters designed beforehand."""
    import scipy.signal
    import scipy.stats

    sos = scipy.signal.butter(4, (500, min(10000, rate_hz / 2.56)), "bandpass", fs=rate_hz, output="sos")
    lines = BEARING.frequencies(24.67)
    bands = f.FeaturePlan(rate_hz, len(x), "g").bands_hz()

    def run() -> object:
        peak = np.max(np.abs(x))
        rms = np.sqrt(np.mean(x * x))
        out = [rms, peak, peak / rms, scipy.stats.kurtosis(x, fisher=False), scipy.stats.skew(x)]
        frequencies, density = scipy.signal.welch(x, rate_hz, nperseg=4096)
        out.extend(
            np.sqrt(np.trapezoid(density[s], frequencies[s]))
            for s in ((frequencies >= a) & (frequencies < b) for a, b in bands)
        )
        bins = np.fft.rfft(x)
        hz = np.fft.rfftfreq(len(x), 1 / rate_hz)
        chosen = (hz >= 10) & (hz <= 1000)
        out.append(np.sqrt(np.sum(np.abs(bins[chosen] / hz[chosen]) ** 2)))
        envelope = np.abs(scipy.signal.hilbert(scipy.signal.sosfiltfilt(sos, x)))
        spectrum = np.abs(np.fft.rfft(envelope - envelope.mean()))
        for line_hz in (lines.bpfo_hz, lines.bpfi_hz, 2 * lines.bsf_hz, lines.ftf_hz):
            for order in (1, 2, 3):
                near = np.abs(hz - order * line_hz) <= max(0.02 * order * line_hz, hz[1])
                around = (np.abs(hz - order * line_hz) <= 0.2 * order * line_hz) & ~near
                if around.any():
                    out.append(spectrum[near].max() / max(np.median(spectrum[around]), 1e-12))
        return out

    return run


def edge_style_set(x: npt.NDArray[np.float32], rate_hz: float) -> Call:
    """The set that embedded ML tools take: low-pass, RMS, skewness, kurtosis, log power per line.

    Written after the public description of such spectral-analysis blocks: 64-point frames, half
    overlapped, the maximum of each line over the frames.
    """
    import scipy.signal
    import scipy.stats

    sos = scipy.signal.butter(6, rate_hz / 4, "lowpass", fs=rate_hz, output="sos")

    def run() -> object:
        filtered = scipy.signal.sosfilt(sos, x - x.mean())
        frames = np.lib.stride_tricks.sliding_window_view(filtered, 64)[::32]
        power = np.log10(np.abs(np.fft.rfft(frames * np.hanning(64))) ** 2 + 1e-12).max(axis=0)
        return (
            np.sqrt(np.mean(filtered**2)),
            scipy.stats.skew(filtered),
            scipy.stats.kurtosis(filtered),
            power,
        )

    return run


def tsfel_set(x: npt.NDArray[np.float32], rate_hz: float) -> Call | None:
    """The spectral and statistical domain of tsfel; None if it is not installed."""
    if importlib.util.find_spec("tsfel") is None:
        return None
    tsfel = importlib.import_module("tsfel")
    chosen = {**tsfel.get_features_by_domain("statistical"), **tsfel.get_features_by_domain("spectral")}
    return lambda: tsfel.time_series_features_extractor(chosen, x, fs=rate_hz, verbose=0)


def published_kurtogram(x: npt.NDArray[np.float32]) -> Call:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from fast_kurtogram import fast_kurtogram

    wide = x.astype(np.float64)
    return lambda: fast_kurtogram(wide, 7)


def windows() -> list[tuple[str, float, bool]]:
    """Ratios of the default set: what is measured, the ratio, and whether it keeps its bound."""
    rows = []
    print("| window | least, us | default set | 3 axes / 1 axis | scipy set | embedded-ML style | tsfel |")
    print("|---|---|---|---|---|---|---|")
    for n, rate_hz, limit in ((25600, 25600.0, 3.5), (4096, 25600.0, 5.5), (97656, 97656.0, 6.0)):
        x = np.random.default_rng(0).standard_normal((3, n)).astype(np.float32)
        plan = f.FeaturePlan(rate_hz, n, "g", shaft_hz=24.67, bearing=BEARING)
        one = f.FeatureExtractor(plan)
        three = f.FeatureExtractor(dataclasses.replace(plan, axes=("x", "y", "z")))
        took = least_us({"least": bound(x[0]), "one": partial(one, x[:1]), "three": partial(three, x)})
        slow = least_us({"scipy": scipy_set(x[0], rate_hz), "edge": edge_style_set(x[0], rate_hz)}, 5)
        peer = tsfel_set(x[0], rate_hz)
        took_peer = least_us({"tsfel": peer}, 1)["tsfel"] if peer is not None and n < 50_000 else None
        ratio, axes = took["one"] / took["least"], took["three"] / took["one"]
        tsfel = f"{took_peer / took['least']:.0f}" if took_peer else "not run"
        by_scipy, by_edge = slow["scipy"] / took["least"], slow["edge"] / took["least"]
        print(
            f"| {n} | {took['least']:.0f} | **{ratio:.1f}** | {axes:.2f} | {by_scipy:.0f} "
            f"| {by_edge:.0f} | {tsfel} |"
        )
        rows.append((f"default set at {n} samples <= {limit:g}", ratio / limit, ratio <= limit * MARGIN))
        rows.append((f"three axes at {n} samples <= 3.1", axes / 3.1, axes <= 3.1 * MARGIN))
    return rows


def kurtograms() -> list[tuple[str, float, bool]]:
    print("\n| window | kurtogram | published filter bank |")
    print("|---|---|---|")
    rows = []
    for n in (25600, 97656):
        x = np.random.default_rng(0).standard_normal(n).astype(np.float32)
        took = least_us({"least": bound(x), "ours": partial(f.kurtogram, x, 25600.0)})
        published = least_us({"published": published_kurtogram(x)}, 3)["published"]
        ratio = took["ours"] / took["least"]
        print(f"| {n} | **{ratio:.1f}** | {published / took['least']:.0f} |")
        rows.append((f"kurtogram at {n} samples <= 16", ratio / 16, ratio <= 16 * MARGIN))
    return rows


def main() -> None:
    rows = windows() + kurtograms()
    print()
    for text, share, kept in rows:
        print(f"{'kept  ' if kept else 'MISSED'} {text}: {100 * share:.0f} % of it")
    sys.exit(0 if all(kept for _, _, kept in rows) else 1)


if __name__ == "__main__":
    main()
