"""Collecting the baseline: what is taken, when it is enough, and what must not be learned.

Every window taken is in a file when `add` returns, so a restart goes on where it was. Where the file
cannot be written, windows are held in memory until it can.
"""

from __future__ import annotations

import logging
import re
from collections import Counter, deque
from pathlib import Path
from typing import Any, Final

import numpy as np

from pdm_edge.detect.bundle import Manifest
from pdm_edge.detect.commission import FEWEST_IN_STATE, FEWEST_WINDOWS, commission
from pdm_edge.detect.journal import Journal
from pdm_edge.detect.scaling import floors, logarithmic, transformed
from pdm_edge.errors import ModelError
from pdm_edge.records import FeatureSchema, FeatureVector

logger = logging.getLogger(__name__)

PATIENCE: Final = 10
"""A machine that has not settled after this many times the wanted windows is not learned unasked."""

DRIFT_SIGMAS: Final = 1.5
"""Shift of a feature's median from the first third of the baseline to the last, in its own scatter
within a third, from which the machine is taken as still changing. What the medians themselves
scatter is added."""

LINE_LEVEL_DB: Final = 10.0
"""Median level of a bearing line above its noise floor from which the bearing looks damaged already."""

FAULTY_SHARE: Final = 0.5
"""Of windows in which the same thing stands out from which it is the machine and not an event."""

_LINE = re.compile(r"/envelope_(bpfo|bpfi|bsf|ftf)_level\Z")


class Commissioning:
    """Collects healthy windows of one machine until they are enough to learn from.

    Parameters
    ----------
    windows_needed
        How many are wanted; more are taken while the machine is still settling.
    journal
        File to keep the windows in; what it holds of the same schema is taken up again.
    """

    def __init__(self, schema: FeatureSchema, windows_needed: int, *, journal: Path | None = None) -> None:
        if windows_needed < FEWEST_WINDOWS:
            raise ModelError(f"{windows_needed} windows are too few, at least {FEWEST_WINDOWS}")
        self.schema = schema
        self.needed = windows_needed
        self.refused: Counter[str] = Counter()
        self._vectors: deque[FeatureVector] = deque()
        self._taken = 0
        self._checked = 0
        self._doubts: tuple[str, ...] = ()
        self._held = 0
        self._fault = ""
        self._journal = None if journal is None else Journal(journal, schema)
        if self._journal is not None:
            try:
                self._vectors.extend(self._journal.read())
            except ModelError as error:
                self._not_kept(error)
            self._taken = len(self._vectors)

    def add(self, vector: FeatureVector) -> bool:
        """Take a window; False if it is refused, because it is not of good quality.

        Missing readings do not spoil a window; a faulty sensor does.

        Raises
        ------
        ModelError
            If it is of another schema.
        """
        if vector.schema.id != self.schema.id:
            raise ModelError(f"window of schema {vector.schema.id}, collecting {self.schema.id}")
        spoiled = set(vector.quality.reasons) - {"stale", "missing", "unsynced"}
        if vector.quality.level == "bad" or spoiled or not np.isfinite(vector.values).any():
            self.refused[", ".join(sorted(spoiled)) or "bad quality"] += 1
            return False
        if vector.state.startswith(("stopped", "transient")):
            self.refused[vector.state.split()[0]] += 1
            return False
        self._vectors.append(vector)
        self._taken += 1
        while len(self._vectors) > self.needed and self._drifting:
            self._vectors.popleft()  # run-in: what came first is no baseline
        if self._journal is not None:
            try:
                if self._fault:
                    self._journal.write(self._vectors)
                else:
                    self._journal.append(vector, self._vectors)
            except ModelError as error:
                self._held += 1
                self._not_kept(error)
            else:
                if self._fault:
                    logger.warning("windows are kept again, those held in memory among them")
                self._held, self._fault = 0, ""
        return True

    def _not_kept(self, error: ModelError) -> None:
        if not self._fault:
            logger.error("windows are held in memory only: %s", error)
        self._fault = str(error)

    @property
    def unkept(self) -> str:
        """How many of the latest windows are in memory only, and why; empty if all are in their file."""
        return f"{self._held} learned windows are in memory only: {self._fault}" if self._fault else ""

    @property
    def collected(self) -> int:
        return len(self._vectors)

    @property
    def complete(self) -> bool:
        """Whether there are enough windows, and the machine has settled or the patience has ended."""
        if self.collected < self.needed:
            return False
        return not self._drifting or self._taken >= PATIENCE * self.needed

    def doubts(self) -> tuple[str, ...]:
        """What looks faulty or unsettled in the windows collected, in words; empty if nothing does."""
        if not self._checked or self._taken >= self._checked * 1.1:
            self._doubts = doubts_about(list(self._vectors))
            self._checked = self._taken
        return self._doubts

    def missing(self) -> str:
        """How much is enough: what is still wanted, in words."""
        states = Counter(vector.state for vector in self._vectors)
        rare = [f"{state} ({n})" for state, n in sorted(states.items()) if n < FEWEST_IN_STATE]
        parts = []
        if self.collected < self.needed:
            parts.append(f"{self.needed - self.collected} more windows")
        elif self._drifting:
            parts.append(f"until it settles: {self.doubts()[0]}")
        if rare:
            parts.append(f"not enough yet of {', '.join(rare)}")
        return "; ".join(parts)

    def finish(
        self, *, name: str, seed: int = 1, quantize: bool = True, anyway: bool = False, **options: Any
    ) -> tuple[bytes, Manifest]:
        """Train on what was collected; see `commission`.

        Raises
        ------
        ModelError
            If the windows look faulty or unsettled and `anyway` was not said, or are too few.
        """
        return learned_from(self.vectors, name=name, seed=seed, quantize=quantize, anyway=anyway, **options)

    @property
    def vectors(self) -> list[FeatureVector]:
        """The windows collected so far, in order."""
        return list(self._vectors)

    def close(self) -> None:
        """The baseline is learned: the journal is not needed any more."""
        if self._journal is not None:
            self._journal.remove()

    @property
    def _drifting(self) -> bool:
        return any("still changing" in doubt for doubt in self.doubts())


def learned_from(
    vectors: list[FeatureVector], *, name: str, anyway: bool = False, **options: Any
) -> tuple[bytes, Manifest]:
    """A model of these windows, unless they look faulty; `options` go to `commission`.

    Raises
    ------
    ModelError
        If the windows look faulty or unsettled and `anyway` was not said, or are too few.
    """
    found = doubts_about(vectors)
    if found and not anyway:
        raise ModelError(
            f"these windows do not look like a healthy, settled machine: {'; '.join(found)}",
            where=name,
            mend="Look at the machine first; if it is in order, learn anyway (--anyway)",
        )
    for doubt in found:
        logger.warning("%s: learned anyway: %s", name, doubt)
    return commission(vectors, name=name, warnings=found, **options)


def doubts_about(vectors: list[FeatureVector]) -> tuple[str, ...]:
    """What speaks against these windows as a definition of healthy.

    A trend from their first to their last third, a bearing line that stands out of most of them, and
    what stands out by absolute limits (`FeatureVector.faults`). (ISO zones are the machine's own check:
    its windows in zone C or D are not collected.)
    """
    if len(vectors) < FEWEST_WINDOWS:
        return ()
    schema = vectors[0].schema
    x = np.stack([vector.values for vector in vectors])
    found = []
    trend = _trend(x, vectors)
    if trend is not None:
        found.append(trend)
    for name, column in zip(schema.names, x.T, strict=True):
        seen = column[np.isfinite(column)]
        level_db = float(np.median(seen)) if seen.size and _LINE.search(name) else 0.0
        if level_db >= LINE_LEVEL_DB:
            found.append(f"{name} stands {level_db:.0f} dB out of its noise floor in most of them")
    standing = Counter(fault for vector in vectors for fault in vector.faults)
    for fault, count in standing.most_common():
        if count >= FAULTY_SHARE * len(vectors):
            found.append(f"{fault} in {count} of {len(vectors)} windows, by a limit that needs no history")
    return tuple(found)


def _trend(x: np.typing.NDArray[np.float32], vectors: list[FeatureVector]) -> str | None:
    """The feature that has moved most, if it moved too far; within the commonest operating state."""
    schema = vectors[0].schema
    commonest = Counter(vector.state for vector in vectors).most_common(1)[0][0]
    rows = x[[vector.state == commonest for vector in vectors]]
    levels = logarithmic(schema.names, schema.units)
    y = transformed(rows, levels)
    usable = np.isfinite(y).all(axis=0)
    third = len(y) // 3
    if third < 3 or not usable.any():
        return None
    first, last = y[:third], y[-third:]
    centre = np.median(y, axis=0)
    inner = [1.4826 * np.median(np.abs(part - np.median(part, axis=0)), axis=0) for part in (first, last)]
    spread = np.maximum(np.mean(inner, axis=0), floors(schema.names, schema.units, np.nan_to_num(centre)))
    shift = np.where(usable, (np.median(last, axis=0) - np.median(first, axis=0)) / spread, 0.0)
    limit = DRIFT_SIGMAS + 3 * 1.25 * np.sqrt(2 / third)  # a median scatters 1.25 sigma / sqrt(n)
    worst = int(np.abs(shift).argmax())
    if abs(shift[worst]) < limit:
        return None
    return (
        f"{schema.names[worst]} is still changing: {'up' if shift[worst] > 0 else 'down'} by "
        f"{abs(float(shift[worst])):.1f} times its scatter from the first to the last third"
    )
