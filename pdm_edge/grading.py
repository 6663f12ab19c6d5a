"""How a machine's velocity is read out of its vector and graded by ISO 20816-3."""

from __future__ import annotations

import math
import re
from typing import TypeAlias

from pdm_edge.config import IsoConfig
from pdm_edge.features import iso20816_zone, velocity_limits_mm_s
from pdm_edge.features.iso20816 import Zone
from pdm_edge.records import FeatureVector

Band: TypeAlias = "tuple[str, str] | None"
"""Lower and upper edge in Hz, as the name of the feature has them; None if only the sensor knows."""

_FIGURE = r"(\d+(?:\.\d+)?)"
_VELOCITY = re.compile(rf"/velocity_rms(?:_[a-z])?(?:_{_FIGURE}_{_FIGURE}hz)?\Z")
_STANDARD_BANDS = {("10", "1000"), ("2", "1000")}


def highest_velocity(vector: FeatureVector) -> tuple[float, Band]:
    """The highest velocity RMS of all sensors and axes in mm/s, as ISO 20816-3 takes it, and its band.

    It comes from a waveform, or is a reading ``velocity_rms``, ``velocity_rms_x`` ... in mm/s of a
    sensor that measures it itself. NaN if there is none.
    """
    highest, band = math.nan, None
    for name, unit, value in zip(vector.schema.names, vector.schema.units, vector.values, strict=True):
        match = _VELOCITY.search(name)
        if match and unit == "mm_s" and math.isfinite(value) and not value <= highest:
            highest, band = float(value), (match[1], match[2]) if match[1] else None
    return highest, band


def graded(iso: IsoConfig | None, velocity_mm_s: float, band: Band) -> tuple[Zone | None, str]:
    """The zone, None if it cannot be told, and what it was told from."""
    if iso is None:
        return None, "not graded: no machine group and support configured"
    if math.isnan(velocity_mm_s):
        return None, "not graded: no velocity"
    zone = iso20816_zone(velocity_mm_s, iso.group, iso.support)
    edges = "the sensor's own band" if band is None else f"{band[0]}-{band[1]} Hz"
    basis = f"{velocity_mm_s:.2f} mm/s RMS, {edges}, group {iso.group} {iso.support}"
    if band is not None and band not in _STANDARD_BANDS:
        basis += ", band-limited: not comparable with the standard"
    return zone, basis


def zone_c_mm_s(iso: IsoConfig | None) -> float:
    """Where zone C begins, NaN without a machine group."""
    return math.nan if iso is None else velocity_limits_mm_s(iso.group, iso.support)[1]
