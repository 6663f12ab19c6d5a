"""Which bearing sits at a sensor, as a configuration or a command line says it."""

from __future__ import annotations

import msgspec

from pdm_edge.errors import ConfigError
from pdm_edge.features import (
    CATALOGUE,
    BearingGeometry,
    catalogued,
    estimated_geometry,
    geometry_from_orders,
    makers_rows,
)


class BearingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A designation from the catalogue, one with its counted number of rolling elements, the fault
    frequencies that the maker publishes (in orders of the shaft), or the geometry."""

    designation: str | None = None
    balls: int | None = None
    ball_diameter_mm: float | None = None
    pitch_diameter_mm: float | None = None
    contact_angle_deg: float = 0.0
    bpfo_order: float | None = None
    bpfi_order: float | None = None
    bsf_order: float | None = None

    def geometry(self) -> BearingGeometry:
        if self.bpfo_order is not None or self.bpfi_order is not None or self.bsf_order is not None:
            return self._from_orders()
        balls, ball_mm, pitch_mm = self.balls, self.ball_diameter_mm, self.pitch_diameter_mm
        if self.contact_angle_deg and ball_mm is None:
            raise ConfigError(
                "contact_angle_deg counts only beside balls, ball_diameter_mm and pitch_diameter_mm",
                mend="Leave it out, or give these",
            )
        if self.designation is not None and ball_mm is None and pitch_mm is None:
            return self._by_name(self.designation, balls)
        if self.designation is not None or balls is None or ball_mm is None or pitch_mm is None:
            raise ConfigError(
                "bearing needs either designation, or bpfo_order and bpfi_order, or balls, "
                "ball_diameter_mm and pitch_diameter_mm"
            )
        return BearingGeometry(balls, ball_mm, pitch_mm, self.contact_angle_deg)

    @staticmethod
    def _by_name(designation: str, balls: int | None) -> BearingGeometry:
        """The row of the catalogue, unless balls were counted and that one has another number of them."""
        row = catalogued(designation)
        if row is not None and balls in (None, row[1].balls):
            return row[1]
        if balls is not None:
            try:
                return estimated_geometry(designation, balls)
            except ValueError as error:
                if row is None:
                    raise
                raise ConfigError(
                    f"{row[0]} of the catalogue has {row[1].balls} rolling elements, {balls} were given",
                    mend="Count again, or give ball_diameter_mm and pitch_diameter_mm, too",
                ) from error
        others = (
            "For 62xx, 63xx, NU2xx, NU22xx and 222xx add the counted balls, or rollers of one row; "
            "for others give bpfo_order and bpfi_order as the maker publishes them, or balls, "
            "ball_diameter_mm, pitch_diameter_mm and contact_angle_deg"
        )
        if rows := makers_rows(designation):
            raise ConfigError(
                f"makers fill bearing {designation!r} differently",
                mend=f"Name one of {', '.join(rows)}. {others}",
            )
        raise ConfigError(
            f"bearing designation {designation!r} is not in the catalogue",
            mend=f"{others}. Known are {', '.join(sorted(CATALOGUE))}",
        )

    def _from_orders(self) -> BearingGeometry:
        """What the maker publishes for this very bearing holds; a designation is then only its name."""
        sizes = (self.balls, self.ball_diameter_mm, self.pitch_diameter_mm)
        if self.bpfo_order is None or self.bpfi_order is None or sizes != (None, None, None):
            raise ConfigError("bearing needs bpfo_order and bpfi_order together, and no geometry beside them")
        return geometry_from_orders(self.bpfo_order, self.bpfi_order, self.bsf_order)
