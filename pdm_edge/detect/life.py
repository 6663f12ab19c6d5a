"""The model of one machine through its life: collected, learned, judged by, replaced, rolled back.

In the folder of the models each machine has `NAME` (the bundle that judges), `NAME.learning` (windows
collected so far), `NAME.candidate` (a bundle on trial), `NAME.previous` (the last good one) and
`NAME.notes` (what people wrote, one JSON object a line).
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec

from pdm_edge.detect.anomaly import AnomalyDetector
from pdm_edge.detect.bundle import MANIFEST_NAME, Bundle, Manifest, load_bundle, write_bundle
from pdm_edge.detect.collect import Commissioning, schema_of_journal
from pdm_edge.detect.drift import DECISION, MOVED, DriftWatch
from pdm_edge.detect.explain import in_words
from pdm_edge.detect.feed import SPECTRAL, Feed, spectrum_of
from pdm_edge.detect.guard import try_model
from pdm_edge.detect.shadow import Comparison
from pdm_edge.errors import ModelError
from pdm_edge.records import Evidence, FeatureVector, Score, Waveform, worst

logger = logging.getLogger(__name__)

NAMED_CHANGES: Final = 3


class ModelLife:
    """What a machine is judged by, and how it came about.

    Parameters
    ----------
    machine
        Id of the machine, and name of its bundle.
    folder
        Where learned bundles are kept.
    given
        A bundle that the configuration names; then nothing is learned.
    learn_windows
        Healthy windows to learn from; 0 learns nothing.
    options
        Passed on to `commission`.

    Raises
    ------
    ModelError
        If the given bundle is damaged, missing or cannot be run.
    """

    def __init__(
        self, machine: str, folder: Path, *, given: str | Path | None, learn_windows: int, **options: Any
    ) -> None:
        self.machine = machine
        self.path = folder / machine
        self.comparison: Comparison | None = None
        self._given = given
        self._learn_windows = learn_windows
        self._options = options
        self._collecting: Commissioning | None = None
        self._detector: AnomalyDetector | None = None
        self._other: AnomalyDetector | None = None  # on trial, or the old one while the new is on probation
        self._probation = False
        self._refused = False
        self._seen_ns = 0
        self._drift: DriftWatch | None = None
        self._feed: Feed | None = None
        self._fed: FeatureVector | None = None
        if given is not None:
            self._detector = AnomalyDetector(_tried(load_bundle(given)))
        else:
            self.refresh()

    @property
    def learning(self) -> bool:
        return self._detector is None and not self._refused and self._learn_windows > 0

    @property
    def collected(self) -> int:
        return self._collecting.collected if self._collecting else 0

    @property
    def missing(self) -> str:
        """What is still wanted before a model is made; empty if nothing is collected."""
        return self._collecting.missing() if self._collecting else ""

    @property
    def manifest(self) -> Manifest | None:
        return self._detector.manifest if self._detector else None

    @property
    def drift(self) -> DriftWatch | None:
        """Slow change since the model that judges was taken up, None without one."""
        if self._detector is None:
            self._drift = None
        elif self._drift is None:
            self._drift = DriftWatch(self._detector.manifest)
        return self._drift

    def refresh(self) -> bool:
        """Take up what has changed on disk: recalibrated, put on trial, rolled back, reopened.

        To be called about once a second; it costs a look at two files. True if something had changed.
        """
        if self._given is not None:
            return False
        seen_ns = _changed_ns(self.path) + _changed_ns(_beside(self.path, "candidate"))
        if seen_ns == self._seen_ns:
            return False
        self._seen_ns = seen_ns
        self._detector = self._opened(self.path)
        candidate = self._opened(_beside(self.path, "candidate"))
        self._refused = False
        if candidate is not None and self._detector is not None:
            self._other, self._probation, self.comparison = candidate, False, Comparison()
        elif not self._probation:
            self._other, self.comparison = None, None
        self._drift = None
        return True

    def knows(self, state: str) -> bool:
        """Whether the model judges this operating state; standstill and run-up it never does."""
        if self._detector is None or not state.startswith("running"):
            return True
        return self._detector.knows(state)

    def findings(self) -> tuple[Evidence, ...]:
        """Slow changes, as evidence beside the point score: never an alarm by themselves."""
        watch = self.drift
        if watch is None:
            return ()
        found = [
            Evidence(f"slow change: {in_words(c.feature)} {c.direction}", abs(c.sigmas), MOVED, "sigma")
            for c in watch.changes()[:NAMED_CHANGES]
        ]
        if watch.score_has_risen:
            text = "slow change: the score runs above its healthy level (CUSUM)"
            found.append(Evidence(text, watch.rising, DECISION, "sigma"))
        return tuple(found)

    @property
    def slow_change(self) -> str:
        """The first of the findings in words, empty if there is none."""
        return next((finding.what for finding in self.findings()), "")

    def feed(self, window: Waveform) -> None:
        """Show a window to a model that is not fed with the machine's vector.

        Raises
        ------
        ModelError
            If its input cannot be made of such a window; it is not asked again.
        """
        manifest = self.manifest
        if manifest is None and self.learning and self._options.get("family") in SPECTRAL:
            if self._feed is None:
                self._feed = Feed(spectrum_of(window))
        elif manifest is None or manifest.input.kind == "features":
            return
        elif self._feed is None:
            self._feed = Feed(manifest.input)
        try:
            self._fed = self._feed.vector(window, self.machine) or self._fed
        except ModelError:
            self._detector, self._refused = None, True
            raise

    def learn(self, vector: FeatureVector) -> bool:
        """Collect one healthy window; True once a model has been made of them all.

        Raises
        ------
        ModelError
            If the windows do not make a model; nothing more is collected then.
        """
        if self._feed is not None:
            if self._fed is None:
                return False
            vector = replace(self._fed, state=vector.state, quality=worst(self._fed.quality, vector.quality))
        if self._collecting is None or self._collecting.schema.id != vector.schema.id:
            journal = _beside(self.path, "learning")
            self._collecting = Commissioning(vector.schema, self._learn_windows, journal=journal)
            if self._collecting.collected:
                logger.info("machine %s: goes on with %d windows", self.machine, self._collecting.collected)
        self._collecting.add(vector)
        if not self._collecting.complete:
            return False
        self.finish()
        return True

    def take_up(self) -> None:
        """Take up what a stopped run has collected, to finish it by hand.

        Raises
        ------
        ModelError
            If it has collected nothing, or spectra: only the live run knows how they were made.
        """
        journal = _beside(self.path, "learning")
        schema = schema_of_journal(journal)
        if self._options.get("family") in SPECTRAL or "/frame_" in schema.names[0]:
            raise ModelError(
                "a model of spectra is finished by the live run alone", mend="Learn without --anyway"
            )
        self._collecting = Commissioning(schema, self._learn_windows, journal=journal)

    def finish(self, *, anyway: bool = False, **options: Any) -> Manifest:
        """Make a model of the windows collected so far, keep it, and judge by it from now on.

        Raises
        ------
        ModelError
            If there are too few, they look faulty and `anyway` was not said, or no model comes of them.
        """
        if self._collecting is None:
            raise ModelError("no window was collected", where=f"machine {self.machine!r}")
        try:
            model, manifest = self._collecting.finish(
                name=self.machine, anyway=anyway, **{**self._options, **options}
            )
            if self._feed is not None:
                manifest = msgspec.structs.replace(manifest, input=self._feed.given)
            keep_previous(self.path)
            write_bundle(self.path, model, manifest)
            self._detector = AnomalyDetector(load_bundle(self.path))
        except ModelError:
            self._refused = True
            raise
        self._collecting.close()
        self._collecting = self._drift = None
        self._seen_ns = _changed_ns(self.path) + _changed_ns(_beside(self.path, "candidate"))
        return manifest

    def score(self, vector: FeatureVector) -> Score | None:
        """Score of a vector, None while there is no model. A model on trial is scored beside it.

        Raises
        ------
        ModelError
            If the vector does not fit the model any more; it is not asked again.
        """
        if self._detector is None:
            return None
        own = self._detector.manifest.input.kind != "features"
        if own:
            if self._fed is None:
                return None
            vector = replace(self._fed, state=vector.state, quality=worst(self._fed.quality, vector.quality))
        try:
            score = self._detector.score(vector)
        except ModelError:
            self._detector, self._refused = None, True
            raise
        if self._other is not None and self.comparison is not None:
            self._compare(vector, score)
        watch = self.drift
        if watch is not None and not own:
            watch.observe(vector, score.value)
        return score

    def _compare(self, vector: FeatureVector, score: Score) -> None:
        assert self._other is not None
        assert self.comparison is not None
        try:
            other = self._other.score(vector)
        except ModelError as error:
            logger.error("machine %s: the other model does not fit: %s", self.machine, error)
            self._end_trial("reject")
            return
        old, new = (other, score) if self._probation else (score, other)
        verdict = self.comparison.observe(old, new)
        if verdict != "wait":
            self._end_trial(verdict)

    def _end_trial(self, verdict: str) -> None:
        """Switch to the candidate, drop it, confirm it, or bring the old model back."""
        candidate, previous = _beside(self.path, "candidate"), _beside(self.path, "previous")
        logger.warning("machine %s: model on trial: %s (%s)", self.machine, verdict, self.comparison)
        if self._probation:
            if verdict == "reject":
                _replace(self.path, previous)
                self._detector, self._drift = self._other, None
            self._other, self.comparison, self._probation = None, None, False
        elif verdict == "switch":
            keep_previous(self.path)
            _replace(self.path, candidate)
            self._detector, self._other, self._drift = self._other, self._detector, None
            self.comparison, self._probation = Comparison(), True
        else:
            shutil.rmtree(candidate, ignore_errors=True)
            self._other, self.comparison = None, None
        self._seen_ns = _changed_ns(self.path) + _changed_ns(candidate)

    def _opened(self, path: Path) -> AnomalyDetector | None:
        if not path.exists():
            return None
        try:
            return AnomalyDetector(_tried(load_bundle(path)))
        except ModelError as error:
            logger.error("machine %s: its model is refused: %s", self.machine, error)
        previous = _beside(self.path, "previous")
        if path == self.path and previous.exists():
            logger.error("machine %s: goes back to the last good model", self.machine)
            _replace(self.path, previous)
            return self._opened(self.path)
        return None


def put_on_trial(folder: Path, machine: str, bundle: Bundle) -> Path:
    """Lay a bundle beside the one that judges; a running monitor takes it up within seconds.

    Raises
    ------
    ModelError
        If the machine has no model to compare with, or it takes other features.
    """
    current = load_bundle(folder / machine)
    if current.manifest.schema_id != bundle.manifest.schema_id:
        raise ModelError("the two models take different features", where=str(bundle.path))
    path = _beside(folder / machine, "candidate")
    write_bundle(path, bundle.model, bundle.manifest)
    return path


def roll_back(folder: Path, machine: str) -> None:
    """Bring the last good bundle back.

    Raises
    ------
    ModelError
        If there is none.
    """
    previous = _beside(folder / machine, "previous")
    load_bundle(previous)
    _replace(folder / machine, previous)


def add_note(folder: Path, machine: str, text: str, *, reopen: bool) -> None:
    """Write down what was done to a machine. A repair makes its baseline a thing of the past: with
    `reopen` it learns anew, and the old model is kept as the previous one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    line = msgspec.json.encode({"utc_ns": time.time_ns(), "note": text, "baseline_reopened": reopen})
    with _beside(folder / machine, "notes").open("ab") as stream:
        stream.write(line + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    if reopen:
        keep_previous(folder / machine)
        shutil.rmtree(folder / machine, ignore_errors=True)
        _beside(folder / machine, "learning").unlink(missing_ok=True)


def keep_previous(path: Path) -> None:
    """Keep the bundle at `path`, if it is a sound one, as the last good one."""
    if not path.exists():
        return
    try:
        bundle = load_bundle(path)
    except ModelError:
        return  # what is damaged is no model to go back to
    write_bundle(_beside(path, "previous"), bundle.model, bundle.manifest)


def _replace(path: Path, by: Path) -> None:
    bundle = load_bundle(by)
    write_bundle(path, bundle.model, bundle.manifest)
    shutil.rmtree(by, ignore_errors=True)


def _tried(bundle: Bundle) -> Bundle:
    try_model(bundle.model)
    return bundle


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.name}.{what}")


def _changed_ns(path: Path) -> int:
    try:
        return (path / MANIFEST_NAME).stat().st_mtime_ns
    except OSError:
        return 0
