"""Bearing geometries that can be traced to a publication, and an estimate for the others.

Few makers print what is inside a bearing, and it differs between makers for one designation;
tables of "6208: 9 balls of 12 mm" without a source are worse than none. What is here is printed by a
maker, or stated by those who published measurements of that very bearing, or follows from the load
ratings that makers print (`_RATED`). For any other one, give the factors that the maker publishes
(`geometry_from_orders`) or the geometry, or count the rolling elements and let `estimated_geometry`
do the rest from the boundary dimensions of ISO 15.
"""

from __future__ import annotations

import re
from typing import Final

from pdm_edge.features.bearing import BearingGeometry, geometry_from_orders

_INCH: Final = 25.4

_CWRU: Final = "Case Western Reserve University bearing data centre, maker SKF"
_UOS: Final = "University of Seoul, Lee, Kim and Kim (2024), Data in Brief 57, table 2"
_GMN: Final = "GMN, High precision ball bearings, catalogue 4000 0813 EN, pages 53 to 55"
_BJTU: Final = "published orders, BJTU-RAO bogie data (2025), doi 10.1109/TII.2025.3553042"

_ROWS: Final[tuple[tuple[str, BearingGeometry, str], ...]] = (
    # Deep-groove ball bearings, series 62. More of them, and series 63, in `_RATED`.
    ("6200", BearingGeometry(7, 5.556, 20.0), _GMN),
    (
        "6201",
        geometry_from_orders(2.62, 4.38, pitch_diameter_mm=22.0),
        "published orders, VBL-VA001 data, Atmaja et al. (2024), from the data sheet of NTN",
    ),
    ("6202", BearingGeometry(8, 5.953, 25.3), _GMN),
    ("6203", BearingGeometry(8, 6.746, 28.499), f"{_CWRU}, fan end"),
    ("6204", BearingGeometry(8, 7.94, 34.57), f"{_UOS}, maker MOCHU"),
    ("6205", BearingGeometry(9, 7.940, 39.040), f"{_CWRU}, drive end"),
    ("6206", BearingGeometry(9, 9.525, 46.0), _GMN),
    ("6207", BearingGeometry(9, 11.112, 53.5), _GMN),
    ("6208", BearingGeometry(9, 11.906, 60.0), _GMN),
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
    (
        "22228",
        geometry_from_orders(8.212, 10.788, 3.564, pitch_diameter_mm=195.0),
        "published frequencies at 1500 rpm, glossary of VibroGuard (vibroguard.cz), maker SKF",
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

_BOTH: Final = "Timken and NTN"
_RATED: Final[tuple[tuple[str, int, int, str], ...]] = (
    # Designation, balls, ball diameter in 1/64 inch, whose load ratings.
    ("6209-NTN", 9, 32, "NTN"),
    ("6209-TIMKEN", 10, 30, "Timken"),
    ("6210", 10, 32, _BOTH),
    ("6211", 10, 36, _BOTH),
    ("6212-NTN", 10, 40, "NTN"),
    ("6212-TIMKEN", 10, 38, "Timken"),
    ("6213", 10, 42, "Timken"),
    ("6215", 11, 44, "Timken"),
    ("6216", 10, 48, "Timken"),
    ("6217", 11, 50, "Timken"),
    ("6218", 10, 56, "Timken"),
    ("6219", 10, 60, "Timken"),
    ("6220", 10, 64, "Timken"),
    ("6303", 7, 22, _BOTH),
    ("6304", 7, 24, _BOTH),
    ("6305-NTN", 7, 28, "NTN"),
    ("6305-TIMKEN", 8, 26, "Timken"),
    ("6306", 8, 30, _BOTH),
    ("6307", 8, 34, _BOTH),
    ("6308", 8, 38, f"{_BOTH}; SKF states strikes of a ball at 4.078 times the speed, which agrees"),
    ("6309-NTN", 8, 44, "NTN"),
    ("6309-TIMKEN", 8, 42, "Timken"),
    ("6310-NTN", 8, 48, "NTN"),
    ("6310-TIMKEN", 8, 46, "Timken"),
    ("6311", 8, 52, _BOTH),
    ("6312", 8, 56, _BOTH),
    ("6313", 8, 60, _BOTH),
    ("6314", 8, 64, "Timken"),
    ("6315", 8, 68, "Timken"),
    ("6316", 8, 72, "Timken"),
    ("6317", 8, 76, "Timken"),
    ("6318", 8, 80, "Timken"),
    ("6319", 8, 84, "Timken"),
    ("6320", 8, 92, "Timken"),
)
"""What the load ratings of deep-groove ball bearings tell of their inside.

Makers print the basic static rating, ``f0 Z D^2`` (ISO 76), and the dynamic one, ``1.3 fc Z^(2/3) D^1.8``
(ISO 281; above 25.4 mm ``3.647 D^1.4``); f0 and fc depend on D over the pitch diameter, which is the mean
of bore and outer diameter. That is two equations for the number of balls Z and their diameter D, and D
must come out as a size that is made. For 6202 to 6208 it gives what GMN prints. Ratings from Timken,
*Deep Groove Ball Bearing Catalog*, order 10857 (2017), table 10, and NTN, *Ball and Roller Bearings*.
"""

# Outer diameter in mm by bore in mm: diameter series 2 and 3 of ISO 15.
_OUTER_MM: Final[dict[str, dict[int, int]]] = {
    "62": {
        **{10: 30, 12: 32, 15: 35, 17: 40, 20: 47, 25: 52, 30: 62, 35: 72, 40: 80, 45: 85, 50: 90},
        **{55: 100, 60: 110, 65: 120, 70: 125, 75: 130, 80: 140, 85: 150, 90: 160, 95: 170, 100: 180},
        **{
            105: 190,
            110: 200,
            120: 215,
            130: 230,
            140: 250,
            150: 270,
            160: 290,
            170: 310,
            180: 320,
            190: 340,
        },
    },
    "63": {
        **{10: 35, 12: 37, 15: 42, 17: 47, 20: 52, 25: 62, 30: 72, 35: 80, 40: 90, 45: 100, 50: 110},
        **{55: 120, 60: 130, 65: 140, 70: 150, 75: 160, 80: 170, 85: 180, 90: 190, 95: 200, 100: 215},
    },
}
_SMALL_BORES_MM: Final = {0: 10, 1: 12, 2: 15, 3: 17}

BALL_SHARE: Final = 0.293
"""Ball diameter over the difference of outer and bore diameter in deep-groove ball bearings: of
6202 to 6208, UER204 and 6804 above it is 0.292 to 0.300, and their fault frequencies come out right to
1 %. Of the smallest and of the large ones of series 63 it is 0.277 and 0.318, the frequencies 2.5 % off."""

ROLLER_SHARE: Final = 0.278
"""The same of cylindrical rollers in series NU2 and NU22: of NU204, NU205, NU206 and NU2205 above it is
0.278 to 0.279."""

BARREL_SHARE: Final = 0.25
BARREL_ANGLE_DEG: Final = 11.0
"""Share and contact angle of spherical roller bearings of series 222: 0.256 and 12.3 degrees for 22205,
0.244 and 10.1 degrees for 22228 above; their fault frequencies come out right to 0.5 %."""


def _dimensions_mm(designation: str) -> tuple[int, int] | None:
    """Bore and outer diameter of a bearing of series 62, 63, NU2, NU22 or 222 (and N, NJ, NUP)."""
    core = re.fullmatch(r"(62|63|222|N(?:U|J|UP)?22?)(\d\d)", _core(designation))
    if core is None:
        return None
    outer_mm = _OUTER_MM["63" if core[1] == "63" else "62"]
    bore_mm = _SMALL_BORES_MM.get(int(core[2]), 5 * int(core[2]))
    least_mm = 10 if core[1] in ("62", "63") else 25 if core[1] == "222" else 20
    return (bore_mm, outer_mm[bore_mm]) if bore_mm in outer_mm and bore_mm >= least_mm else None


def _core(designation: str) -> str:
    """A designation without its suffixes."""
    found = re.match(r"([A-Z]*)\s*(\d+)", designation.strip().upper())
    return "".join(found.groups()) if found else ""


def _rated(name: str, balls: int, ball_64in: int) -> BearingGeometry:
    dimensions = _dimensions_mm(name)
    assert dimensions is not None
    return BearingGeometry(balls, ball_64in * _INCH / 64, sum(dimensions) / 2)


CATALOGUE: Final[dict[str, BearingGeometry]] = {
    **{name: geometry for name, geometry, _ in _ROWS},
    **{name: _rated(name, balls, ball_64in) for name, balls, ball_64in, _ in _RATED},
}
"""Geometry by designation. Where the source says "published orders" or frequencies, only those were
published: the pitch diameter is then the mean of bore and outer diameter, and the rest is what
gives these frequencies. Where makers differ the name ends with the maker's."""

CATALOGUE_SOURCES: Final[dict[str, str]] = {
    **{name: source for name, _, source in _ROWS},
    **{name: f"follows from the load ratings of {whose}" for name, _, _, whose in _RATED},
}
"""Where each geometry of `CATALOGUE` was published, and whose bearing it was."""


def catalogued(designation: str) -> tuple[str, BearingGeometry] | None:
    """The row of the catalogue for a designation, with or without its suffixes; None if none is there.

    ``"6205-2RS"``, ``"NU 205 ECP"`` and ``"22205 E1"`` are found as 6205, NU205 and 22205: suffixes
    tell seals, cage, clearance and bore. The maker may be another one than the source's; where makers
    are known to differ there is a row for each, such as ``"6309-NTN"``, and none without the name.
    """
    name = designation.strip().upper()
    if name not in CATALOGUE:
        core, words = _core(name), re.split(r"[\s/-]+", name)
        name = next((row for row in CATALOGUE if row in {f"{core}-{word}" for word in words}), core)
    return (name, CATALOGUE[name]) if name in CATALOGUE else None


def makers_rows(designation: str) -> list[str]:
    """Rows of one designation by different makers, where the catalogue has no row for all of them."""
    name = _core(designation)
    rows = [row for row in CATALOGUE if row.startswith(f"{name}-")]
    return [] if name in CATALOGUE or len(rows) < 2 else rows


def estimated_geometry(designation: str, balls: int) -> BearingGeometry:
    """Geometry of a bearing of series 62, 63, NU2, NU22 or 222 with a counted number of rolling elements.

    Pitch diameter is the mean of bore and outer diameter, the rolling element takes `BALL_SHARE`,
    `ROLLER_SHARE` or `BARREL_SHARE` of their difference. N, NJ and NUP are as NU. The number of
    rolling elements (of one row) cannot be estimated well enough, one off is 10 % off in frequency;
    count them, or ask the maker.

    Raises
    ------
    ValueError
        If the designation is not one of these series, such as ``"6208"``, ``"NU 210 ECP"`` or ``"22220"``.
    """
    dimensions = _dimensions_mm(designation)
    if dimensions is None:
        raise ValueError(
            f"no boundary dimensions for {designation!r}: 6200 to 6238, 6300 to 6320, NU204 to NU238 and "
            "22205 to 22238 are known; for others give the maker's bpfo_order and bpfi_order, or balls, "
            "ball_diameter_mm and pitch_diameter_mm"
        )
    bore_mm, outer_mm = dimensions
    share, angle_deg = BALL_SHARE, 0.0
    if _core(designation).startswith("N"):
        share = ROLLER_SHARE
    elif _core(designation).startswith("222"):
        share, angle_deg = BARREL_SHARE, BARREL_ANGLE_DEG
    return BearingGeometry(balls, share * (outer_mm - bore_mm), (outer_mm + bore_mm) / 2, angle_deg)
