"""Keeps a buffer below its byte cap: what gives way, and the gaps that tell it."""

from __future__ import annotations

import logging
import sqlite3
from collections import Counter
from collections.abc import Mapping

from pdm_edge.errors import StoreFullError
from pdm_edge.ports import Clock
from pdm_edge.records import Gap, Lane
from pdm_edge.store.evict import Eviction, Lost
from pdm_edge.store.file import BufferFile
from pdm_edge.store.leaving import remove
from pdm_edge.store.rows import to_stored
from pdm_edge.store.writing import RowWriter

logger = logging.getLogger(__name__)


class Room:
    """Makes room in one file. `in_flight` is through where each lane was handed out: those rows stay."""

    def __init__(self, file: BufferFile, writer: RowWriter, clock: Clock, counters: Counter[str]) -> None:
        self.eviction = Eviction()
        self._file = file
        self._writer = writer
        self._clock = clock
        self._counters = counters
        self._open_gaps: dict[tuple[Lane, bool], tuple[int, Gap]] = {}

    def make(self, in_flight: Mapping[Lane, int]) -> None:
        """Give up rows until the file is no longer crowded."""
        try:
            if not self._file.is_crowded:
                return
            while self._file.is_crowded and self.give_up(in_flight):
                continue
            self._file.shrink(emptied=False)
        except StoreFullError as error:
            # The disk, not the cap: what is written next may still fit, or be relieved.
            logger.warning("no room could be made: %s", error)

    def give_up(self, in_flight: Mapping[Lane, int]) -> bool:
        """Drop what was delivered, or a share of the least important rows; False if there are none."""
        self.eviction.spared = {seq for seq, _ in self._open_gaps.values()}
        self.eviction.in_flight = dict(in_flight)
        self._writer.forget()
        with self._file.transaction() as connection:
            if self.eviction.drop_delivered(connection):
                return True
            lost = self.eviction.give_up(connection, self._file.share_bytes)
            if lost is None:
                return False
            noted = self._note_gap(connection, lost)
        self._writer.keep()
        self._open_gaps[lost.lane, lost.thinned] = noted
        self._counters["evicted"] += lost.rows
        return True

    def _note_gap(self, connection: sqlite3.Connection, lost: Lost) -> tuple[int, Gap]:
        """Write the loss down, or widen the note of the last one if it has not been sent yet."""
        held = self._open_gaps.get((lost.lane, lost.thinned))
        rows, first, last = lost.rows, lost.first, lost.last
        waits = held is not None and held[0] > self.eviction.in_flight.get("event", 0)
        if held is not None and waits and remove(connection, "event", [held[0]]):
            rows += held[1].lost
            first, last = min(first, held[1].first or first), max(last, held[1].last or last)
        how = "every second row of the oldest" if lost.thinned else "oldest rows"
        why = f"buffer full: {how} of lane {lost.lane} given up"
        gap = Gap("buffer", "rows", rows, why, self._clock.stamp(), first=first, last=last)
        return self._writer.insert(connection, [to_stored(gap)]), gap
