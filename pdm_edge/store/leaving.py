"""Rows leave the file. Their numbers never come back, so the highest is noted as they go."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from pdm_edge.records import LANES, Lane

_GONE: Final = "UPDATE lanes SET gone = gone + ?, gone_through = max(gone_through, ?) WHERE lane = ?"


def remove(connection: sqlite3.Connection, lane: Lane, numbers: Sequence[int]) -> int:
    """Remove rows by their numbers, in ascending order; return how many there were."""
    if not numbers:
        return 0
    removed = connection.executemany(
        f"DELETE FROM outbox_{lane} WHERE seq = ?", [(seq,) for seq in numbers]
    ).rowcount
    connection.execute(_GONE, (removed, numbers[-1], LANES.index(lane)))
    return removed


def remove_through(connection: sqlite3.Connection, lane: Lane, seq: int) -> int:
    """Remove a lane's rows up to a number that was given; return how many there were."""
    removed = connection.execute(f"DELETE FROM outbox_{lane} WHERE seq <= ?", (seq,)).rowcount
    if removed:
        connection.execute(_GONE, (removed, seq, LANES.index(lane)))
    return removed
