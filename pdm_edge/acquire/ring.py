"""The last seconds of a sensor, kept so that an alarm can show what led to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from pdm_edge.records import Waveform

_ROW_S: Final = 1.0


class EvidenceRing:
    """Holds one sensor's waveforms of `before_s`; gives them out, and `after_s` more, for an alarm.

    What it gives out is joined to pieces of about a second and carries the alarm's id.
    """

    def __init__(self, before_s: float, after_s: float) -> None:
        self._before_s = before_s
        self._after_s = after_s
        self._held: deque[Waveform] = deque()
        self._held_samples = 0
        self._alarm = ""
        self._due: list[Waveform] = []
        self._after_left_s: float | None = None
        self._left_samples = 0

    def push(self, waveform: Waveform) -> list[Waveform]:
        """Take a waveform in; return evidence that is complete with it."""
        if self._after_left_s is not None:
            self._left_samples = round(self._after_left_s * waveform.sample_rate_hz)
            self._after_left_s = None
        if self._left_samples > 0:
            self._due.append(waveform)
            self._left_samples -= waveform.n_samples
            due_s = sum(each.duration_s for each in self._due)
            return self._given_out() if self._left_samples <= 0 or due_s >= _ROW_S else []
        # Counted in samples: sums of durations would be off by one waveform now and then.
        wanted = round(self._before_s * waveform.sample_rate_hz)
        self._held.append(waveform)
        self._held_samples += waveform.n_samples
        while self._held and self._held_samples - self._held[0].n_samples >= wanted:
            self._held_samples -= self._held.popleft().n_samples
        return []

    def release(self, alarm: str) -> list[Waveform]:
        """An alarm: return what led to it; what follows comes from `push`."""
        out = self._given_out()
        self._alarm, self._after_left_s = alarm, self._after_s
        self._due = list(self._held)
        self._held.clear()
        self._held_samples = 0
        return out + self._given_out()

    def rest(self) -> list[Waveform]:
        """Evidence that waits for its piece to be full."""
        self._left_samples, self._after_left_s = 0, None
        return self._given_out()

    def _given_out(self) -> list[Waveform]:
        out = [replace(piece, alarm=self._alarm) for piece in joined(self._due)] if self._due else []
        self._due = []
        return out


def joined(waveforms: Sequence[Waveform]) -> list[Waveform]:
    """Contiguous waveforms of one sensor as fewer, of about a second each."""
    out: list[Waveform] = []
    group: list[Waveform] = []
    for waveform in waveforms:
        if group and not (_follows(group[-1], waveform) and sum(w.duration_s for w in group) < _ROW_S):
            out.append(_one(group))
            group = []
        group.append(waveform)
    if group:
        out.append(_one(group))
    return out


def _follows(a: Waveform, b: Waveform) -> bool:
    return (
        b.first_sample == a.first_sample + a.n_samples
        and (a.sample_rate_hz, a.unit, a.axes, a.quality) == (b.sample_rate_hz, b.unit, b.axes, b.quality)
        and (a.stamp.boot_id, a.stamp.clock_trusted) == (b.stamp.boot_id, b.stamp.clock_trusted)
    )


def _one(group: Sequence[Waveform]) -> Waveform:
    if len(group) == 1:
        return group[0]
    return replace(group[0], samples=np.concatenate([w.samples for w in group], axis=1))
