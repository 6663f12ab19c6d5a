"""What a sensor's features are beyond the default set."""

from __future__ import annotations

import msgspec

from pdm_edge.config_errors import unique
from pdm_edge.errors import ConfigError
from pdm_edge.features.plan import EXTRAS


class FeaturesConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Features behind the default ones, in this order; see docs/features.md.

    ``orders`` are multiples of the rated speed whose velocity is given, ``more_bands_hz`` further bands
    whose RMS is.
    """

    extras: tuple[str, ...] = ()
    orders: tuple[int, ...] = ()
    more_bands_hz: tuple[tuple[float, float], ...] = ()

    def check(self, where: str, *, has_speed: bool) -> None:
        """Raise ConfigError for what no window could give."""
        unknown = [name for name in self.extras if name not in EXTRAS]
        if unknown:
            raise ConfigError(
                f"there is no feature {unknown[0]!r}",
                where=f"{where}: extras",
                mend=f"Extras are {', '.join(EXTRAS)}",
            )
        unique(list(self.extras), "feature", f"{where}: extras")
        unique([f"{order}x" for order in self.orders], "order", f"{where}: orders")
        if any(order < 1 for order in self.orders):
            raise ConfigError(f"orders are {list(self.orders)}", where=where, mend="Whole numbers from 1")
        if self.orders and not has_speed:
            raise ConfigError(
                "orders are multiples of the speed", where=where, mend="Give the machine's rated_speed_rpm"
            )
        for low_hz, high_hz in self.more_bands_hz:
            if not 0 < low_hz < high_hz:
                raise ConfigError(
                    f"band {low_hz:g} to {high_hz:g} Hz",
                    where=f"{where}: more_bands_hz",
                    mend="Give the lower edge first, above 0",
                )
