"""A new model beside the old one: it scores, it does not speak, until the evidence is in.

After enough windows it takes over if it is as quiet as the old one where the old one is quiet. For
as many windows again the old one is scored beside it; if the new one turns out loud where the old
one stays quiet, the old one comes back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from pdm_edge.records import Score

Verdict: TypeAlias = Literal["wait", "switch", "reject"]

WINDOWS: Final = 500
LOUDER: Final = 0.02
"""Share of windows that the new model may call high while the old one calls them healthy."""


@dataclass(slots=True)
class Comparison:
    """Counts of windows that both models scored."""

    windows: int = 0
    only_new_high: int = 0
    only_old_high: int = 0
    both_high: int = 0
    unscored: int = 0
    needed: int = WINDOWS

    def observe(self, old: Score, new: Score) -> Verdict:
        """Count one window; say what is to be done with the new model."""
        if old.value != old.value:  # nothing to compare with
            return "wait"
        self.windows += 1
        if new.value != new.value:
            self.unscored += 1
        elif new.value >= 1 and old.value >= 1:
            self.both_high += 1
        elif new.value >= 1:
            self.only_new_high += 1
        elif old.value >= 1:
            self.only_old_high += 1
        return self._verdict()

    def _verdict(self) -> Verdict:
        if self.only_new_high + self.unscored > LOUDER * self.needed:
            return "reject"
        # A model that is silent where the old one sees a fault is no better: it has not seen one.
        if self.only_old_high > LOUDER * self.needed:
            return "reject"
        return "switch" if self.windows >= self.needed else "wait"

    def __str__(self) -> str:
        return (
            f"{self.windows} of {self.needed} windows; high in both {self.both_high}, only in the new "
            f"{self.only_new_high}, only in the old {self.only_old_high}, "
            f"not scored by the new {self.unscored}"
        )
