"""Bearing geometries that can be traced to a publication, and an estimate for the others.

Makers do not print what is inside a bearing, and it differs between makers for one designation;
tables of "6208: 9 balls of 12 mm" without a source are worse than none. What is here is stated by
those who published measurements of that very bearing. For any other one, give the factors that
the maker publishes (`geometry_from_orders`) or the geometry, or count the balls and let
`estimated_geometry` do the rest from the boundary dimensions of ISO 15.
"""

from __future__ import annotations

import re
from typing import Final

from pdm_edge.features.bearing import BearingGeometry, geometry_from_orders

_INCH: Final = 25.4

_CWRU: Final = "Case Western Reserve University bearing data centre, maker SKF"
_UOS: Final = "University of Seoul, Lee, Kim and Kim (2024), Data in Brief 57, table 2"
_BJTU: Final = "published orders, BJTU-RAO bogie data (2025), doi 10.1109/TII.2025.3553042"

_ROWS: Final[tuple[tuple[str, BearingGeometry, str], ...]] = (
    # Deep-groove ball bearings, series 62.
    (
        "6201",
        geometry_from_orders(2.62, 4.38, pitch_diameter_mm=22.0),
        "published orders, VBL-VA001 data, Atmaja et al. (2024), from the data sheet of NTN",
    ),
    ("6203", BearingGeometry(8, 6.746, 28.499), f"{_CWRU}, fan end"),
    ("6204", BearingGeometry(8, 7.94, 34.57), f"{_UOS}, maker MOCHU"),
    ("6205", BearingGeometry(9, 7.940, 39.040), f"{_CWRU}, drive end"),
    # Cylindrical roller bearings.
    ("N204", BearingGeometry(11, 7.50, 34.0), f"{_UOS}, maker NTN"),
    ("NJ204", BearingGeometry(11, 7.50, 34.0), f"{_UOS}, maker NTN"),
    ("NU204", BearingGeometry(11, 7.50, 34.0), f"as N204 and NJ204, which differ in ribs only: {_UOS}"),
    (
        "NU205",
        geometry_from_orders(5.2325, 7.7675, pitch_diameter_mm=38.5),
        "published orders, Army Engineering University, Hou et al. (2025), Data in Brief 63, table 5",
    ),
    (
        "NU206",
        geometry_from_orders(5.24, 7.76, 2.49, pitch_diameter_mm=46.0),
        "published orders, Saarland University, Schnur et al. (2025), Data 10(5) 77, table 1, "
        "factors of Schaeffler for NU206-E",
    ),
    (
        "NU2205",
        BearingGeometry(13, 7.5, 39.0),
        "Lenze-MB data, Wissbrock and Mueller (2025), raceways of 31.5 and 46.5 mm, FAG NU2205-E",
    ),
    # Spherical and tapered roller bearings, each row of rollers.
    (
        "22205",
        geometry_from_orders(6.1852, 8.8148, 5.4030 / 2, pitch_diameter_mm=38.5),
        "published orders, CITEF Madrid, Soto-Ocampo et al. (2020), Sensors 20 3493, table 1, "
        "factors of Schaeffler for 22205-E1",
    ),
    ("30204", BearingGeometry(15, 6.20, 35.8, 12.6), f"{_UOS}, maker NTN"),
    ("32305", geometry_from_orders(5.111, 7.889, 2.203, pitch_diameter_mm=43.5), _BJTU),
    ("352213", geometry_from_orders(8.071, 10.929, 3.164, pitch_diameter_mm=92.5), _BJTU),
    # Others.
    (
        "1205",
        BearingGeometry(12, 7.12, 38.09, 10.2),
        "University of Ferrara, Arpa et al. (2024), table 2, SKF 1205 ETN9, each row",
    ),
    (
        "61806",
        BearingGeometry(19, 3.18, 35.5),
        "Paderborn run to failure, Aimiyekagbon (2024), doi 10.5281/zenodo.10868257, table 1",
    ),
    ("ER10K", BearingGeometry(8, 0.3125 * _INCH, 1.319 * _INCH), "PHM 2009 challenge, maker MB"),
    (
        "ER12K",
        geometry_from_orders(3.048, 4.95, 1.992, pitch_diameter_mm=33.5),
        "published orders, Tecnalia bearing data, from the maker MB",
    ),
    ("ER16K", BearingGeometry(9, 7.94, 38.52), "University of Ottawa, Huang and Baddour (2018), maker MB"),
    # Bearings of data sets that have no designation, or one that another maker fills otherwise.
    (
        "6203-OTTAWA",
        BearingGeometry(8, 6.77, 28.50),
        "University of Ottawa, Sehri et al. (2023), table 2, makers NSK and FAFNIR",
    ),
    ("6203-PADERBORN", BearingGeometry(8, 6.75, 28.55), "Paderborn University, Lessmeier et al. (2016)"),
    ("6205-KAIST", BearingGeometry(9, 7.90, 38.5), "KAIST, Jung et al. (2023), table 1, maker NSK"),
    ("6804-PRONOSTIA", BearingGeometry(13, 3.5, 25.6), "IEEE PHM 2012 challenge, Nectoux et al. (2012)"),
    ("DIRG-B1", BearingGeometry(10, 9.0, 40.5), "Politecnico di Torino, Daga et al. (2019), table 1"),
    ("DIRG-B2", BearingGeometry(16, 8.0, 54.0), "Politecnico di Torino, Daga et al. (2019), table 1"),
    ("MAFAULDA", BearingGeometry(8, 7.145, 28.519), "Federal University of Rio de Janeiro, MAFAULDA"),
    (
        "NICE-MFPT",
        BearingGeometry(8, 0.235 * _INCH, 1.245 * _INCH),
        "MFPT fault data sets, Bechhoefer (2013), maker NICE",
    ),
    ("UER204", BearingGeometry(8, 7.92, 34.55), "XJTU-SY run to failure, Wang et al. (2020), maker LDK"),
    (
        "ZA-2115",
        BearingGeometry(16, 0.331 * _INCH, 2.815 * _INCH, 15.17),
        "IMS, University of Cincinnati, Qiu et al. (2006), maker Rexnord, each row",
    ),
)

CATALOGUE: Final[dict[str, BearingGeometry]] = {name: geometry for name, geometry, _ in _ROWS}
"""Geometry by designation. Where the source says "published orders", only frequencies were
published: the pitch diameter is then the mean of bore and outer diameter, and the rest is what
gives these frequencies."""

CATALOGUE_SOURCES: Final[dict[str, str]] = {name: source for name, _, source in _ROWS}
"""Where each geometry of `CATALOGUE` was published, and whose bearing it was."""

# Outer diameter in mm by bore in mm: diameter series 2 and 3 of ISO 15.
_OUTER_MM: Final[dict[str, dict[int, int]]] = {
    "62": {
        **{10: 30, 12: 32, 15: 35, 17: 40, 20: 47, 25: 52, 30: 62, 35: 72, 40: 80, 45: 85, 50: 90},
        **{55: 100, 60: 110, 65: 120, 70: 125, 75: 130, 80: 140, 85: 150, 90: 160, 95: 170, 100: 180},
    },
    "63": {
        **{10: 35, 12: 37, 15: 42, 17: 47, 20: 52, 25: 62, 30: 72, 35: 80, 40: 90, 45: 100, 50: 110},
        **{55: 120, 60: 130, 65: 140, 70: 150, 75: 160, 80: 170, 85: 180, 90: 190, 95: 200, 100: 215},
    },
}
_SMALL_BORES_MM: Final = {0: 10, 1: 12, 2: 15, 3: 17}

BALL_SHARE: Final = 0.293
"""Ball diameter over the difference of outer and bore diameter in deep-groove ball bearings: of
6203, 6204, 6205, UER204 and 6804 above it is 0.292 to 0.295, and their fault frequencies come out
right to 1 %. Of 6201, the smallest, it is 0.277, and the frequencies are 2 % off."""


def catalogued(designation: str) -> tuple[str, BearingGeometry] | None:
    """The row of the catalogue for a designation, with or without its suffixes; None if none is there.

    ``"6205-2RS"``, ``"NU 205 ECP"`` and ``"22205 E1"`` are found as 6205, NU205 and 22205: suffixes
    tell seals, cage, clearance and bore. The maker may be another one than the source's.
    """
    if designation in CATALOGUE:
        return designation, CATALOGUE[designation]
    core = re.match(r"([A-Z]*)\s*(\d+)", designation.strip().upper())
    name = "".join(core.groups()) if core else ""
    return (name, CATALOGUE[name]) if name in CATALOGUE else None


def estimated_geometry(designation: str, balls: int) -> BearingGeometry:
    """Geometry of a deep-groove ball bearing of series 62 or 63 with a counted number of balls.

    Pitch diameter is the mean of bore and outer diameter, the ball takes `BALL_SHARE` of their
    difference. The number of balls cannot be estimated well enough, one off is 10 % off in
    frequency; count them, or ask the maker.

    Raises
    ------
    ValueError
        If the designation is not one of these series, such as ``"6208"`` or ``"6308-2RS"``.
    """
    core = designation.upper().replace(" ", "-").split("-")[0].split("/")[0]
    series, code = core[:2], core[2:]
    bores = _OUTER_MM.get(series)
    bore_mm = None
    if bores is not None and len(code) == 2 and code.isdigit():
        bore_mm = _SMALL_BORES_MM.get(int(code), 5 * int(code))
    if bores is None or bore_mm not in bores:
        raise ValueError(
            f"no boundary dimensions for {designation!r}: 6200 to 6220 and 6300 to 6320 are known; "
            "for others give the maker's bpfo_order and bpfi_order, or balls, ball_diameter_mm and "
            "pitch_diameter_mm"
        )
    outer_mm = bores[bore_mm]
    return BearingGeometry(balls, BALL_SHARE * (outer_mm - bore_mm), (outer_mm + bore_mm) / 2)
