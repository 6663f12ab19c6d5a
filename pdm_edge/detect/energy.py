"""Energy that the processor counted: RAPL, as Linux shows it under powercap.

The counter of a package runs from 0 to `max_energy_range_uj` and begins again (Linux,
Documentation/power/powercap). Since 2020 it may be read by root alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

POWERCAP: Final = Path("/sys/class/powercap")


class EnergyCounter:
    """Energy of all processor packages since it was made.

    Zones within a package (``intel-rapl:0:0``) are parts of it, and ``intel-rapl-mmio`` is the same
    counter on another way; neither is added.

    Parameters
    ----------
    powercap
        Where the zones are.
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._zones = sorted(zone for zone in powercap.glob("intel-rapl:*") if zone.name.count(":") == 1)
        self._start = self._read()

    def used_uj(self) -> float | None:
        """Energy in uJ; None if there is no counter, or it cannot be read. Right for less than one round
        of the counter: at 100 W, of the usual 262 kJ, three quarters of an hour."""
        now = self._read()
        if self._start is None or now is None:
            return None
        used = 0.0
        for (before_uj, _), (after_uj, range_uj) in zip(self._start, now, strict=True):
            used += after_uj - before_uj + (range_uj if after_uj < before_uj else 0.0)
        return used

    def _read(self) -> list[tuple[float, float]] | None:
        """Counter and range of each package in uJ."""
        try:
            found = [
                (float((zone / "energy_uj").read_text()), float((zone / "max_energy_range_uj").read_text()))
                for zone in self._zones
            ]
        except (OSError, ValueError):
            return None
        return found or None
