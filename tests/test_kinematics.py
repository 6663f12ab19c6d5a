"""Lines of bearings, gears, blades, belts and motors; what stands at them; ISO 20816-3 practice."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from pdm_edge import features as f


def test_every_bearing_of_the_catalogue_obeys_its_identities() -> None:
    for name, bearing in f.CATALOGUE.items():
        lines = bearing.frequencies(1.0)
        assert lines.bpfo_hz + lines.bpfi_hz == pytest.approx(bearing.balls), name
        assert lines.bpfo_hz == pytest.approx(bearing.balls * lines.ftf_hz), name
        assert 0.3 < lines.ftf_hz < 0.5, name


@pytest.mark.parametrize(
    ("name", "orders"),
    [
        # BPFO, BPFI as published with each data set.
        ("NICE-MFPT", (3.245, 4.755)),
        ("UER204", (3.083, 4.917)),
        ("MAFAULDA", (2.998, 5.002)),
        ("6203", (3.053, 4.947)),
        ("ZA-2115", (7.092, 8.908)),
        ("6804-PRONOSTIA", (5.611, 7.389)),
        ("ER10K", (3.052, 4.948)),
    ],
)
def test_orders_are_those_published_with_the_data_sets(name: str, orders: tuple[float, float]) -> None:
    lines = f.CATALOGUE[name].frequencies(1.0)
    assert (lines.bpfo_hz, lines.bpfi_hz) == pytest.approx(orders, abs=2e-3)


# As published, from the sources named in the catalogue: BPFO, BPFI, BSF, FTF; NaN where not told.
NOT_TOLD = math.nan
PUBLISHED_ORDERS = {
    "6201": (2.62, 4.38, NOT_TOLD, NOT_TOLD),  # NTN
    "6205": (3.5848, 5.4152, 4.7135 / 2, 0.3983),  # SKF
    "NU205": (104.65 / 20, 155.35 / 20, NOT_TOLD, NOT_TOLD),  # measured at 20 Hz
    "NU206": (5.24, 7.76, 2.49, 0.40),  # Schaeffler
    "22228": (205.3 / 25, 269.7 / 25, 89.1 / 25, 10.8 / 25),  # SKF, at 1500 rpm
    "6308": (NOT_TOLD, NOT_TOLD, 4.078 / 2, NOT_TOLD),  # SKF
    "22205": (6.1852, 8.8148, 5.4030 / 2, 0.4123),  # Schaeffler
    "32305": (5.111, 7.889, 2.203, 0.393),
    "352213": (8.071, 10.929, 3.164, 0.425),
    "ER12K": (3.048, 4.95, 1.992, NOT_TOLD),
    "ER16K": (3.572, 5.43, 2.322, NOT_TOLD),  # Tecnalia gearbox data, beside the geometry of Ottawa
}


@pytest.mark.parametrize("name", PUBLISHED_ORDERS)
def test_every_published_order_comes_out_of_the_geometry_within_one_per_cent(name: str) -> None:
    lines = f.CATALOGUE[name].frequencies(1.0)
    for got, told in zip(
        (lines.bpfo_hz, lines.bpfi_hz, lines.bsf_hz, lines.ftf_hz), PUBLISHED_ORDERS[name], strict=True
    ):
        assert math.isnan(told) or got == pytest.approx(told, rel=0.01)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("NU205", "NU2205"),  # rollers of one diameter on the same raceways, told by two universities
        ("6204", "UER204"),
        ("6205", "6205-KAIST"),
        ("6205", "ER16K"),
        ("6203", "6203-OTTAWA"),
        ("6203", "6203-PADERBORN"),
        ("6203", "ER12K"),
    ],
)
def test_independent_sources_agree_within_one_per_cent(one: str, other: str) -> None:
    ours, theirs = f.CATALOGUE[one].frequencies(1.0), f.CATALOGUE[other].frequencies(1.0)
    for line in ("bpfo_hz", "bpfi_hz", "ftf_hz"):
        assert getattr(ours, line) == pytest.approx(getattr(theirs, line), rel=0.01)


def test_rollers_fit_the_raceways_that_makers_print() -> None:
    # Raceway of the inner ring of SKF NJ 204 ECP is 26.5 mm, of NU 205 ECP 31.5 mm.
    for name, inner_mm in (("NU204", 26.5), ("NU2205", 31.5)):
        bearing = f.CATALOGUE[name]
        assert bearing.pitch_diameter_mm - bearing.ball_diameter_mm == pytest.approx(inner_mm, abs=0.01)


def test_every_row_has_a_source_and_all_series_asked_for_are_there() -> None:
    assert set(f.CATALOGUE) == set(f.CATALOGUE_SOURCES)
    assert all(len(source) > 15 for source in f.CATALOGUE_SOURCES.values())
    for series in ("62", "63", "NU2", "222"):
        assert any(name.startswith(series) for name in f.CATALOGUE), series


@pytest.mark.parametrize(
    ("designation", "row"),
    [
        ("6205-2RS", "6205"),
        ("nu 205 ECP", "NU205"),
        ("NU206-E-XL-TVP2", "NU206"),
        ("22205 E1K/C3", "22205"),
        ("6203-PADERBORN", "6203-PADERBORN"),
        ("6205-KAIST", "6205-KAIST"),
        (" 6309-ntn", "6309-NTN"),
        ("6309-NTN-C3", "6309-NTN"),
        ("6209 C3 Timken", "6209-TIMKEN"),
        ("6312 C3", "6312"),
    ],
)
def test_a_designation_is_found_with_its_suffixes(designation: str, row: str) -> None:
    assert f.catalogued(designation) == (row, f.CATALOGUE[row])


@pytest.mark.parametrize("designation", ["6214", "62052", "620", "6309", "NU2052", "U205", "22220", "", "RS"])
def test_a_designation_that_is_not_there_is_not_taken_for_another(designation: str) -> None:
    assert f.catalogued(designation) is None


def test_a_geometry_goes_through_its_orders_and_back() -> None:
    for name, bearing in f.CATALOGUE.items():
        lines = bearing.frequencies(1.0)
        again = f.geometry_from_orders(
            lines.bpfo_hz, lines.bpfi_hz, lines.bsf_hz, pitch_diameter_mm=bearing.pitch_diameter_mm
        )
        assert again.balls == bearing.balls, name
        assert again.ball_diameter_mm == pytest.approx(bearing.ball_diameter_mm), name
        assert again.contact_angle_deg == pytest.approx(bearing.contact_angle_deg, abs=1e-4), name


@pytest.mark.parametrize(
    ("orders", "says"),
    [
        ((5.42, 3.58), "outer race has the lower"),
        ((3.58, 5.62), "add up to 9.2"),
        ((90.0, 135.3), "add up to 225.3"),  # Hz, not orders
        ((3.5848, 5.4152, 4.7135), "twice the spin"),
        ((3.5848, 5.4152, 9.0), "do not fit"),
        ((3.5848, 5.4152, 0.0), "do not fit"),
        ((math.nan, 5.0), "outer race has the lower"),
    ],
)
def test_orders_that_contradict_each_other_are_refused(orders: tuple[float, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        f.geometry_from_orders(*orders)


# How far the estimate may be off, for each series that is estimated.
OFF = {"62": 0.025, "63": 0.025, "NU2": 0.005, "222": 0.005}


@pytest.mark.parametrize("known", [name for name in f.CATALOGUE if name.startswith(tuple(OFF))])
def test_a_geometry_estimated_from_boundary_dimensions_is_as_good_as_the_docs_say(known: str) -> None:
    true = f.CATALOGUE[known].frequencies(1.0)
    estimate = f.estimated_geometry(known, f.CATALOGUE[known].balls).frequencies(1.0)
    off = next(off for series, off in OFF.items() if known.startswith(series))
    if known in ("6202", "6203", "6204", "6205", "6206", "6207", "6208"):
        off = 0.01
    assert estimate.bpfo_hz == pytest.approx(true.bpfo_hz, rel=off)
    assert estimate.bpfi_hz == pytest.approx(true.bpfi_hz, rel=off)


@pytest.mark.parametrize(
    "designation",
    ["NU305", "NU1010", "22308", "6", "62", "6299", "abc", "222", "NU2", "NU203", "22204", "6223"],
)
def test_a_bearing_that_cannot_be_estimated_is_refused(designation: str) -> None:
    with pytest.raises(ValueError, match="6200 to 6238"):
        f.estimated_geometry(designation, 9)


def test_gear_mesh_of_a_published_example() -> None:
    mesh = f.gear_mesh(20.0, 8, 42)
    assert mesh.mesh_hz == 160.0
    assert mesh.output_shaft_hz == pytest.approx(3.8095, abs=1e-4)


def test_blades_belts_and_motors() -> None:
    assert f.blade_pass(24.5, 7) == pytest.approx(171.5)
    drive = f.belt(25.0, 100.0, 200.0, 1200.0)
    assert drive.belt_hz == pytest.approx(math.pi * 100 * 25 / 1200)
    assert drive.driven_hz == 12.5
    motor = f.induction_motor(24.667, 50.0, 4)
    assert motor.synchronous_hz == 25.0
    assert motor.twice_line_hz == 100.0
    # Pole pass frequency is poles times slip speed, by definition.
    assert motor.pole_pass_hz == pytest.approx(4 * (25.0 - 24.667))


@pytest.mark.parametrize(
    "call",
    [
        lambda: f.gear_mesh(20.0, 2, 42),
        lambda: f.gear_mesh(0.0, 8, 42),
        lambda: f.blade_pass(10.0, 0),
        lambda: f.belt(25.0, 100.0, 200.0, 300.0),
        lambda: f.induction_motor(25.5, 50.0, 4),
        lambda: f.induction_motor(24.0, 50.0, 3),
        lambda: f.induction_motor(math.nan, 50.0, 4),
    ],
)
def test_impossible_drives_are_refused(call: object) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=r"is |does not"):
        call()


def spectrum(lines: dict[float, float], *, line_hz: float = 0.5, n: int = 2000) -> npt.NDArray[np.float64]:
    amplitude = np.random.default_rng(1).uniform(0.9e-3, 1.1e-3, n)
    for frequency_hz, value in lines.items():
        amplitude[round(frequency_hz / line_hz)] = value
    return amplitude


def test_harmonics_add_up_and_stand_above_the_floor() -> None:
    amplitude = spectrum({100.0: 0.3, 200.0: 0.2, 300.0: 0.1})
    total, level_db = f.line_amplitudes(amplitude, 0.5, 100.0)
    assert total == pytest.approx(math.sqrt(0.3**2 + 0.2**2 + 0.1**2))
    assert level_db == pytest.approx(np.mean(20 * np.log10([300, 200, 100])), abs=0.5)


def test_a_slipping_line_is_found_and_one_beyond_the_slip_is_not() -> None:
    assert f.line_amplitudes(spectrum({98.5: 0.3}), 0.5, 100.0, harmonics=1)[0] == pytest.approx(0.3)
    assert f.line_amplitudes(spectrum({96.0: 0.3}), 0.5, 100.0, harmonics=1)[0] < 0.01
    assert f.line_amplitudes(spectrum({96.0: 0.3}), 0.5, 100.0, harmonics=1, slip=0.05)[0] == pytest.approx(
        0.3
    )


def test_sidebands_are_looked_for_beside_the_line_that_was_found() -> None:
    # An inner race that slips by 1 %, with sidebands of the shaft.
    amplitude = spectrum({99.0: 0.3, 74.0: 0.1, 124.0: 0.12, 198.0: 0.2})
    plain, level_db = f.line_amplitudes(amplitude, 0.5, 100.0, harmonics=2)
    wide, same_db = f.line_amplitudes(amplitude, 0.5, 100.0, harmonics=2, sideband_hz=25.0)
    assert plain == pytest.approx(math.sqrt(0.3**2 + 0.2**2))
    assert wide == pytest.approx(math.sqrt(0.3**2 + 0.2**2 + 0.1**2 + 0.12**2), rel=1e-3)
    assert same_db == level_db
    trace = f.trace_lines(amplitude, 0.5, 100.0, harmonics=2, sideband_hz=25.0)
    assert trace.frequency_hz[(trace.order == 1) & (trace.sideband == -1)] == [74.0]
    assert trace.level_db[(trace.order == 1) & (trace.sideband == 1)] > 35


def test_many_spectra_at_once_and_lines_beyond_the_end() -> None:
    stack = np.stack([spectrum({100.0: 0.3}), spectrum({100.0: 0.6})])
    total, level_db = f.line_amplitudes(stack, 0.5, 100.0, harmonics=1, sideband_hz=25.0)
    assert total.shape == level_db.shape == (2,)
    np.testing.assert_allclose(total, [0.3, 0.6], rtol=1e-3)
    beyond, level_db = f.line_amplitudes(stack, 0.5, 5000.0)
    assert np.isnan(beyond).all()
    assert np.isnan(level_db).all()
    with pytest.raises(ValueError, match="above zero"):
        f.line_amplitudes(stack, 0.5, 0.0)


def test_a_planned_line_is_the_plain_one() -> None:
    amplitude = np.random.default_rng(5).rayleigh(size=(3, 1000)).astype(np.float32)
    frequencies_hz = (12.3, 80.0, 161.7, 600.0)
    plan = f.LinePlan(1000, 0.5, frequencies_hz)
    total, level_db = plan.measure(amplitude)
    for index, frequency_hz in enumerate(frequencies_hz):
        plain = f.line_amplitudes(amplitude, 0.5, frequency_hz)
        np.testing.assert_allclose(total[:, index], plain[0], rtol=1e-6)
        np.testing.assert_allclose(level_db[:, index], plain[1], rtol=1e-5)


def test_a_grade_says_on_what_band_it_rests() -> None:
    whole = f.iso20816_grade(3.0, 2, "rigid", band_hz=(10.0, 1000.0))
    assert (whole.zone, whole.band_limited) == ("C", False)
    assert str(whole) == "zone C: 3.00 mm/s RMS, 10-1000 Hz, group 2 rigid"
    limited = f.iso20816_grade(1.0, 2, "rigid", band_hz=(10.0, 625.0))
    assert limited.band_limited
    assert "10-625 Hz" in str(limited)
    assert "band-limited" in str(limited)
    slow = f.iso20816_grade(1.0, 2, "rigid", band_hz=(10.0, 1000.0), shaft_hz=8.0)
    assert slow.band_limited, "below 600 r/min the band starts at 2 Hz"
    assert f.iso20816_grade(2.0, 2, "rigid", band_hz=(10, 1000), displacement_rms_um=50.0).zone == "C"


def test_alarm_is_the_baseline_plus_a_quarter_of_the_limit_and_never_beyond_its_bound() -> None:
    assert f.alarm_proposal_mm_s(0.8, 1, "rigid") == pytest.approx(1.925)  # the standard's example
    assert f.alarm_proposal_mm_s(5.0, 1, "rigid") == pytest.approx(1.25 * 4.5)


def test_a_change_counts_in_both_directions() -> None:
    limit = 0.25 * 2.8
    assert f.significant_change(2.0, 1.999 + limit, 2, "rigid") is None
    assert f.significant_change(2.0, 2.01 + limit, 2, "rigid") == "rise"
    assert f.significant_change(2.0, 1.99 - limit, 2, "rigid") == "fall"
    with pytest.raises(ValueError, match="finite"):
        f.significant_change(math.nan, 1.0, 2, "rigid")
