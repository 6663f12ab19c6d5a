"""The inside of deep-groove ball bearings, held against the load ratings that two makers print."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np
import pytest

from pdm_edge.features import CATALOGUE, CATALOGUE_SOURCES, BearingGeometry

KGF = 9.80665e-3  # kN
# Static and dynamic rating in kN. Timken, Deep Groove Ball Bearing Catalog, order 10857 (2017), table 10;
# NTN, Ball and Roller Bearings, pages B-8 to B-14, those that were legible in the copy read.
RATINGS = {
    ("Timken", "6202"): (3.7, 7.6),
    ("Timken", "6203"): (4.8, 9.6),
    ("Timken", "6204"): (6.6, 12.8),
    ("Timken", "6205"): (7.9, 14),
    ("Timken", "6206"): (11.3, 19.5),
    ("Timken", "6207"): (15.3, 25.7),
    ("Timken", "6208"): (18.1, 29.5),
    ("Timken", "6209"): (20.3, 31.2),
    ("Timken", "6210"): (23.2, 35),
    ("Timken", "6211"): (29.2, 43.4),
    ("Timken", "6212"): (32.9, 47.8),
    ("Timken", "6213"): (40, 57.2),
    ("Timken", "6215"): (49.3, 66.1),
    ("Timken", "6216"): (53, 72.7),
    ("Timken", "6217"): (63.8, 83.2),
    ("Timken", "6218"): (71.5, 96),
    ("Timken", "6219"): (82, 109),
    ("Timken", "6220"): (92.7, 122),
    ("Timken", "6303"): (6.6, 13.6),
    ("Timken", "6304"): (7.8, 15.9),
    ("Timken", "6305"): (11.2, 20.6),
    ("Timken", "6306"): (15, 26.6),
    ("Timken", "6307"): (19.2, 33.4),
    ("Timken", "6308"): (24, 40.7),
    ("Timken", "6309"): (29.3, 48.8),
    ("Timken", "6310"): (35.3, 57.5),
    ("Timken", "6311"): (44.6, 71.5),
    ("Timken", "6312"): (51.8, 81.8),
    ("Timken", "6313"): (59.7, 92.6),
    ("Timken", "6314"): (68, 104),
    ("Timken", "6315"): (76.5, 113.4),
    ("Timken", "6316"): (86.5, 123),
    ("Timken", "6317"): (96.5, 132.7),
    ("Timken", "6318"): (107.2, 142.6),
    ("Timken", "6319"): (118, 152.7),
    ("Timken", "6320"): (140.2, 173),
    ("NTN", "6204"): (6.65, 12.8),
    ("NTN", "6205"): (7.85, 14),
    ("NTN", "6206"): (1150 * KGF, 19.5),
    ("NTN", "6207"): (15.3, 25.7),
    ("NTN", "6208"): (17.8, 29.1),
    ("NTN", "6209"): (20.4, 32.5),
    ("NTN", "6210"): (2370 * KGF, 35),
    ("NTN", "6211"): (29.2, 43.5),
    ("NTN", "6212"): (3700 * KGF, 52.5),
    ("NTN", "6303"): (6.55, 13.5),
    ("NTN", "6304"): (7.9, 15.9),
    ("NTN", "6305"): (10.9, 21.2),
    ("NTN", "6306"): (15, 26.7),
    ("NTN", "6307"): (19.1, 33.5),
    ("NTN", "6308"): (2450 * KGF, 40.5),
    ("NTN", "6309"): (32, 53),
    ("NTN", "6310"): (3900 * KGF, 62),
    ("NTN", "6311"): (45, 71.5),
    ("NTN", "6312"): (52, 82),
    ("NTN", "6313"): (60, 92.5),
}
# ISO 76: f0 of radial ball bearings, for D cos a / D_pw in steps of 0.01.
F0: tuple[float, ...] = (
    14.7,
    14.9,
    15.1,
    15.3,
    15.5,
    15.7,
    15.9,
    16.1,
    16.3,
    16.5,
    16.4,
    16.1,
    15.9,
    15.6,
    15.4,
    15.2,
)
F0 += (14.9, 14.7, 14.4, 14.2, 14.0, 13.7, 13.5, 13.2, 13.0, 12.8, 12.5, 12.3, 12.1, 11.8, 11.6)
# ISO 281: fc of single-row deep-groove ball bearings.
FC_AT = (0.05, 0.06, 0.07, 0.08, 0.09, 0.10, 0.12, 0.14, 0.16, 0.18, 0.20, 0.22, 0.24, 0.26, 0.28, 0.30)
FC = (46.7, 49.1, 51.1, 52.8, 54.3, 55.5, 57.5, 58.8, 59.6, 59.9, 59.9, 59.6, 59.0, 58.2, 57.1, 56.0)
SIZES_MM = [n * 25.4 / 64 for n in range(8, 120)]  # of balls: whole 1/64 inch
LARGE_MM = 25.4


def static_kn(bearing: BearingGeometry) -> float:
    ratio = bearing.ball_diameter_mm / bearing.pitch_diameter_mm
    f0 = np.interp(ratio, np.arange(len(F0)) / 100, F0)
    return float(f0 * bearing.balls * bearing.ball_diameter_mm**2) / 1e3


def dynamic_kn(bearing: BearingGeometry) -> float:
    ball_mm = bearing.ball_diameter_mm
    fc = np.interp(ball_mm / bearing.pitch_diameter_mm, FC_AT, FC)
    power = ball_mm**1.8 if ball_mm <= LARGE_MM else 3.647 * ball_mm**1.4
    return float(1.3 * fc * bearing.balls ** (2 / 3) * power) / 1e3


def off(bearing: BearingGeometry, ratings_kn: Sequence[float]) -> float:
    """The larger of how far both ratings are off, relative."""
    told_static, told_dynamic = ratings_kn
    return max(abs(static_kn(bearing) / told_static - 1), abs(dynamic_kn(bearing) / told_dynamic - 1))


def row(maker: str, designation: str) -> BearingGeometry:
    own = f"{designation}-{maker.upper()}"
    return CATALOGUE[own] if own in CATALOGUE else CATALOGUE[designation]


@pytest.mark.parametrize(("maker", "designation"), RATINGS)
def test_load_ratings_of_the_makers_come_out_of_the_geometry(maker: str, designation: str) -> None:
    bearing = row(maker, designation)
    assert off(bearing, RATINGS[maker, designation]) < 0.02
    if "ratings" in CATALOGUE_SOURCES.get(designation, "ratings"):
        assert off(bearing, RATINGS[maker, designation]) < 0.011


@pytest.mark.parametrize(("maker", "designation"), RATINGS)
def test_no_other_number_of_balls_gives_both_ratings_as_well(maker: str, designation: str) -> None:
    bearing, told = row(maker, designation), RATINGS[maker, designation]
    for balls in (bearing.balls - 1, bearing.balls + 1):
        others = [
            BearingGeometry(balls, ball_mm, bearing.pitch_diameter_mm)
            for ball_mm in SIZES_MM
            if ball_mm < bearing.pitch_diameter_mm
        ]
        assert min(off(other, told) for other in others) > off(bearing, told), balls


def test_the_method_finds_what_a_maker_prints() -> None:
    # GMN prints balls and ball diameter of these; here they follow from what Timken prints.
    for designation in ("6202", "6203", "6204", "6205", "6206", "6207", "6208"):
        printed = CATALOGUE[designation]
        found = min(
            (
                BearingGeometry(balls, ball_mm, printed.pitch_diameter_mm)
                for balls in range(6, 12)
                for ball_mm in SIZES_MM[: bisect.bisect(SIZES_MM, printed.pitch_diameter_mm / 2)]
            ),
            key=lambda bearing: off(bearing, RATINGS["Timken", designation]),
        )
        assert found.balls == printed.balls, designation
        assert found.ball_diameter_mm == pytest.approx(printed.ball_diameter_mm, abs=0.01), designation
