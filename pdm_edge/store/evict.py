"""Which rows a full buffer gives up. Functions on an open transaction.

Rows that were delivered and are kept in case the far end asks again go first: that is no loss. Then
the lanes from the lowest up: waveforms oldest first, spectra and features by thinning (every second
row of each series, from the oldest on, so that a long outage is told coarsely instead of not at all),
events and at last alarms oldest first. A batch that is on its way stays.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from pdm_edge.records import LANES, Lane
from pdm_edge.store.leaving import remove, remove_through

_ROWS: Final = 500
_THINNED: Final[tuple[Lane, ...]] = ("feature", "spectrum")


@dataclass(frozen=True, slots=True)
class Lost:
    """Rows of a lane that were given up, between two numbers."""

    lane: Lane
    rows: int
    first: int
    last: int
    thinned: bool


class Eviction:
    """Gives up rows, one share at a time."""

    def __init__(self) -> None:
        self._thinned_through: dict[Lane, int] = {}
        self.in_flight: dict[Lane, int] = {}
        self.spared: set[int] = set()

    def drop_delivered(self, connection: sqlite3.Connection) -> int:
        """Remove rows that are only kept for the far end to ask again; return their number."""
        dropped = sum(
            remove_through(connection, lane, sent)
            for lane, sent in connection.execute("SELECT name, sent_seq FROM lanes WHERE kept").fetchall()
        )
        if dropped:
            connection.execute("UPDATE lanes SET kept = 0")
        return dropped

    def give_up(self, connection: sqlite3.Connection, share_bytes: int) -> Lost | None:
        """Remove about `share_bytes` of the least important rows; None if there are none left."""
        for lane in reversed(LANES):
            lost = self._thin(connection, lane) if lane in _THINNED else None
            lost = lost or self._oldest(connection, lane, share_bytes)
            if lost is not None:
                connection.execute(
                    "UPDATE lanes SET evicted = evicted + ? WHERE lane = ?", (lost.rows, LANES.index(lane))
                )
                return lost
        return None

    def _thin(self, connection: sqlite3.Connection, lane: Lane) -> Lost | None:
        """Every second row of each series among the next rows; from the oldest again at the end."""
        for after in (max(self._thinned_through.get(lane, 0), self._floor(lane)), self._floor(lane)):
            rows = connection.execute(
                "SELECT seq, n FROM"
                " (SELECT seq, row_number() OVER (PARTITION BY header ORDER BY seq) AS n FROM"
                f" (SELECT seq, header FROM outbox_{lane} WHERE seq > ? ORDER BY seq LIMIT ?)) ORDER BY seq",
                (after, 2 * _ROWS),
            ).fetchall()
            gone = [seq for seq, n in rows if n % 2 == 0]
            # A piece too short to be thinned: begin again with the oldest.
            if len(gone) >= _ROWS // 10:
                remove(connection, lane, gone)
                self._thinned_through[lane] = rows[-1][0]
                return Lost(lane, len(gone), gone[0], gone[-1], thinned=True)
        return None

    def _oldest(self, connection: sqlite3.Connection, lane: Lane, share_bytes: int) -> Lost | None:
        found = connection.execute(
            f"SELECT seq, length(body) FROM outbox_{lane} WHERE seq > ? ORDER BY seq LIMIT ?",
            (self._floor(lane), _ROWS),
        ).fetchall()
        gone: list[int] = []
        freed = 0
        for seq, size in found:
            if seq in self.spared:
                continue
            gone.append(seq)
            freed += size + 50
            if freed >= share_bytes:
                break
        if not gone:
            return None
        remove(connection, lane, gone)
        return Lost(lane, len(gone), gone[0], gone[-1], thinned=False)

    def _floor(self, lane: Lane) -> int:
        return self.in_flight.get(lane, 0)
