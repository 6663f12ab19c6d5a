"""A standing alarm speaks again once its evidence names a part, or what could wait can wait no longer."""

from __future__ import annotations

from typing import Final

from pdm_edge.records import Advisory, Health

WINDOWS: Final = 3
"""Windows in a row that must name the same part, or be beyond a limit: once is chance."""


def named_part(health: Health | Advisory | None) -> str:
    """The part that the evidence names, empty if it names none: bearing lines, the only levels in dB."""
    return next((item.what for item in health.evidence if item.unit == "db"), "") if health else ""


def beyond_limit(health: Health | Advisory | None) -> bool:
    """Whether the latest window is beyond a limit by itself: ISO zone, score or overall level."""
    if health is None:
        return False
    reached = any(item.unit in ("1", "times its baseline") and item.ratio >= 1 for item in health.evidence)
    return reached or health.zone in ("C", "D")


def only_in_mean(health: Health | Advisory | None) -> bool:
    """Whether nothing but the mean of many windows speaks: that can wait for the next round."""
    in_mean = health is not None and any(item.unit == "mean" for item in health.evidence)
    return in_mean and not beyond_limit(health)


class PartWatch:
    """Watches a standing alarm for what its advisory did not say."""

    def __init__(self) -> None:
        self._could_wait, self._beyond = False, 0
        self._told: set[str] = set()
        self._seen, self._times = "", 0

    def resume(self, told: tuple[str, ...], *, could_wait: bool) -> None:
        """An alarm that stood before a restart goes on; these parts were named already."""
        self._told, self._could_wait = set(told), could_wait

    def told(self, health: Health | None) -> None:
        """An advisory of a new state went out, with this evidence."""
        self._told = {named_part(health)}
        self._times = 0
        self._could_wait, self._beyond = only_in_mean(health), 0

    def observe(self, health: Health) -> bool:
        """Whether the evidence now names a part, for some windows already, that was not told yet; or single
        windows are beyond a limit since an alert that could wait."""
        self._beyond = self._beyond + 1 if beyond_limit(health) else 0
        if self._could_wait and self._beyond >= WINDOWS:
            self.told(health)
            return True
        part = named_part(health)
        self._times = self._times + 1 if part == self._seen else 1
        self._seen = part
        if self._times < WINDOWS or not part or part in self._told:
            return False
        self._told.add(part)
        return True
