"""Readings of the same quantities over and over, checked as fully as any, at a seventh of the cost."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import repeat
from typing import Final

from pdm_edge.errors import RecordError
from pdm_edge.records import GOOD, Reading, Stamp

_SET_FIELD: Final = [Reading.__dict__[name].__set__ for name in Reading.__slots__]
_ANY_STAMP: Final = Stamp(0, 0, "plan", clock_trusted=False)


class ReadingPlan:
    """Makes good readings of fixed quantities.

    What `Reading` checks is checked here too: sensor, quantity and unit (the tuples of `names`)
    once, when the plan is made; stamp and values in `good`, each time. What is spared is checking
    the same names again, and a call for every record.

    Raises
    ------
    RecordError
        As `Reading` does.
    """

    __slots__ = ("_quantities", "_sensors", "_units")

    def __init__(self, names: Sequence[tuple[str, str, str]]) -> None:
        patterns = [Reading(sensor, quantity, 0.0, unit, _ANY_STAMP) for sensor, quantity, unit in names]
        self._sensors: Final = tuple(pattern.sensor for pattern in patterns)
        self._quantities: Final = tuple(pattern.quantity for pattern in patterns)
        self._units: Final = tuple(pattern.unit for pattern in patterns)

    def good(self, values: Sequence[float], stamp: Stamp) -> list[Reading]:
        """A reading of each value, all of the time `stamp` and of quality good.

        Raises
        ------
        RecordError
            If there is not one value for each quantity, one is not finite, or `stamp` is none.
        """
        n = len(self._sensors)
        if len(values) != n:
            raise RecordError(f"{len(values)} values for {n} quantities")
        if not isinstance(stamp, Stamp):
            raise RecordError(f"readings of {self._sensors[:1]} have no time stamp")
        if not math.isfinite(sum(values)) and not all(map(math.isfinite, values)):
            raise RecordError("a value that is not finite cannot be good")
        readings = list(map(object.__new__, repeat(Reading, n)))
        columns: tuple[Sequence[object] | repeat[object], ...] = (
            self._sensors,
            self._quantities,
            values,
            self._units,
            repeat(stamp),
            repeat(GOOD),
        )
        for set_field, column in zip(_SET_FIELD, columns, strict=True):
            deque(map(set_field, readings, column), maxlen=0)
        return readings
