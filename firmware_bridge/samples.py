"""The sample bytes of DATA to arrays, and back."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from firmware_bridge.messages import SAMPLE_BYTES, Data, SensorDescriptor

_DTYPES: Final[dict[str, np.dtype[Any] | None]] = {
    "int16": np.dtype("<i2"),
    "float32": np.dtype("<f4"),
    "int24": None,
}


def counts(data: Data, sensor: SensorDescriptor) -> npt.NDArray[Any]:
    """What the converter read, shape ``(n_samples, n_axes)``: a view of the frame, but for int24.

    Returns int16, int32 (for int24) or float32.

    Raises
    ------
    ValueError
        If the bytes are not what the descriptor says.
    """
    dtype = _DTYPES[sensor.format]
    try:
        if dtype is not None:
            return np.frombuffer(data.raw, dtype).reshape(data.n_samples, len(sensor.axes))
        return _int24(data.raw).reshape(data.n_samples, len(sensor.axes))
    except ValueError:
        expected = data.n_samples * sensor.row_bytes
        raise ValueError(f"{len(data.raw)} sample bytes, the descriptor says {expected}") from None


def _int24(raw: bytes) -> npt.NDArray[np.int32]:
    wide = np.zeros((len(raw) // 3, 4), dtype=np.uint8)
    # The three bytes go to the top of a 32-bit word; the shift brings the sign along.
    wide[:, 1:] = np.frombuffer(raw, dtype=np.uint8).reshape(-1, 3)
    return wide.view("<i4").ravel() >> 8


def samples(data: Data, sensor: SensorDescriptor) -> npt.NDArray[np.float32]:
    """Physical samples of a DATA message, shape ``(n_axes, n_samples)``, in the sensor's unit.

    Raises
    ------
    ValueError
        If the bytes are not what the descriptor says.
    """
    scaled: npt.NDArray[np.float32] = counts(data, sensor).T.astype(np.float32) * np.float32(sensor.scale)
    return scaled


def counts_to_bytes(counts: npt.ArrayLike, format: str) -> bytes:
    """Counts of shape ``(n_axes, n_samples)`` as the interleaved bytes of a DATA message.

    Raises
    ------
    ValueError
        If a count does not fit the format.
    """
    array = np.atleast_2d(np.asarray(counts)).T
    if format == "float32":
        return bytes(array.astype("<f4").tobytes())
    limit = 1 << (8 * SAMPLE_BYTES[format] - 1)
    if array.size and (array.min() < -limit or array.max() >= limit):
        raise ValueError(f"counts from {array.min()} to {array.max()} do not fit {format}")
    if format == "int16":
        return bytes(array.astype("<i2").tobytes())
    wide = np.ascontiguousarray(array.astype("<i4")).view(np.uint8).reshape(-1, 4)
    return bytes(wide[:, :3].tobytes())
