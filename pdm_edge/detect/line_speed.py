"""Whether a machine whose speed is not measured turns as it did when it was learned.

What turns with a shaft makes lines at fixed multiples of its speed. At another speed all of them
stand at the same ratio to where they stood; a fault adds lines, and may bury some, but does not move
them. So the lines that recurred while learning are looked for again at every ratio from a half to
twice. Resonances and mains hum stay where they are and take no part in a shift.

Three answers: at a learned speed; at another one, which takes most of the lines in a place where no
chance and no fault puts them; or undecided, and then the model judges as if nothing were known.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

Lines = Sequence[tuple[float, float]]

SAME: Final = 0.05
"""Relative; within it a speed counts as learned. It is the width of a speed bin where speed is measured."""

MARGIN: Final = 0.15
"""By how much the share of lines found at the best ratio must pass that of any unrelated one. Over 235
seconds of healthy MFPT, CWRU and UESTC recordings, played at six other speeds, it is 0.15 to 0.7; of
their fault recordings, at the speed that was learned, at most 0.09 beyond `SAME`."""
MARGIN_LINES: Final = 1.5
"""The same in lines, for a machine that has few: one or two of them are found anywhere by chance. In 1,000
windows of noise, patterns of 3 to 40 lines pass both margins and `FOUND` at most 6 times."""

FOUND: Final = 0.4
"""Share of the lines that must stand at a ratio for it to be one. Of the healthy recordings 0.4 to 0.9 did,
in noise up to 0.9 of 3 lines and 0.3 of 30."""

FEWEST_LINES: Final = 3
MOST_LINES: Final = 40
FEWEST_LOOKS: Final = 5
"""Different seconds of signal that a speed must be seen in."""
HELD_LOOKS: Final = 4
"""How many looks without an answer another speed, seen twice in a row, is taken to go on. No longer: what
hides its lines may be a fault."""
RECURRING: Final = 0.5
"""Share of windows in which a line must stand to be one of the machine."""
LEVEL_CAP_DB: Final = 20.0
"""One strong line must not stand for all."""

_GRID_HZ: Final = 0.5
_REACH_HZ: Final = 1.0
_HIGHEST_HZ: Final = 2000.0
_GRID: Final = round(_HIGHEST_HZ / _GRID_HZ) + 1
_STEP: Final = 0.0005
_RATIOS: Final = np.arange(-math.log(2), math.log(2) + _STEP / 2, _STEP)
"""Logarithms of the ratios that are tried; one step moves a line at `_HIGHEST_HZ` by 1 Hz."""
_RELATED: Final = np.log([1 / 3, 1 / 2, 2 / 3, 1.0, 3 / 2, 2.0, 3.0])
"""Harmonics make a family stand at these ratios of itself as well."""
_NEAR: Final = SAME
"""Lines of a slow shaft stand at ratios as far off within their 1 Hz."""


class LineReference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lines of a machine, and at which ratios of their frequencies it was seen while learning."""

    lines_hz: tuple[float, ...]
    levels_db: tuple[float, ...]
    ratios: tuple[tuple[float, float], ...]
    """Lowest and highest of each group."""
    looks: int
    """Different seconds that they were found in."""


@dataclass(frozen=True, slots=True)
class RelativeSpeed:
    """``ratio`` is against the lines that were learned (the middle of its group at a learned speed), NaN
    if undecided; ``pattern`` numbers the reference that it is told by.

    ``found`` is the share of the lines that stands at a learned speed, weighed by level.
    """

    kind: Literal["learned", "other", "undecided"]
    ratio: float
    found: float
    pattern: int = 0


UNDECIDED: Final = RelativeSpeed("undecided", math.nan, 0.0)


def state_of(state: str, speed: RelativeSpeed) -> str:
    """The operating state `state` with the speed that the lines tell; as it is if they tell none."""
    if speed.kind == "undecided":
        return state
    pattern = f", lines {speed.pattern + 1}" if speed.pattern else ""
    return f"{state} at {speed.ratio:.2f} times the learned speed{pattern}"


def states_by_lines(
    states: Sequence[str], windows: Sequence[Lines], references: Sequence[LineReference]
) -> list[str]:
    """Operating states of the windows that are learned: apart by speed, if more than one is told.

    A window whose lines tell nothing is at the speed of the one before it.
    """
    if sum(len(reference.ratios) for reference in references) < 2:
        return list(states)
    speed = LineSpeed(references)
    answers = [speed.observe(lines) for lines in windows]
    told = next((answer for answer in answers if answer.kind == "learned"), UNDECIDED)
    found = []
    for state, answer in zip(states, answers, strict=True):
        told = answer if answer.kind == "learned" else told
        found.append(state_of(state, told))
    return found


class LineSpeed:
    """Compares the lines of windows with what was learned."""

    def __init__(self, references: Sequence[LineReference]) -> None:
        self._references = [(_Comb(r.lines_hz, r.levels_db), _zone(r.ratios), r) for r in references]
        self.several = sum(len(reference.ratios) for reference in references) > 1
        self._last: Lines = ()
        self._answer = UNDECIDED
        self._unanswered = 0
        self._twice = False

    def observe(self, lines: Lines) -> RelativeSpeed:
        """The speed of a window with these lines; the same lines are not compared twice."""
        if lines is not self._last:
            self._last = lines
            answer = self._compared(lines)
            if answer.kind == "undecided" and self._twice and self._unanswered < HELD_LOOKS:
                self._unanswered += 1
                return self._answer
            self._unanswered = 0
            both_other = answer.kind == self._answer.kind == "other"
            self._twice = both_other and abs(answer.ratio / self._answer.ratio - 1) < SAME
            self._answer = answer
        return self._answer

    def state(self, state: str, speed: RelativeSpeed) -> str:
        """The operating state `state` with its speed, as the model names it: a learned one only if there
        are several."""
        return state if speed.kind == "learned" and not self.several else state_of(state, speed)

    def _compared(self, lines: Lines) -> RelativeSpeed:
        if not lines:
            return UNDECIDED
        levels = _on_grid(lines)
        clearest, furthest, found = UNDECIDED, 0.0, 0.0
        for pattern, (comb, zone, reference) in enumerate(self._references):
            share = comb.shares(levels)
            found = max(found, float(share[zone].max()))
            best = int(share.argmax())
            clear = float(share[best]) - _rival(share, best, zone)
            if clear < comb.margin or share[best] < FOUND:
                continue
            if zone[best]:
                ratio = _middle(reference.ratios, _ratio(share, best))
                return RelativeSpeed("learned", ratio, found, pattern)
            if clear > furthest:
                furthest = clear
                clearest = RelativeSpeed("other", _ratio(share, best), found, pattern)
        return RelativeSpeed(clearest.kind, clearest.ratio, found, clearest.pattern)


def learn_lines(windows: Sequence[Lines]) -> tuple[LineReference, ...]:
    """References for the speeds at which these windows were taken, in time order.

    The first windows give the lines, and all that show them at the same place make them better; windows
    that show them at another clear ratio belong to them, others make a reference of their own. A speed
    takes `FEWEST_LOOKS`. Without lines that recur there is none, and every speed stays undecided.
    """
    left = [_on_grid(lines) for lines in _distinct(windows)]
    points = _distinct(windows)
    found: list[LineReference] = []
    while len(left) >= FEWEST_LOOKS:
        chosen = points[:FEWEST_LOOKS]
        for _ in range(2):
            lines_hz, levels_db = _recurring(chosen)
            if len(lines_hz) < FEWEST_LINES:
                break
            comb = _Comb(lines_hz, levels_db)
            ratios = [comb.clear_ratio(levels) for levels in left]
            chosen = [p for p, ratio in zip(points, ratios, strict=True) if abs(ratio - 1) < SAME / 4]
        else:
            groups = _groups([r for r in ratios if not math.isnan(r)])
            if groups and not _known(found, lines_hz, levels_db):
                found.append(
                    LineReference(lines_hz=lines_hz, levels_db=levels_db, ratios=groups, looks=len(chosen))
                )
            rest = [i for i, ratio in enumerate(ratios) if math.isnan(ratio) and i >= FEWEST_LOOKS]
            left, points = [left[i] for i in rest], [points[i] for i in rest]
            continue
        left, points = left[FEWEST_LOOKS:], points[FEWEST_LOOKS:]
    return tuple(found)


def _known(found: Sequence[LineReference], lines_hz: tuple[float, ...], levels_db: tuple[float, ...]) -> bool:
    """Whether a pattern is that of a reference already: windows in which it is weak make no new one."""
    levels = _on_grid(tuple(zip(lines_hz, levels_db, strict=True)))
    here = np.abs(_RATIOS) <= SAME
    return any(_Comb(r.lines_hz, r.levels_db).shares(levels)[here].max() >= FOUND for r in found)


def _distinct(windows: Sequence[Lines]) -> list[Lines]:
    """Windows shorter than a second share what was seen in it."""
    return [lines for lines, _ in itertools.groupby(windows) if lines]


class _Comb:
    """The lines of a reference at every ratio."""

    def __init__(self, lines_hz: Sequence[float], levels_db: Sequence[float]) -> None:
        at_hz = np.outer(np.exp(_RATIOS), np.array(lines_hz))
        self.margin = max(MARGIN, MARGIN_LINES / max(len(lines_hz), 1))
        self._within = at_hz <= _HIGHEST_HZ
        self._at = np.rint(np.minimum(at_hz, _HIGHEST_HZ) / _GRID_HZ).astype(np.int16)
        self._weight = np.minimum(levels_db, LEVEL_CAP_DB).astype(np.float32)
        self._possible = np.where(self._within, self._weight, 0.0).sum(axis=1)
        # With most of the lines out of sight a share of the rest says nothing.
        self._usable = self._possible > self._weight.sum() / 3

    def shares(self, levels: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Share of the lines that stands at each of `_RATIOS`, weighed by level."""
        stands = (np.minimum(levels[self._at], self._weight) * self._within).sum(axis=1)
        return np.where(self._usable, stands / np.maximum(self._possible, 1e-9), 0.0)

    def clear_ratio(self, levels: npt.NDArray[np.float32]) -> float:
        """The ratio at which the lines stand, NaN if none is clear."""
        share = self.shares(levels)
        best = int(share.argmax())
        clear = float(share[best]) - _rival(share, best, np.zeros(len(share), dtype=np.bool_))
        told = clear >= self.margin and share[best] >= FOUND
        return _ratio(share, best) if told else math.nan


def _ratio(share: npt.NDArray[np.float64], best: int) -> float:
    """Middle of the ratios that fit as well as the best: lines of 1 Hz leave a slow shaft some room."""
    equal = (share >= share[best] - 1e-6) & (np.abs(_RATIOS - _RATIOS[best]) <= _NEAR)
    return float(np.exp(_RATIOS[equal].mean()))


def _rival(share: npt.NDArray[np.float64], best: int, zone: npt.NDArray[np.bool_]) -> float:
    """The highest share elsewhere; a learned speed counts even where it is related to the best."""
    distance = np.abs(_RATIOS[:, None] - _RATIOS[best] - _RELATED[None, :]).min(axis=1)
    elsewhere = distance > _NEAR
    if not zone[best]:
        elsewhere |= zone & (np.abs(_RATIOS - _RATIOS[best]) > _NEAR)
    return float(share[elsewhere].max())


def _on_grid(lines: Lines) -> npt.NDArray[np.float32]:
    """Levels in dB on a grid of `_GRID_HZ`, each line as wide as it may be off."""
    levels = np.zeros(_GRID, dtype=np.float32)
    reach = round(_REACH_HZ / _GRID_HZ)
    for frequency_hz, level_db in lines:
        centre = round(frequency_hz / _GRID_HZ)
        near = slice(max(centre - reach, 0), centre + reach + 1)
        levels[near] = np.maximum(levels[near], level_db)
    return levels


def _recurring(windows: Sequence[Lines]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Lines that stand in most of the windows, the strongest first chosen: mean frequency and level."""
    counts, sums = np.zeros(_GRID), np.zeros(_GRID)
    for lines in windows:
        levels = _on_grid(lines)
        counts += levels > 0
        sums += levels
    points = np.array(sorted(point for lines in windows for point in lines)).reshape(-1, 2)
    sums[counts < RECURRING * max(len(windows), 1)] = 0
    found: list[tuple[float, float]] = []
    while sums.any() and len(found) < MOST_LINES:
        best = np.flatnonzero(sums == sums.max())
        centre_hz = float(best[len(best) // 2]) * _GRID_HZ
        reach_hz = _REACH_HZ + 0.51 * _GRID_HZ  # a line may lie half a step beside its place on the grid
        first, last = np.searchsorted(points[:, 0], (centre_hz - reach_hz, centre_hz + reach_hz))
        near = points[first:last]
        found.append((float(np.average(near[:, 0], weights=near[:, 1])), float(near[:, 1].mean())))
        clear = round(2 * _REACH_HZ / _GRID_HZ)
        middle = round(centre_hz / _GRID_HZ)
        sums[max(middle - clear, 0) : middle + clear + 1] = 0
    return (
        tuple(round(frequency_hz, 2) for frequency_hz, _ in sorted(found)),
        tuple(round(level_db, 1) for _, level_db in sorted(found)),
    )


def _groups(ratios: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Ratios that were seen often enough, neighbours together."""
    values = np.sort(np.asarray(ratios))
    if not len(values):
        return ()
    parts = np.split(values, np.flatnonzero(np.diff(np.log(values)) > SAME / 2) + 1)
    return tuple((round(float(p[0]), 4), round(float(p[-1]), 4)) for p in parts if len(p) >= FEWEST_LOOKS)


def _middle(ratios: Sequence[tuple[float, float]], ratio: float) -> float:
    """Middle of the group that a ratio belongs to."""
    nearest = min(ratios, key=lambda group: abs(math.log(ratio / math.sqrt(group[0] * group[1]))))
    return math.sqrt(nearest[0] * nearest[1])


def _zone(ratios: Sequence[tuple[float, float]]) -> npt.NDArray[np.bool_]:
    """Which of `_RATIOS` count as learned."""
    zone = np.zeros(len(_RATIOS), dtype=np.bool_)
    for low, high in ratios:
        first, last = np.searchsorted(_RATIOS, (math.log(low) - SAME, math.log(high) + SAME))
        zone[first:last] = True
    return zone
