"""Energy by the counters of the processor, on a tree laid out like the one of Linux."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pdm_edge.detect.energy import EnergyCounter
from pdm_edge.detect.measure import measure_model

RANGE_UJ = 262143328850


def zone(tree: Path, name: str, energy_uj: int, label: str = "package-0") -> Path:
    """One zone with the files that the kernel's intel_rapl driver makes."""
    folder = tree / name
    folder.mkdir(parents=True)
    for file, content in (
        ("name", label),
        ("enabled", "1"),
        ("energy_uj", energy_uj),
        ("max_energy_range_uj", RANGE_UJ),
        ("constraint_0_name", "long_term"),
        ("constraint_0_power_limit_uw", 28000000),
    ):
        (folder / file).write_text(f"{content}\n")
    return folder / "energy_uj"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """One package with its core, seen a second time over mmio, and the control type itself."""
    (tmp_path / "intel-rapl").mkdir()
    (tmp_path / "intel-rapl" / "enabled").write_text("1\n")
    zone(tmp_path, "intel-rapl:0", 1000)
    zone(tmp_path, "intel-rapl:0:0", 700, "core")
    zone(tmp_path, "intel-rapl-mmio:0", 1000)
    return tmp_path


def count(tree: Path, name: str, energy_uj: int) -> None:
    (tree / name / "energy_uj").write_text(f"{energy_uj}\n")


def test_the_package_alone_is_counted(tree: Path) -> None:
    counter = EnergyCounter(tree)
    for name, energy_uj in (("intel-rapl:0", 5000), ("intel-rapl:0:0", 3700), ("intel-rapl-mmio:0", 5000)):
        count(tree, name, energy_uj)
    assert counter.used_uj() == 4000


def test_a_counter_that_begins_again_goes_on(tree: Path) -> None:
    count(tree, "intel-rapl:0", RANGE_UJ - 250)
    counter = EnergyCounter(tree)
    count(tree, "intel-rapl:0", 750)
    assert counter.used_uj() == 1000


def test_packages_are_added_and_each_begins_again_by_itself(tree: Path) -> None:
    zone(tree, "intel-rapl:1", RANGE_UJ - 100, "package-1")
    counter = EnergyCounter(tree)
    count(tree, "intel-rapl:0", 1500)
    count(tree, "intel-rapl:1", 200)
    assert counter.used_uj() == 500 + 300


def test_without_a_counter_that_can_be_read_there_is_no_figure(tree: Path, tmp_path: Path) -> None:
    assert EnergyCounter(tmp_path / "absent").used_uj() is None
    counter = EnergyCounter(tree)
    (tree / "intel-rapl:0" / "energy_uj").unlink()
    assert counter.used_uj() is None
    (tree / "intel-rapl:0" / "energy_uj").write_text("\n")
    assert EnergyCounter(tree).used_uj() is None


def test_bench_measures_where_the_counter_counts_and_says_so(tree: Path) -> None:
    """The counter runs at 1 MW beside the measurement, and begins again within it."""
    ended = threading.Event()

    def run() -> None:
        energy_uj = RANGE_UJ - 5_000_000
        while not ended.wait(0.001):
            energy_uj = (energy_uj + 1_000_000_000) % RANGE_UJ
            part = tree / "part"
            part.write_text(f"{energy_uj}\n")
            part.replace(tree / "intel-rapl:0" / "energy_uj")

    thread = threading.Thread(target=run)
    thread.start()
    try:
        found = measure_model("simulated-pump", calls=2000, powercap=tree)
    finally:
        ended.set()
        thread.join()
    assert found["energy_basis"] == "measured by RAPL, whole package"
    assert 1e3 < found["energy_uj"] < 1e8


def test_bench_estimates_where_nothing_counts_and_says_so(tree: Path) -> None:
    found = measure_model("simulated-pump", calls=500, watts=5.0, powercap=tree)
    assert found["energy_basis"] == "estimated: CPU time at 5 W"
    assert found["energy_uj"] > 0
