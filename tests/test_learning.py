"""Learning: enough, settled, resumed, refused; thresholds; slow change; models on trial."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from pdm_edge.detect.apart import remove_stale
from pdm_edge.detect.bundle import Bundle, load_bundle, write_bundle
from pdm_edge.detect.collect import Commissioning
from pdm_edge.detect.commission import commission, recalibrated
from pdm_edge.detect.drift import DriftWatch
from pdm_edge.detect.explain import explained, in_words
from pdm_edge.detect.folder import add_note, put_on_trial, roll_back
from pdm_edge.detect.guard import try_model
from pdm_edge.detect.life import ModelLife
from pdm_edge.detect.shadow import Comparison
from pdm_edge.detect.thresholds import MONTH_S, agreeing, find_threshold, tail_of
from pdm_edge.errors import ModelError
from pdm_edge.records import FeatureSchema, FeatureVector, Quality, Score, Stamp, uncertain

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only: signals and process numbers")
K = 12
SCHEMA = FeatureSchema(
    (*(f"de/x/band_rms_{i}_{i + 1}hz" for i in range(K - 2)), "de/x/envelope_bpfo_level", "de/temperature"),
    (*("g",) * (K - 2), "db", "degc"),
)
STAMP = Stamp(0, 0, "boot", True)
Matrix = npt.NDArray[np.float32]


def healthy(n: int, seed: int = 0, gain: float = 1.0) -> Matrix:
    random = np.random.default_rng(seed)
    x = 0.2 * gain * np.exp(0.15 * random.standard_normal((n, K)))
    x[:, K - 2] = 3 + random.standard_normal(n)
    x[:, K - 1] = 60 + random.standard_normal(n)
    return x.astype(np.float32)


def vector(row: npt.ArrayLike, state: str = "running", quality: Quality | None = None) -> FeatureVector:
    values = np.asarray(row, dtype=np.float32)
    return FeatureVector("pump", values, SCHEMA, STAMP, 1.0, state, quality or Quality())


def collected(rows: Matrix, needed: int = 60, journal: Path | None = None) -> Commissioning:
    collecting = Commissioning(SCHEMA, needed, journal=journal)
    for row in rows:
        collecting.add(vector(row))
    return collecting


def life(folder: Path, learn_windows: int = 40) -> ModelLife:
    return ModelLife("pump", folder, given=None, learn_windows=learn_windows)


# how much is enough


def test_stops_run_ups_and_faulty_sensors_are_not_collected() -> None:
    collecting = Commissioning(SCHEMA, 20)
    row = healthy(1)[0]
    assert not collecting.add(vector(row, "stopped"))
    assert not collecting.add(vector(row, "transient"))
    assert not collecting.add(vector(row, quality=uncertain("clipped")))
    assert collecting.add(vector(row, quality=uncertain("stale")))
    assert dict(collecting.refused) == {"stopped": 1, "transient": 1, "clipped": 1}
    assert collecting.missing().startswith("19 more windows")


def test_a_machine_that_still_changes_is_collected_on_until_it_settles() -> None:
    running_in = healthy(60) * np.linspace(3.0, 1.0, 60, dtype=np.float32)[:, None]
    collecting = collected(running_in)
    assert collecting.collected == 60
    assert "until it settles" in collecting.missing()
    states = [collecting.complete]
    for row in healthy(120, seed=2):
        collecting.add(vector(row))
        states.append(collecting.complete)
        if states[-1]:
            break
    assert (states[0], states[-1]) == (False, True)
    model, manifest = collecting.finish(name="pump")
    assert manifest.training.warnings == ()
    assert len(model) < 20_000


def test_what_looks_faulty_is_learned_only_when_told() -> None:
    rows = healthy(80)
    rows[:, K - 2] += 12  # an outer race line in every window
    collecting = collected(rows)
    with pytest.raises(ModelError, match=r"envelope_bpfo_level stands 15 dB.*--anyway"):
        collecting.finish(name="pump")
    _, manifest = collecting.finish(name="pump", anyway=True)
    assert "stands 15 dB out of its noise floor" in manifest.training.warnings[0]


def test_learning_goes_on_after_a_restart_even_when_the_last_line_is_torn(tmp_path: Path) -> None:
    journal = tmp_path / "pump.learning"
    collected(healthy(25), journal=journal)
    with journal.open("ab") as stream:
        stream.write(b'{"machine":"pump","sta')
    again = Commissioning(SCHEMA, 60, journal=journal)
    assert again.collected == 25
    for row in healthy(35, seed=1):
        again.add(vector(row))
    assert again.complete
    assert Commissioning(SCHEMA, 60, journal=journal).collected == 60


def test_single_knocks_are_left_out() -> None:
    rows = healthy(100)
    rows[[20, 50, 80], 3] *= 30
    _, manifest = collected(rows).finish(name="pump")
    assert (manifest.training.windows, manifest.training.left_out) == (97, 3)


# operating states


def test_each_state_has_its_own_normal_and_one_never_seen_is_not_judged() -> None:
    slow, fast = healthy(60), healthy(60, seed=1, gain=4.0)
    vectors = [vector(row, "running 1000 rpm") for row in slow]
    vectors += [vector(row, "running 2000 rpm") for row in fast]
    model, manifest = commission(vectors, name="pump")
    from pdm_edge.detect.anomaly import AnomalyDetector

    detector = AnomalyDetector(Bundle(Path(), manifest, model))
    assert detector.score(vector(healthy(1, seed=5)[0], "running 1000 rpm")).value < 1
    assert detector.score(vector(healthy(1, seed=5, gain=4.0)[0], "running 2000 rpm")).value < 1
    assert detector.score(vector(healthy(1, seed=5, gain=4.0)[0], "running 1000 rpm")).value > 1
    unknown = detector.score(vector(healthy(1, seed=5, gain=9.0)[0], "running 3000 rpm"))
    assert math.isnan(unknown.value)
    assert unknown.quality.reasons == ("unlearned",)


# thresholds


def test_the_alarm_statistic_is_the_third_of_five_neighbours() -> None:
    found = agreeing(np.array([1.0, 9, 1, 9, 9, 1, 1, 1]), 3, 5)
    assert found.tolist() == [9, 9, 1, 1]
    assert agreeing(np.array([4.0, 2.0]), 3, 5).tolist() == [2]


def test_with_enough_windows_the_threshold_is_their_order_statistic() -> None:
    values = np.arange(1.0, 10_001.0)
    per_month = 0.01 * MONTH_S  # one window of a second in a hundred
    found = find_threshold(values, window_s=1.0, per_month=per_month)
    assert found.method == "conformal"
    assert found.value == pytest.approx(9901, abs=1)


def test_a_power_law_tail_is_extended_to_its_true_quantile() -> None:
    random = np.random.default_rng(3)
    values = random.pareto(12.0, 4000) + 1
    probability = 1e-5
    found = find_threshold(values, window_s=1.0, per_month=probability * MONTH_S)
    assert found.method == "extreme-value"
    # The index of 800 tail values is known to 1/sqrt(800) = 3.5 %, its power to about 10 %.
    assert found.value == pytest.approx(probability ** (-1 / 12.0), rel=0.15)


def test_no_threshold_is_put_further_than_the_data_support_and_it_says_so() -> None:
    random = np.random.default_rng(4)
    values = random.pareto(1.0, 50) + 1
    found = find_threshold(values, window_s=1.0, per_month=1.0)
    assert found.method == "capped"
    assert found.value == pytest.approx(4 * values.max())
    assert "recalibrate with more" in found.derivation


@pytest.mark.parametrize("scores", [[], [1.0, math.nan], [-1.0]])
def test_a_threshold_needs_scores(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="scores"):
        find_threshold(np.array(scores), window_s=1.0, per_month=1.0)


def test_the_tail_that_is_kept_gives_the_same_threshold_again() -> None:
    values = np.random.default_rng(5).pareto(9.0, 300) + 1
    whole = find_threshold(values, window_s=1.0, per_month=1000.0)
    again = find_threshold(tail_of(values), window_s=1.0, per_month=1000.0, total=300)
    assert again.value == pytest.approx(whole.value)


def test_more_false_alarms_allowed_is_a_lower_threshold() -> None:
    _, manifest = collected(healthy(300), 300).finish(name="pump")
    eager = recalibrated(manifest, false_alarms_per_month=300.0)
    assert eager.threshold.value < manifest.threshold.value
    scores = np.random.default_rng(0).random(500) + 5
    moved = recalibrated(manifest, false_alarms_per_month=1.0, scores=scores)
    assert moved.threshold.value > 5
    assert moved.training == manifest.training


# slow change


def test_a_slow_fall_and_a_slow_rise_are_told_by_feature() -> None:
    _, manifest = collected(healthy(200), 200).finish(name="pump")
    watch = DriftWatch(manifest)
    for row in healthy(300, seed=9):
        watch.observe(vector(row), 0.2)
    assert watch.changes() == ()
    for row in healthy(300, seed=10):
        row[2] *= 0.6
        row[5] *= 1.7
        watch.observe(vector(row), 0.2)
    told = {change.feature: change for change in watch.changes()}
    assert told[SCHEMA.names[2]].ratio == pytest.approx(0.6, rel=0.05)
    assert told[SCHEMA.names[5]].ratio == pytest.approx(1.7, rel=0.05)
    assert set(told) == {SCHEMA.names[2], SCHEMA.names[5]}


def test_a_score_that_runs_high_below_its_threshold_is_told(tmp_path: Path) -> None:
    judged = life(tmp_path, 200)
    for row in healthy(200):
        judged.learn(vector(row))
    for row in healthy(200, seed=3):
        judged.score(vector(row))
    assert judged.beside is not None
    risen = [judged.beside.drift.cusum.has_risen]
    highest = 0.0
    for row in healthy(100, seed=4):
        row[:4] *= 1.35
        score = judged.score(vector(row))
        assert score is not None
        highest = max(highest, score.value)
    assert highest < 1.0
    risen.append(judged.beside.drift.cusum.has_risen)
    assert risen == [False, True]
    assert any("CUSUM" in finding.what for finding in judged.findings())


# words


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        ("drive-end/x/band_rms_2000_5000hz", "vibration 2-5 kHz at drive-end x"),
        ("drive-end/x/band_rms_12.5_50hz", "vibration 12.5-50 Hz at drive-end x"),
        ("drive-end/x/velocity_rms_10_1000hz", "vibration velocity 0.01-1 kHz at drive-end x"),
        ("drive-end/x/envelope_bpfo_level", "outer race line (BPFO) at drive-end x"),
        ("drive-end/x/rms", "overall vibration (RMS) at drive-end x"),
        ("motor/winding_temperature", "winding temperature at motor"),
    ],
)
def test_features_are_named_in_the_words_of_a_mechanic(feature: str, words: str) -> None:
    assert in_words(feature) == words


def test_amplitude_and_level_of_a_line_are_one_finding() -> None:
    carried = (("de/x/envelope_bpfo", 0.4), ("de/x/rms", 0.35), ("de/x/envelope_bpfo_level", 0.2))
    score = Score("pump", 2.0, "m", STAMP, carried)
    found = explained(score)
    assert found[0][0] == "outer race line (BPFO) at de x"
    assert found[0][1] == pytest.approx(0.6)


# the life of a model


def test_a_model_is_learned_kept_and_found_again(tmp_path: Path) -> None:
    first = life(tmp_path)
    done = [first.learn(vector(row)) for row in healthy(40)]
    assert done == [False] * 39 + [True]
    assert not (tmp_path / "pump.learning").exists()
    again = life(tmp_path)
    assert not again.learning
    score = again.score(vector(healthy(1, seed=7)[0]))
    assert score is not None
    assert score.value < 1


def test_what_a_stopped_run_collected_can_be_finished_by_hand(tmp_path: Path) -> None:
    started = life(tmp_path)
    for row in healthy(30):
        started.learn(vector(row))
    by_hand = life(tmp_path)
    by_hand.take_up()
    manifest = by_hand.finish(anyway=True)
    assert manifest.training.windows == 30
    spectral = ModelLife("pump2", tmp_path, given=None, learn_windows=40, family="mobilenet")
    with pytest.raises(ModelError, match="nothing was collected"):
        spectral.take_up()
    collected(healthy(25), journal=tmp_path / "pump2.learning")
    with pytest.raises(ModelError, match="finished by the live run alone"):
        spectral.take_up()


# training apart


def trained_apart(folder: Path, rows: Matrix) -> ModelLife:
    """A machine whose training has been started in a child process."""
    live = life(folder)
    live.trains_apart = True
    for row in rows:
        assert not live.learn(vector(row))
    assert live.training == 40
    return live


def take_up(live: ModelLife) -> None:
    deadline = time.monotonic() + 120
    while not live.trained():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_model_trained_apart_is_the_one_that_is_trained_here(tmp_path: Path) -> None:
    rows = healthy(40)
    here = life(tmp_path / "here")
    assert [here.learn(vector(row)) for row in rows] == [False] * 39 + [True]
    live = trained_apart(tmp_path / "apart", rows)
    assert live.learning
    take_up(live)
    assert (live.training, live.learning) == (0, False)
    assert live.manifest == load_bundle(tmp_path / "apart" / "pump").manifest
    assert (tmp_path / "apart/pump/model.tflite").read_bytes() == (
        tmp_path / "here/pump/model.tflite"
    ).read_bytes()
    assert live.score(vector(rows[0])) == here.score(vector(rows[0]))


def test_a_training_that_fails_apart_says_why(tmp_path: Path) -> None:
    rows = healthy(40)
    rows[:, K - 2] += 12  # an outer race line in every window
    live = trained_apart(tmp_path, rows)
    with pytest.raises(ModelError, match=r"envelope_bpfo_level stands 15 dB.*--anyway"):
        take_up(live)
    assert not live.learning
    assert (tmp_path / "pump.learning").exists()


@posix
def test_a_training_process_that_is_killed_is_told(tmp_path: Path) -> None:
    live = trained_apart(tmp_path, healthy(40))
    assert live._training is not None
    live._training._child.kill()
    with pytest.raises(ModelError, match="ended with status -9 and told nothing"):
        take_up(live)
    assert not live.learning


@posix
def test_a_training_ends_with_its_monitor_and_leaves_nothing(tmp_path: Path) -> None:
    code = """
import os, sys, numpy as np
from pathlib import Path
from pdm_edge.detect.apart import TrainingApart
from pdm_edge.records import FeatureSchema, FeatureVector, Stamp
schema = FeatureSchema(tuple(f"de/x/band_rms_{i}_{i + 1}hz" for i in range(64)), ("g",) * 64)
rows = np.random.default_rng(1).lognormal(0, 0.1, (4000, 64)).astype(np.float32)
vectors = [FeatureVector("m", row, schema, Stamp(0, 0, "b", True), 1.0, "running") for row in rows]
training = TrainingApart(vectors, name="m", family="dense")
print(training._child.pid, training._folder.name, flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", code]
    own = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=own) as monitor:
        assert monitor.stdout is not None
        pid, folder = monitor.stdout.readline().decode().split()
        time.sleep(1.0)
        assert Path(folder, "order").exists()
        assert not Path(folder, "bundle").exists()  # it is still at it
        monitor.kill()
    deadline = time.monotonic() + 20
    while Path(folder).exists() or Path("/proc", pid).exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@posix
def test_folders_of_trainings_that_were_killed_too_are_removed_at_the_next_start(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    of_the_dead, of_the_living, old, other = (
        tmp_path / name
        for name in (
            f"pdm-edge-training-{ended.pid}-a",
            f"pdm-edge-training-{os.getpid()}-b",
            f"pdm-edge-training-{os.getpid()}-c",
            "pdm-edge-training.txt",
        )
    )
    for folder in (of_the_dead, of_the_living, old):
        folder.mkdir()
        (folder / "order").write_bytes(b"x")
    other.write_text("mine")
    os.utime(old, (0, 0))
    (tmp_path / "pdm-edge-training-1-link").symlink_to(of_the_living)
    remove_stale(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        of_the_living.name,
        other.name,
        "pdm-edge-training-1-link",
    }


def test_a_note_during_the_first_training_stops_it_and_begins_anew(tmp_path: Path) -> None:
    live = trained_apart(tmp_path, healthy(40))
    add_note(tmp_path, "pump", "only greased", reopen=False)
    assert not live.refresh()
    assert live.training == 40
    add_note(tmp_path, "pump", "bearing replaced", reopen=True)
    assert live.refresh()
    assert (live.training, live.collected, live.learning) == (0, 0, True)
    assert not live.trained()
    assert not (tmp_path / "pump").exists()
    for row in healthy(40, seed=9):
        live.learn(vector(row))
    take_up(live)
    assert live.manifest is not None
    assert live.manifest.training.windows == 40


def test_a_note_while_a_training_ends_is_heeded_before_its_model(tmp_path: Path) -> None:
    live = trained_apart(tmp_path, healthy(40))
    assert live._training is not None
    live._training._child.wait()
    add_note(tmp_path, "pump", "bearing replaced", reopen=True)
    assert not live.trained()
    assert live.manifest is None


def test_a_training_given_up_keeps_its_windows_for_the_next_start(tmp_path: Path) -> None:
    live = trained_apart(tmp_path, healthy(40))
    live.stop_training()
    assert live.training == 0
    again = life(tmp_path)
    assert again.learn(vector(healthy(1, seed=3)[0]))
    assert again.manifest is not None
    assert again.manifest.training.windows == 41


def test_a_repair_that_is_noted_reopens_the_baseline_and_can_be_taken_back(tmp_path: Path) -> None:
    running = life(tmp_path)
    for row in healthy(40):
        running.learn(vector(row))
    add_note(tmp_path, "pump", "bearing replaced", reopen=True)
    assert running.refresh()
    assert running.learning
    noted = json.loads((tmp_path / "pump.notes").read_text())
    assert noted["note"] == "bearing replaced"
    roll_back(tmp_path, "pump")
    assert running.refresh()
    assert not running.learning


def test_a_damaged_model_falls_back_to_the_last_good_one(tmp_path: Path) -> None:
    made = life(tmp_path)
    for row in healthy(40):
        made.learn(vector(row))
    good = load_bundle(tmp_path / "pump")
    write_bundle(tmp_path / "pump.previous", good.model, good.manifest)
    (tmp_path / "pump" / "model.tflite").write_bytes(good.model[:100])
    assert not life(tmp_path).learning
    assert load_bundle(tmp_path / "pump").model == good.model


def trial(folder: Path, needed: int, threshold: float) -> ModelLife:
    """A machine with a model, and on trial the same network with its threshold multiplied."""
    judged = life(folder)
    for row in healthy(40):
        judged.learn(vector(row))
    held = load_bundle(folder / "pump")
    limit = msgspec.structs.replace(held.manifest.threshold, value=held.manifest.threshold.value * threshold)
    changed = msgspec.structs.replace(held.manifest, threshold=limit, name="new")
    put_on_trial(folder, "pump", Bundle(folder, changed, held.model))
    assert judged.refresh()
    assert judged.comparison is not None
    judged.comparison.needed = needed
    return judged


def test_a_quiet_candidate_takes_over_and_the_old_one_is_kept(tmp_path: Path) -> None:
    judged = trial(tmp_path, 50, 1.1)
    names = []
    for row in healthy(60, seed=11):
        score = judged.score(vector(row))
        assert score is not None
        names.append(score.model)
    assert names[0] == "pump"
    assert names[-1] == "new"
    assert load_bundle(tmp_path / "pump.previous").manifest.name == "pump"
    assert life(tmp_path).manifest is not None


def test_a_loud_candidate_never_speaks(tmp_path: Path) -> None:
    judged = trial(tmp_path, 50, 0.01)
    for row in healthy(60, seed=11):
        score = judged.score(vector(row))
        assert score is not None
        assert score.model == "pump"
    assert not (tmp_path / "pump.candidate").exists()


def test_a_new_model_that_turns_loud_is_rolled_back(tmp_path: Path) -> None:
    judged = trial(tmp_path, 50, 1.1)
    for row in healthy(51, seed=11):
        judged.score(vector(row))
    assert judged.manifest is not None
    assert judged.manifest.name == "new"
    assert judged.comparison is not None
    for _ in range(20):
        judged.comparison.only_new_high += 1
    judged.score(vector(healthy(1, seed=12)[0]))
    assert judged.manifest.name == "pump"
    assert load_bundle(tmp_path / "pump").manifest.name == "pump"


def test_windows_without_a_score_decide_nothing() -> None:
    comparison = Comparison(needed=3)
    none = Score("pump", math.nan, "m", STAMP)
    fine = Score("pump", 0.2, "m", STAMP)
    assert comparison.observe(none, fine) == "wait"
    assert [comparison.observe(fine, fine) for _ in range(3)] == ["wait", "wait", "switch"]
    assert "3 of 3 windows" in str(comparison)


# hostile models


def test_a_model_that_damages_the_runtime_takes_nothing_down() -> None:
    model, _ = commission([vector(row) for row in healthy(40)], name="pump")
    facts = try_model(model)
    assert facts.input_shape == (1, K)
    assert set(facts.outputs) == {"score", "squared_residuals"}
    random, outcomes = np.random.default_rng(1), []
    for trial_number in range(8):
        content = bytearray(model)
        if trial_number % 2:
            del content[int(random.integers(40, len(content))) :]
        else:
            for at in random.integers(0, 400, 30):
                content[int(at)] ^= 255
        try:
            outcomes.append(str(try_model(bytes(content)).runtime))
        except ModelError as error:
            outcomes.append(str(error))
    assert len(outcomes) == 8
    assert all(outcomes)


def test_a_model_that_is_none_is_refused_in_words() -> None:
    with pytest.raises(ModelError, match=r"refuses the model|crashes the runtime|cannot run the model"):
        try_model(b"\x1c\x00\x00\x00TFL3" + bytes(100))
