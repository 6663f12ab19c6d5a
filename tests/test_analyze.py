"""pdm-edge analyze: a recording in, an analyst's answer out, on a made and on a real bearing fault."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from pdm_edge import features as f
from pdm_edge.cli import cli
from pdm_edge.errors import ConfigError

RATE_HZ = 25600.0
SHAFT_HZ = 24.67


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures go where one is."""
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["analyze", *map(str, arguments)])


def analysis(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json", "--no-plot")
    assert result.exit_code in (0, 1), result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def inner_race(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shaft with unbalance, and an inner race that strikes a resonance of 4 kHz and slips by 0.5 %."""
    t = np.arange(round(4 * RATE_HZ)) / RATE_HZ
    random = np.random.default_rng(1)
    bpfi_hz = 0.995 * f.CATALOGUE["6205"].frequencies(SHAFT_HZ).bpfi_hz
    strikes = np.zeros(len(t))
    strikes[(np.arange(1 / bpfi_hz, t[-1], 1 / bpfi_hz) * RATE_HZ).astype(int)] = 1.0
    strikes *= 1 + 0.6 * np.cos(2 * np.pi * SHAFT_HZ * t)
    ring = np.exp(-600 * t[:400]) * np.sin(2 * np.pi * 4000 * t[:400])
    x = np.convolve(strikes, ring)[: len(t)] + 0.1 * random.standard_normal(len(t))
    x += sum(0.08 / k * np.sin(2 * np.pi * k * SHAFT_HZ * t + k) for k in (1, 2, 3))
    path = tmp_path_factory.mktemp("recording") / "pump.npz"
    np.savez(path, acceleration_g=x[None, :], sample_rate_hz=RATE_HZ)
    return path


def test_a_race_is_named_with_its_slip_and_sidebands(inner_race: Path) -> None:
    found = analysis(inner_race, "--speed-rpm", 60 * SHAFT_HZ, "--bearing", "6205")
    (named,) = [line for line in found["lines"] if line["stands_out"]]
    assert named["name"] == "bpfi"
    assert named["found_hz"] == pytest.approx(0.995 * named["nominal_hz"], abs=0.5)
    assert named["level_db"] > 20
    assert named["sidebands"] >= 4
    (band,) = found["envelope_bands"]
    assert band["band_hz"][0] - 500 < 4000 < band["band_hz"][1] + 500
    assert "most impulsive" in band["why"]
    assert found["features"]["x/kurtosis"]["unit"] == "1"
    assert all(doubt.startswith("hint: ") for doubt in found["self_check"])


def test_the_speed_is_estimated_where_it_is_not_given_and_says_so(inner_race: Path) -> None:
    found = analysis(inner_race, "--bearing", "6205")
    assert found["speed_hz"] == pytest.approx(SHAFT_HZ, rel=0.002)
    assert "estimated" in found["speed_basis"]
    assert found["features"]["x/velocity_order_1x"]["median"] == pytest.approx(
        0.08 / np.sqrt(2) * 9806.65 / (2 * np.pi * SHAFT_HZ), rel=0.05
    )


def test_a_race_or_a_bad_zone_is_exit_status_1_and_a_good_recording_0(
    inner_race: Path, tmp_path: Path
) -> None:
    assert run(inner_race).exit_code == 0
    assert run(inner_race, "--speed-rpm", 1480, "--bearing", "6205").exit_code == 1
    graded = run(inner_race, "--group", 2, "--support", "rigid")
    assert graded.exit_code == 1
    assert "zone C" in graded.stdout
    quiet = tmp_path / "quiet.npz"
    x = 0.01 * np.random.default_rng(1).standard_normal((2, 25600))
    np.savez(quiet, acceleration_g=x, sample_rate_hz=RATE_HZ)
    assert run(quiet, "--group", 2, "--support", "rigid").exit_code == 0


def test_what_a_reader_sees(inner_race: Path) -> None:
    text = run(inner_race, "--speed-rpm", 1480, "--bearing", "6205").stdout
    for part in (
        "x/rms",
        "envelope band x",
        "BPFI",
        "standing out: inner race",
        "speed: 24.67 Hz (given)",
    ):
        assert part in text, part
    for line in ("BPFO ", "BPFI <<", "BSF ", "FTF "):
        assert f" {line}" in text, "told apart on a terminal of 80 columns"


def test_nothing_is_guessed(inner_race: Path, tmp_path: Path) -> None:
    noise = tmp_path / "noise.npz"
    np.savez(noise, a=np.random.default_rng(1).standard_normal((1, 51200)))
    for arguments, text in (
        ((noise,), "sample_rate_hz"),
        ((noise, "--sample-rate-hz", 25600), "unit"),
        ((noise, "--sample-rate-hz", 25600, "--unit", "g", "--bearing", "6205"), "--speed-rpm"),
        ((inner_race, "--bearing", "NU999", "--speed-rpm", 1480), "not in the catalogue"),
        ((inner_race, "--ball-mm", 8, "--speed-rpm", 1480), "balls"),
        ((inner_race, "--band-hz", 2000, 20000), "sample rate above"),
    ):
        result = run(*arguments)
        assert result.exit_code != 0
        error = result.exception
        assert isinstance(error, (ConfigError, ValueError)), result.output
        assert text in str(error)
    assert "belong together" in run(inner_race, "--group", 2).output


def test_a_faulty_sensor_is_told(tmp_path: Path) -> None:
    path = tmp_path / "clipped.npz"
    x = np.clip(np.random.default_rng(1).standard_normal((1, 25600)), -1.5, 1.5)
    np.savez(path, acceleration_g=x, sample_rate_hz=RATE_HZ)
    assert any("clipped" in doubt for doubt in analysis(path)["self_check"])


def test_m_s2_reads_as_the_same_machine(inner_race: Path, tmp_path: Path) -> None:
    other = tmp_path / "si.npz"
    with np.load(inner_race) as content:
        np.savez(other, acceleration_m_s2=content["acceleration_g"] * 9.80665, sample_rate_hz=RATE_HZ)
    options = ("--speed-rpm", 60 * SHAFT_HZ, "--bearing", "6205")
    in_g, in_si = analysis(inner_race, *options), analysis(other, *options)
    for ours, theirs in zip(in_g["lines"], in_si["lines"], strict=True):
        assert ours["amplitude"] == pytest.approx(theirs["amplitude"], rel=1e-3)


NEEDS_MATPLOTLIB = "NEEDS matplotlib: pip install 'pdm-edge[dashboard]'"
BEARING = ("--speed-rpm", 1480, "--bearing", "6205")


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_plot_goes_where_it_is_told_to(inner_race: Path, tmp_path: Path, kind: str) -> None:
    pytest.importorskip("matplotlib", reason=NEEDS_MATPLOTLIB)
    target = tmp_path / f"plot.{kind}"
    result = run(inner_race, *BEARING, "--plot", target)
    assert result.exit_code == 1
    start = target.read_bytes()[:200]
    assert start.startswith(b"\x89PNG") if kind == "png" else b"<?xml" in start
    assert [file.name for file in tmp_path.iterdir()] == [target.name]


def test_without_a_word_a_plot_is_written_where_one_is_and_named(inner_race: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason=NEEDS_MATPLOTLIB)
    result = run(inner_race, *BEARING)
    assert (tmp_path / "pump_analysis.png").read_bytes().startswith(b"\x89PNG")
    assert "x/rms" in result.stdout
    assert result.stderr == "plot written to pump_analysis.png\n"
    machine_read = run(inner_race, *BEARING, "--json")
    assert [json.loads(line)["record"] for line in machine_read.stdout.splitlines()] == ["analysis"]


def test_the_plot_marks_the_bearing_lines_and_names_the_one_that_stands_out(
    inner_race: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason=NEEDS_MATPLOTLIB)
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):  # text stays text
        run(inner_race, *BEARING, "--plot", "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    for part in (
        "stands out: BPFI",
        "BPFO ",
        "BPFI ",
        "BSF ",
        "FTF ",
        "1480 r/min",
        "velocity spectrum",
        "10x",
    ):
        assert part in text, part


def test_no_plot_leaves_the_folder_alone(inner_race: Path, tmp_path: Path) -> None:
    assert run(inner_race, *BEARING, "--no-plot").stderr == ""
    assert list(tmp_path.iterdir()) == []
    assert "contradict" in run(inner_race, "--no-plot", "--plot", "a.png").output


def test_where_no_plot_can_be_written_the_table_still_comes_and_one_line_says_what_to_do(
    inner_race: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # as if it were not installed
    result = run(inner_race, *BEARING)
    assert result.exit_code == 1, "by the bearing line, as ever"
    assert "standing out: inner race" in result.stdout
    assert result.stderr.count("\n") == 1
    assert "pip install 'pdm-edge[dashboard]'" in result.stderr
    wanted = run(inner_race, *BEARING, "--plot", "a.png")
    assert isinstance(wanted.exception, ConfigError), "one that was asked for is missed"
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("matplotlib", reason=NEEDS_MATPLOTLIB)
    (tmp_path / "pump_analysis.png").mkdir()
    result = run(inner_race, *BEARING)
    assert "standing out: inner race" in result.stdout
    assert "cannot be written" in result.stderr
    assert "--plot" in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        {"sample_rate_hz": 12800.0, "acceleration_g": np.random.default_rng(1).standard_normal((3, 1300))},
        {"sample_rate_hz": 12800.0, "acceleration_g": np.zeros((1, 12800))},
    ],
    ids=["too short for a velocity", "silence"],
)
def test_a_recording_with_little_to_draw_is_drawn(tmp_path: Path, options: dict[str, Any]) -> None:
    pytest.importorskip("matplotlib", reason=NEEDS_MATPLOTLIB)
    np.savez(tmp_path / "odd.npz", **options)
    assert run("odd.npz").stderr == "plot written to odd_analysis.png\n"


def test_the_reader_is_told_whose_bearing_it_is(inner_race: Path) -> None:
    def told(*options: object) -> str:
        (line,) = [
            line
            for line in run(inner_race, "--speed-rpm", 1480, "--no-plot", *options).stdout.splitlines()
            if line.startswith("bearing: ")
        ]
        return line

    assert "9 rolling elements, 6205 of the catalogue: Case Western" in told("--bearing", "6205-2RS")
    assert "13 rolling elements, NU206 of the catalogue: published orders" in told("--bearing", "NU 206 ECP")
    assert "10 rolling elements, 6214, estimated" in told("--bearing", "6214", "--balls", 10)
    assert "8 rolling elements, 6205, estimated" in told("--bearing", "6205", "--balls", 8)  # as counted
    assert "9 rolling elements, by the orders given" in told("--orders", 3.585, 5.415)


def test_published_orders_do_for_a_geometry(inner_race: Path) -> None:
    found = analysis(inner_race, "--speed-rpm", 60 * SHAFT_HZ, "--orders", 3.585, 5.415)
    assert [line["name"] for line in found["lines"] if line["stands_out"]] == ["bpfi"]


@pytest.mark.recordings
@pytest.mark.parametrize(
    ("file", "options", "line"),
    [
        ("mfpt/OuterRaceFault_vload_3.mat", ("--variable", "gs", "--speed-rpm", 1500), "bpfo"),
        ("mfpt/InnerRaceFault_vload_5.mat", ("--variable", "gs", "--speed-rpm", 1500), "bpfi"),
        ("cwru/105_inner_007_12k.mat", ("--variable", "*DE_time"), "bpfi"),
        ("cwru/130_outer_007_12k.mat", ("--variable", "*DE_time", "--speed-rpm", 1796), "bpfo"),
    ],
)
def test_the_strongest_line_of_a_real_fault_is_the_labelled_one(
    recordings: Path, file: str, options: tuple[object, ...], line: str
) -> None:
    cwru = file.startswith("cwru")
    more = ("--sample-rate-hz", 12000, "--unit", "g") if cwru else ()
    bearing = "6205" if cwru else "NICE-MFPT"
    found = analysis(recordings / file, *options, *more, "--bearing", bearing)
    strongest = max(found["lines"], key=lambda one: one["level_db"])
    assert (strongest["name"], strongest["stands_out"]) == (line, True)
    if "--speed-rpm" not in options:  # it is read from the spectrum
        assert found["speed_hz"] == pytest.approx(1797 / 60, rel=0.003)


@pytest.mark.recordings
@pytest.mark.parametrize("file", ["baseline_1.mat", "baseline_2.mat"])
def test_a_healthy_bearing_is_not_accused(recordings: Path, file: str) -> None:
    result = run(
        recordings / "mfpt" / file, "--variable", "gs", "--speed-rpm", 1500, "--bearing", "NICE-MFPT",
        "--no-plot",
    )  # fmt: skip
    assert "standing out: none" in result.stdout
    assert result.exit_code == 0
