"""The rows of a lane in a damaged file, read around the places that cannot be read."""

from __future__ import annotations

import itertools
import logging
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from pdm_edge.records import Lane

logger = logging.getLogger(__name__)

COLUMNS: Final = "seq, header, after_ns, body"
BEYOND: Final = 1 << 53
"""Higher than any number."""

CHUNK_BYTES: Final = 1 << 20
"""About how much is in memory at a time."""

_CHUNK: Final = 2000
Values: TypeAlias = tuple[Any, ...]


class LaneReader:
    """Reads a lane once; afterwards `holes` and `end_is_known` say what was missed.

    Parameters
    ----------
    highest
        No number is higher; `BEYOND` if that is not known.
    fits
        Whether a row can have been written so; one that does not counts as one that cannot be read.
    is_end
        Whether the first or last row, which may not fit, has a number that can be believed.
    """

    def __init__(
        self,
        source: sqlite3.Connection,
        lane: Lane,
        highest: int,
        fits: Callable[[Values], bool],
        is_end: Callable[[Values], bool],
    ) -> None:
        self.holes: list[tuple[int, int]] = []
        """Numbers of the rows before and behind what could not be read; 0 and `BEYOND` for none."""
        self.last = 0
        """The highest number that was seen."""
        self.end_is_known = True
        self._source = source
        self._lane = lane
        self._highest = highest
        self._fits = fits
        self._is_end = is_end

    def rows(self) -> Iterator[Values]:
        """What can be read, in order of its numbers."""
        before, is_broken = 0, False
        for row in self._found():
            if row is None or not self._fits(row):
                is_broken = True
                continue
            if is_broken:
                self.holes.append((before, row[0]))
            before, is_broken = row[0], False
            yield row
        if is_broken:
            self.holes.append((before, BEYOND))
        self.last = max(self.last, before)

    def _found(self) -> Iterator[Values | None]:
        """Rows, and None for each place that cannot be read."""
        low, high = self._end("ASC"), self._end("DESC")
        self.end_is_known = high is not None
        if low == 0 or high == 0:
            return  # empty
        low, high = low or 0, high or self._highest
        self.last = high if self.end_is_known else 0
        limit, is_behind_row = _CHUNK, False
        while low <= high:
            found = self._fetch(low, high, limit, is_behind_row)
            if found:
                yield from found
                low, limit, is_behind_row = found[-1][0] + 1, _CHUNK, True
            elif found is not None:
                return
            elif limit > 1:
                limit //= 8
            else:
                yield None
                low, limit, is_behind_row = self._behind_damage(low, high), _CHUNK, False

    def _fetch(self, low: int, high: int, limit: int, is_behind_row: bool = False) -> list[Values] | None:
        """Rows from a number on, None if they cannot be read.

        In a page where a number is damaged, SQLite may find its way to a row too far on without an error.
        So what is known to be right behind a row is read from that row on.
        """
        begin, limit = low - is_behind_row, max(limit, 1) + is_behind_row
        try:
            query = f"SELECT {COLUMNS} FROM outbox_{self._lane} WHERE seq >= ? ORDER BY seq LIMIT ?"
            cursor = self._source.execute(query, (begin, limit))
            found, size = [], 0
            for row in cursor:
                found.append(row)
                size += len(row[3]) if isinstance(row[3], bytes) else 0
                if size >= CHUNK_BYTES and len(found) > is_behind_row:
                    break
            cursor.close()
        except sqlite3.Error:
            return None
        # What is no error to SQLite may still be none of our rows.
        if is_behind_row and (not found or found.pop(0)[0] != begin):
            return None
        numbers = [row[0] for row in found]
        in_order = all(a < b for a, b in itertools.pairwise(numbers))
        return found if in_order and (not numbers or low <= numbers[0] <= numbers[-1] <= high) else None

    def _behind_damage(self, low: int, high: int) -> int:
        """The lowest number from which on a row can be read again, where `low` cannot."""
        step = 1
        while low + step <= high and self._fetch(low + step, high, 1) is None:
            step *= 2
        fails, works = step // 2, step
        while works - fails > 1:
            middle = (fails + works) // 2
            if self._fetch(low + middle, high, 1) is None:
                fails = middle
            else:
                works = middle
        return low + works

    def _end(self, order: str) -> int | None:
        """The first or the last number; 0 if there are no rows, None if it cannot be read."""
        try:
            found = self._source.execute(
                f"SELECT {COLUMNS} FROM outbox_{self._lane} ORDER BY seq {order} LIMIT 1"
            ).fetchone()
        except sqlite3.Error as error:
            logger.error("salvage: lane %s: %s", self._lane, error)
            return None
        if found is None:
            return 0
        return int(found[0]) if 0 < found[0] <= self._highest and self._is_end(found) else None
