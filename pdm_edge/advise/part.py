"""An alarm that could name no part when it rose says so later, once the evidence does."""

from __future__ import annotations

from typing import Final

from pdm_edge.records import Advisory, Health

WINDOWS: Final = 3
"""Windows in a row that must name the same part: one line that stands out once is chance."""


def named_part(health: Health | Advisory | None) -> str:
    """The part that the evidence names, empty if it names none: bearing lines, the only levels in dB."""
    return next((item.what for item in health.evidence if item.unit == "db"), "") if health else ""


class PartWatch:
    """Watches a standing alarm for a part that its advisory did not name."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._seen, self._times = "", 0

    def resume(self, told: tuple[str, ...]) -> None:
        """An alarm that stood before a restart goes on; these parts were named already."""
        self._told = set(told)

    def told(self, health: Health | None) -> None:
        """An advisory of a new state went out, with this evidence."""
        self._told = {named_part(health)}
        self._times = 0

    def observe(self, health: Health) -> bool:
        """Whether the evidence now names a part, for some windows already, that was not told yet."""
        part = named_part(health)
        self._times = self._times + 1 if part == self._seen else 1
        self._seen = part
        if self._times < WINDOWS or not part or part in self._told:
            return False
        self._told.add(part)
        return True
