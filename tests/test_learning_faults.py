"""Learning on a disk that is full, beside notes and other features: nothing ends, nothing is lost."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from test_cli_learning import CONFIG, plant, run
from test_learning import SCHEMA, collected, healthy, life, trained_apart, vector

from pdm_edge.detect.bundle import load_bundle
from pdm_edge.detect.collect import Commissioning
from pdm_edge.detect.folder import add_note, put_on_trial
from pdm_edge.detect.life import ModelLife
from pdm_edge.errors import ConfigError, ModelError
from pdm_edge.records import FeatureSchema, FeatureVector

__all__ = ["plant"]


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """Writes beyond it fail half-way, as on a disk that has become full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# a full disk


def test_on_a_full_disk_windows_are_held_and_counted_and_kept_once_there_is_room(tmp_path: Path) -> None:
    journal = tmp_path / "pump.learning"
    collecting = collected(healthy(10), journal=journal)
    with no_file_beyond(journal.stat().st_size + 40):
        for row in healthy(5, seed=1):
            assert collecting.add(vector(row))
        assert collecting.collected == 15
        assert collecting.unkept.startswith("5 learned windows are in memory only: ")
        assert "File too large" in collecting.unkept
    assert sorted(tmp_path.iterdir()) == [journal]
    assert Commissioning(SCHEMA, 60, journal=journal).collected == 10
    collecting.add(vector(healthy(1, seed=2)[0]))
    assert collecting.unkept == ""
    assert Commissioning(SCHEMA, 60, journal=journal).collected == 16


def test_a_models_folder_that_is_a_file_stops_no_learning(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.write_bytes(b"")
    learning = life(models)
    for row in healthy(39):
        learning.learn(vector(row))
    assert (learning.collected, learning.learning) == (39, True)
    assert learning.unkept.startswith("39 learned windows are in memory only: ")
    with pytest.raises(ModelError, match="cannot be written"):
        learning.learn(vector(healthy(1, seed=1)[0]))
    with pytest.raises(ModelError, match="cannot be written"):
        learning.trained()
    models.unlink()
    assert learning.trained()
    assert load_bundle(models / "pump").manifest.training.windows == 40


def test_a_training_that_finds_no_room_for_its_order_is_a_model_error(tmp_path: Path) -> None:
    live = life(tmp_path)
    live.trains_apart = True
    rows = healthy(40)
    for row in rows[:39]:
        live.learn(vector(row))
    with (
        no_file_beyond((tmp_path / "pump.learning").stat().st_size // 2),
        pytest.raises(ModelError, match="training could not be started"),
    ):
        live.learn(vector(rows[39]))
    assert live.collected == 40


# notes


def test_a_note_while_learning_starts_anew_and_the_new_windows_survive_a_restart(tmp_path: Path) -> None:
    learning = life(tmp_path)
    for row in healthy(10):
        learning.learn(vector(row))
    add_note(tmp_path, "pump", "oil changed, nothing else", reopen=False)
    assert not learning.refresh()
    assert learning.collected == 10
    add_note(tmp_path, "pump", "bearing replaced", reopen=True)
    for row in healthy(3, seed=1):  # whether or not the tick of the monitor comes first
        learning.learn(vector(row))
    learning.refresh()
    assert learning.collected == 3
    again = life(tmp_path)
    again.learn(vector(healthy(1, seed=2)[0]))
    assert again.collected == 4


def test_a_note_during_a_first_training_gives_it_up(tmp_path: Path) -> None:
    live = trained_apart(tmp_path, healthy(40))
    add_note(tmp_path, "pump", "bearing replaced", reopen=True)
    assert live.refresh()
    assert (live.training, live.collected, live.learning) == (0, 0, True)
    assert not live.trained()
    assert not (tmp_path / "pump").exists()


# journals


def other(row: npt.ArrayLike) -> FeatureVector:
    """A window of a device that came back with another axis."""
    schema = FeatureSchema(tuple(name.replace("/x/", "/y/") for name in SCHEMA.names), SCHEMA.units)
    return replace(vector(row), schema=schema)


def test_windows_of_other_features_are_set_aside_and_taken_up_when_they_come_back(tmp_path: Path) -> None:
    learning = life(tmp_path)
    for row in healthy(20):
        learning.learn(vector(row))
    learning.learn(other(healthy(1)[0]))
    assert learning.collected == 1
    learning.learn(vector(healthy(1, seed=1)[0]))
    assert learning.collected == 21
    again = life(tmp_path)
    again.learn(other(healthy(1)[0]))
    assert again.collected == 2


def test_a_damaged_line_costs_one_window_and_a_damaged_file_is_kept(tmp_path: Path) -> None:
    journal = tmp_path / "pump.learning"
    collected(healthy(10), journal=journal)
    lines = journal.read_bytes().split(b"\n")
    lines[4] = lines[4][:50]
    journal.write_bytes(b"\n".join(lines))
    assert Commissioning(SCHEMA, 60, journal=journal).collected == 9
    assert Commissioning(SCHEMA, 60, journal=journal).collected == 9
    headless = b"\n".join(lines[1:])
    journal.write_bytes(headless)
    assert Commissioning(SCHEMA, 60, journal=journal).collected == 0
    assert (tmp_path / "pump.learning.damaged").read_bytes() == headless


def test_taking_windows_up_writes_nothing_that_a_stop_could_lose(tmp_path: Path) -> None:
    journal = tmp_path / "pump.learning"
    collected(healthy(30), journal=journal)
    with journal.open("ab") as stream:
        stream.write(b'{"torn')
    with no_file_beyond(500):  # taken up, and stopped while the file was written anew
        assert Commissioning(SCHEMA, 60, journal=journal).collected == 0
    assert Commissioning(SCHEMA, 60, journal=journal).collected == 30


# the command line


def test_recalibrating_from_recordings_leaves_a_trial_alone(plant: Path) -> None:
    assert run("learn", plant).exit_code == 0
    folder = plant.parent / "models"
    judging = load_bundle(folder / "pump")
    put_on_trial(folder, "pump", judging)
    with np.load(plant.parent / "healthy.npz") as held:
        longer = {**held, "samples": np.tile(held["samples"], 10)}  # a trial takes 500 windows
    np.savez(plant.parent / "longer.npz", **longer)
    moved = run("recalibrate", plant, "--from", plant.parent / "longer.npz")
    assert moved.exit_code == 0, moved.output
    assert load_bundle(folder / "pump.candidate").manifest == judging.manifest
    assert load_bundle(folder / "pump.previous").manifest == judging.manifest


def test_learning_live_takes_the_machine_the_rate_and_the_weights_that_it_is_told(plant: Path) -> None:
    table = CONFIG.partition("[[machine]]")[2].partition("[store]")[0]
    second = table.replace('"pump"', '"fan"').replace('"de"', '"fan-de"')
    plant.write_text(CONFIG.replace("[store]", f"[[machine]]{second}[store]"))
    with pytest.raises(ConfigError, match="there is no machine 'nobody'"):
        run("learn", plant, "--machine", "nobody")
    told = ("--machine", "pump", "--false-alarms-per-month", 0.01, "--float32")
    learned = run("learn", plant, *told)
    assert learned.exit_code == 0, learned.output
    manifest = load_bundle(plant.parent / "models" / "pump").manifest
    assert (manifest.quantization, manifest.threshold.false_alarms_per_month) == ("float32", 0.01)
    assert not (plant.parent / "models" / "fan").exists()


def test_learning_from_what_was_collected_keeps_the_rate_of_the_configuration(plant: Path) -> None:
    plant.write_text(CONFIG.replace("learn_windows = 40", "false_alarms_per_month = 0.001"))
    learning = ModelLife("pump", plant.parent / "models", given=None, learn_windows=60)
    for row in healthy(30):
        learning.learn(vector(row))
    assert run("learn", plant, "--anyway").exit_code == 0
    manifest = load_bundle(plant.parent / "models" / "pump").manifest
    assert manifest.threshold.false_alarms_per_month == 0.001
