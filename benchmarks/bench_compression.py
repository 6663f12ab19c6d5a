"""Would lossless compression of DATA earn its place? Measured on real recordings beside the checkout.

Each frame of 256 samples is predicted by its own best difference (order 0, 1 or 2) and the rest is
written as Rice codes with the frame's best parameter: what FLAC does with its fixed predictors
(RFC 9639), and about the most that a small controller can do in one pass. zlib is there to compare.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FRAME = 256
RANGE_G = 16.0
M_S2_A_G = 9.80665


def rice_bytes(residual: npt.NDArray[np.int64]) -> int:
    """Bytes of the shortest Rice code of a frame, one byte of parameters counted."""
    folded = np.where(residual < 0, -2 * residual - 1, 2 * residual)
    bits = min(int((folded >> k).sum()) + len(folded) * (k + 1) for k in range(24))
    return bits // 8 + 2


def packed_bytes(frame: npt.NDArray[np.int64], width: int) -> int:
    """A frame with its best difference; the first samples of a difference are sent as they are."""
    sizes = [len(frame) * width]
    for order in range(3):
        sizes.append(rice_bytes(np.diff(frame, order)) + order * width)
    return min(sizes)


def measure(name: str, values_g: npt.NDArray[np.float64]) -> None:
    for bits in (16, 24):
        width = bits // 8
        limit = 1 << (bits - 1)
        counts = np.clip(np.rint(values_g / RANGE_G * limit), -limit, limit - 1).astype(np.int64)
        frames = counts[: len(counts) // FRAME * FRAME].reshape(-1, FRAME)[:400]
        raw = frames.size * width
        packed = sum(packed_bytes(frame, width) for frame in frames)
        wide = [frame.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :width].tobytes() for frame in frames]
        zipped = sum(len(zlib.compress(frame, 6)) for frame in wide)
        rms_g = float(np.sqrt(np.mean(values_g**2)))
        print(f"{name:28s} {rms_g:6.2f} g  int{bits}  Rice {packed / raw:.2f}  zlib {zipped / raw:.2f}")


def recordings() -> dict[str, npt.NDArray[np.float64]]:
    found: dict[str, npt.NDArray[np.float64]] = {}
    for path in sorted((DATA / "mfpt").glob("*.mat")):
        bearing: Any = loadmat(path, squeeze_me=True, struct_as_record=False)["bearing"]
        found[f"mfpt {path.stem}"] = np.asarray(bearing.gs, dtype=np.float64).ravel()
    for path in sorted((DATA / "cwru").glob("*.mat")):
        content = loadmat(path)
        key = next(k for k in content if k.endswith("DE_time"))
        found[f"cwru {path.stem}"] = content[key].ravel().astype(np.float64)
    for path in sorted((DATA / "uestc").glob("*.mat")):
        volts = loadmat(path)["Data"].ravel().astype(np.float64)
        found[f"uestc {path.stem}"] = volts / 10.22e-3 / M_S2_A_G
    for path in sorted((DATA / "femto").glob("*.npz")):
        snapshots = np.load(path)["acceleration_g"]
        found["femto start"] = snapshots[:40, 0].ravel().astype(np.float64)
        found["femto end"] = snapshots[-40:, 0].ravel().astype(np.float64)
    return found


def main() -> None:
    if not DATA.is_dir():
        print(f"needs the recordings ({DATA.name} beside the checkout)")
        return
    print(f"size as a part of the samples sent plainly; range {RANGE_G:g} g, frames of {FRAME} samples")
    for name, values_g in recordings().items():
        measure(name, values_g)


if __name__ == "__main__":
    main()
