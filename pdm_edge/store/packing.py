"""Samples made smaller without loss: bytes sorted by their place, then zlib.

The high bytes of neighbouring float32 samples are alike; side by side they compress, mixed with
the noise of the low bytes they do not.
"""

from __future__ import annotations

import zlib
from typing import Final

import numpy as np

from pdm_edge.records import Float32Array

PACKING: Final = "shuffle-zlib"


def pack(samples: Float32Array) -> bytes:
    """Samples of shape (n_axes, n_samples) as bytes; `unpack` gives them back bit by bit."""
    places = np.ascontiguousarray(samples, dtype="<f4").view(np.uint8).reshape(-1, 4)
    return zlib.compress(np.ascontiguousarray(places.T).tobytes(), 1)


def unpack(packed: bytes, n_axes: int) -> Float32Array:
    """The samples again, shape (n_axes, n_samples).

    Raises
    ------
    ValueError
        If the bytes are no packed samples of so many axes.
    """
    try:
        plain = zlib.decompress(packed)
    except zlib.error as error:
        raise ValueError(f"are no packed samples: {error}") from error
    values = np.frombuffer(plain, dtype=np.uint8).reshape(4, -1).T.tobytes()
    return np.frombuffer(values, dtype="<f4").reshape(n_axes, -1)
