"""The model of one machine through its life: collected, learned, judged by, replaced, rolled back.

Which files it keeps is said in `folder`. A live monitor trains apart, in a child process; a replay trains
where it stands, so that it gives the same every time.
"""

from __future__ import annotations

import logging
import math
import shutil
from pathlib import Path
from typing import Any

import msgspec

from pdm_edge.detect.anomaly import AnomalyDetector
from pdm_edge.detect.apart import TrainingApart
from pdm_edge.detect.beside import Beside
from pdm_edge.detect.bundle import Manifest, load_bundle, write_bundle
from pdm_edge.detect.collect import Commissioning
from pdm_edge.detect.feed import SPECTRAL, Ear
from pdm_edge.detect.folder import beside, bring, changed_ns, keep_previous, reopened_ns, tried
from pdm_edge.detect.journal import schema_of_journal
from pdm_edge.detect.shadow import Comparison
from pdm_edge.errors import ModelError
from pdm_edge.records import Evidence, FeatureVector, Score, Waveform

logger = logging.getLogger(__name__)


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
    hears
        Sensor and axis that a model of the spectrum is fed with, where there are several.
    options
        Passed on to `commission`.

    Raises
    ------
    ModelError
        If the given bundle is damaged, missing or cannot be run.
    """

    def __init__(
        self,
        machine: str,
        folder: Path,
        *,
        given: str | Path | None,
        learn_windows: int,
        hears: tuple[str, str] = ("", ""),
        **options: Any,
    ) -> None:
        self.machine = machine
        self.path = folder / machine
        self.comparison: Comparison | None = None
        self._given = given
        self._learn_windows = learn_windows
        self._ear = Ear(machine, str(options.get("family", "")), *hears)
        self._options = options
        self._collecting: Commissioning | None = None
        self._detector: AnomalyDetector | None = None
        self._other: AnomalyDetector | None = None  # on trial, or the old one while the new is on probation
        self._probation = False
        self._refused = False
        self._seen_ns = 0
        self._beside: Beside | None = None
        self._training: TrainingApart | None = None
        self._unsaved: tuple[bytes, Manifest] | None = None
        self._reopened_ns = reopened_ns(self.path)
        self.trains_apart = False
        self.learned_here = given is None
        if given is not None:
            self._detector = AnomalyDetector(tried(load_bundle(given)))
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
    def unkept(self) -> str:
        """What of the windows collected is in memory only, in words; empty if all are in their file."""
        return self._collecting.unkept if self._collecting else ""

    @property
    def training(self) -> int:
        """Windows that a model is being made of in the background, 0 if none is."""
        return self._training.windows if self._training else 0

    @property
    def manifest(self) -> Manifest | None:
        return self._detector.manifest if self._detector else None

    @property
    def beside(self) -> Beside | None:
        """The criteria beside the score, since the model that judges was taken up; None without one."""
        if self._detector is None:
            self._beside = None
        elif self._beside is None:
            self._beside = Beside(self._detector.manifest)
        return self._beside

    def refresh(self) -> bool:
        """Take up what has changed on disk: recalibrated, put on trial, rolled back, reopened.

        To be called about once a second; it costs a look at three files. True if something had changed.
        """
        if self._given is not None:
            return False
        reopened = self._reopen()
        seen_ns = changed_ns(self.path) + changed_ns(beside(self.path, "candidate"))
        if seen_ns == self._seen_ns:
            return reopened
        self._seen_ns = seen_ns
        self._detector = self._opened(self.path)
        if self._detector is not None:
            self.stop_training()  # another model has come meanwhile
        candidate = self._opened(beside(self.path, "candidate"))
        self._refused = False
        if candidate is not None and self._detector is not None:
            self._other, self._probation, self.comparison = candidate, False, Comparison()
        elif not self._probation:
            self._other, self.comparison = None, None
        self._beside = None
        return True

    def _reopen(self) -> bool:
        """Forget what was collected so far if a note says so; True if one did."""
        noted_ns = reopened_ns(self.path)
        if noted_ns == self._reopened_ns:
            return False
        self._reopened_ns = noted_ns
        self.stop_training()
        if self._collecting is not None:
            logger.info("machine %s: learns anew, as was noted", self.machine)
            self._collecting.close()
        self._collecting = self._unsaved = None
        self._refused = False
        return True

    def knows(self, state: str) -> bool:
        """Whether the model judges this operating state; standstill and run-up it never does."""
        if self._detector is None or not state.startswith("running"):
            return True
        return self._detector.knows(state)

    def findings(self) -> tuple[Evidence, ...]:
        """What speaks beside the score of the single window; see `Beside`."""
        return () if self.beside is None else self.beside.findings()

    def severity(self, alert_at: float) -> float:
        """How far the criteria beside the score have gone, normalised as it is; NaN if none can judge."""
        return math.nan if self.beside is None else self.beside.severity(alert_at)

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
        try:
            self._ear.listen(window, self.manifest, learning=self.learning)
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
        if self._options.get("family") in SPECTRAL:
            heard = self._ear.vector(vector)
            if heard is None:
                return False
            vector = heard
        self._reopen()
        if self._collecting is None or self._collecting.schema.id != vector.schema.id:
            journal = beside(self.path, "learning")
            self._collecting = Commissioning(vector.schema, self._learn_windows, journal=journal)
            if self._collecting.collected:
                logger.info("machine %s: goes on with %d windows", self.machine, self._collecting.collected)
        self._collecting.add(vector)
        if self._training is not None:
            return self.trained()
        if not self._collecting.complete:
            return False
        if self.trains_apart:
            self._start_training(self._collecting)
            return False
        self.finish()
        return True

    def trained(self) -> bool:
        """True once a model that was trained apart has been taken up; asked about once a second.

        A model that could not be written, such as to a full disk, is tried again.

        Raises
        ------
        ModelError
            If the training failed or the model cannot be written; nothing more is collected then.
        """
        self._reopen()
        if self._unsaved is not None:
            self._judge_by(*self._unsaved)
            return True
        if self._training is None or not self._training.done:
            return False
        training, self._training = self._training, None
        try:
            made = training.result()
            self._judge_by(made.model, made.manifest)
        except ModelError:
            self._refused = True
            raise
        return True

    def stop_training(self) -> None:
        """Give up a training that is under way. Its windows are kept, and make a model another time."""
        if self._training is not None:
            self._training.stop()
            self._training = None

    def _start_training(self, collecting: Commissioning) -> None:
        try:
            self._training = TrainingApart(collecting.vectors, name=self.machine, **self._options)
        except ModelError:
            self._refused = True
            raise
        logger.info("machine %s: trains on %d windows", self.machine, self._training.windows)

    def take_up(self) -> None:
        """Take up what a stopped run has collected, to finish it by hand.

        Raises
        ------
        ModelError
            If it has collected nothing, or spectra: only the live run knows how they were made.
        """
        journal = beside(self.path, "learning")
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
            return self._judge_by(model, manifest)
        except ModelError:
            self._refused = True
            raise

    def _judge_by(self, model: bytes, manifest: Manifest) -> Manifest:
        """Keep what was learned, and judge by it."""
        if self._ear.given is not None:
            manifest = msgspec.structs.replace(manifest, input=self._ear.given)
        self._unsaved = model, manifest
        keep_previous(self.path)
        write_bundle(self.path, model, manifest)
        self._unsaved, self._refused = None, False
        self._detector = AnomalyDetector(load_bundle(self.path))
        if self._collecting is not None:
            self._collecting.close()
        self._collecting = self._beside = None
        self._seen_ns = changed_ns(self.path) + changed_ns(beside(self.path, "candidate"))
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
            heard = self._ear.vector(vector)
            if heard is None:
                return None
            vector = heard
        try:
            score = self._detector.score(vector)
        except ModelError:
            self._detector, self._refused = None, True
            raise
        if self._other is not None and self.comparison is not None:
            self._compare(vector, score)
        if self.beside is not None and not own:
            # Of several speeds, none told, it is not known which one's levels are to be compared with.
            settled = self._detector.has_normal(vector.state)
            self.beside.observe(vector, score.value if settled else math.nan)
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
        candidate, previous = beside(self.path, "candidate"), beside(self.path, "previous")
        logger.warning("machine %s: model on trial: %s (%s)", self.machine, verdict, self.comparison)
        if self._probation:
            if verdict == "reject":
                bring(self.path, previous)
                self._detector, self._beside = self._other, None
            self._other, self.comparison, self._probation = None, None, False
        elif verdict == "switch":
            keep_previous(self.path)
            bring(self.path, candidate)
            self._detector, self._other, self._beside = self._other, self._detector, None
            self.comparison, self._probation = Comparison(), True
        else:
            shutil.rmtree(candidate, ignore_errors=True)
            self._other, self.comparison = None, None
        self._seen_ns = changed_ns(self.path) + changed_ns(candidate)

    def _opened(self, path: Path) -> AnomalyDetector | None:
        if not path.exists():
            return None
        try:
            return AnomalyDetector(tried(load_bundle(path)))
        except ModelError as error:
            logger.error("machine %s: its model is refused: %s", self.machine, error)
        previous = beside(self.path, "previous")
        if path == self.path and previous.exists():
            logger.error("machine %s: goes back to the last good model", self.machine)
            try:
                bring(self.path, previous)
            except ModelError as error:
                logger.error("machine %s: it cannot: %s", self.machine, error)
                return None
            return self._opened(self.path)
        return None
