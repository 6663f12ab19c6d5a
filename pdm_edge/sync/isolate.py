"""A row that the far end never takes must not hold up the others; a far end that takes nothing must.

A batch that is refused for what it holds is halved until a single row is left. That row is suspected, no
more: the far end may refuse everything, or have a bad day. Only if it takes other rows of the same lane in
between, `ROUNDS` times, and refuses this one each time, is the row set aside: kept in the file, counted,
told by a gap, and out of the way. Meanwhile the lane waits, and the others go on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from pdm_edge.delivery import Batch, Row
from pdm_edge.errors import BatchRefusedError
from pdm_edge.ports import Outbox, Uploader
from pdm_edge.records import Lane

logger = logging.getLogger(__name__)

ROUNDS: Final = 5
"""A far end that refuses every second batch by chance does so to one row in a thousand."""

_NEIGHBOURS: Final = 50
_PROBES: Final = 3


@dataclass(slots=True)
class _Suspect:
    """A row that was refused alone, and what was taken in between."""

    row: Row
    why: str
    refused: int = 0
    others_taken: int = 0
    elsewhere: bool = False

    def is_like(self, row: Row, why: str) -> bool:
        return (self.row.kind, self.row.subject, self.why) == (row.kind, row.subject, why)


class Isolation:
    """Hands out batches, smaller ones where some were refused; finds the rows that are to blame.

    Parameters
    ----------
    outbox, uploader
        Where rows come from and how they go.
    batch_rows
        Rows of a batch while nothing is refused.
    timeout_s
        Allowed for each attempt.
    first_pause_s, longest_pause_s
        How long a lane waits from one round to the next: twice as long each time.
    """

    def __init__(
        self,
        outbox: Outbox,
        uploader: Uploader,
        *,
        batch_rows: int,
        timeout_s: float,
        first_pause_s: float,
        longest_pause_s: float,
    ) -> None:
        self._outbox = outbox
        self._uploader = uploader
        self._batch_rows = batch_rows
        self._timeout_s = timeout_s
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._most_rows: dict[Lane, int] = {}
        self._suspects: dict[Lane, _Suspect] = {}
        self._convicted: dict[Lane, _Suspect] = {}
        self._held_until_s: dict[Lane, float] = {}

    def next_batch(self, max_rows: int, lanes: Sequence[Lane]) -> Batch | None:
        """As `Outbox.next_batch`, without the lanes that wait."""
        now_s = time.monotonic()
        for lane in [lane for lane, until_s in self._held_until_s.items() if until_s <= now_s]:
            del self._held_until_s[lane]
        open_lanes = [lane for lane in lanes if lane not in self._held_until_s]
        if not self._most_rows:
            return self._outbox.next_batch(max_rows, open_lanes)
        for lane in open_lanes:
            batch = self._outbox.next_batch(min(self._most_rows.get(lane, max_rows), max_rows), (lane,))
            if batch is not None:
                return batch
        return None

    @property
    def pause_s(self) -> float | None:
        """Time until the next lane is to be tried again, None if none waits."""
        if not self._held_until_s:
            return None
        return max(min(self._held_until_s.values()) - time.monotonic(), 0.0)

    def is_refused_whole(self, lane: Lane) -> bool:
        """Whether a row of the lane is refused, and no other was taken in the latest round."""
        suspect = self._suspects.get(lane)
        return suspect is not None and suspect.others_taken < suspect.refused

    def taken(self, batch: Batch) -> None:
        """A batch was delivered."""
        if not batch.rows:
            return
        for suspect in self._suspects.values():
            suspect.elsewhere = True
        lane = batch.lane
        suspected = self._suspects.get(lane)
        if suspected is not None and any(row.seq == suspected.row.seq for row in batch.rows):
            del self._suspects[lane]  # a bad day of the far end
        most = self._most_rows.get(lane)
        if most is not None:
            if 2 * most >= self._batch_rows:
                del self._most_rows[lane]
            else:
                self._most_rows[lane] = 2 * most

    def refused(self, batch: Batch, error: BatchRefusedError) -> int:
        """A batch was refused for what it holds; returns how many rows were set aside.

        Raises
        ------
        BatchRefusedError
            If there is no row to blame.
        SyncError
            If the link fails while neighbours are tried.
        """
        if not batch.rows:
            raise error
        if len(batch.rows) > 1:
            self._most_rows[batch.lane] = len(batch.rows) // 2
            return 0
        (row,) = batch.rows
        why = (error.what or str(error))[:300]
        suspect = self._suspects.get(batch.lane)
        if suspect is None or suspect.row.seq != row.seq:
            suspect = self._suspects[batch.lane] = _Suspect(row, why)
            logger.warning("sync: %s alone is refused: %s", _named(batch.gateway, row), why)
        suspect.refused, suspect.why = suspect.refused + 1, why
        if self._neighbour_is_taken(batch, suspect):
            suspect.others_taken += 1
        if suspect.others_taken < ROUNDS:
            self._hold(batch.lane, suspect)
            return 0
        self._outbox.set_aside(batch.lane, row.seq, f"refused {suspect.refused} times: {why}")
        logger.error("sync: %s is set aside: %s", _named(batch.gateway, row), why)
        self._convicted[batch.lane] = self._suspects.pop(batch.lane)
        return 1

    def _hold(self, lane: Lane, suspect: _Suspect) -> None:
        """Longer each time; without a pause where a row like this one was convicted before."""
        known = self._convicted.get(lane)
        if known is not None and known.is_like(suspect.row, suspect.why) and suspect.others_taken:
            return
        pause_s = min(self._first_pause_s * 2 ** min(suspect.refused - 1, 20), self._longest_pause_s)
        self._held_until_s[lane] = time.monotonic() + pause_s

    def _neighbour_is_taken(self, batch: Batch, suspect: _Suspect) -> bool:
        """Whether the far end takes something else: rows behind this one, each alone.

        They stay in the buffer and come again: a second time changes nothing at the far end.
        """
        if batch.want:  # what was asked for has no neighbours that may be sent; others prove it
            proven, suspect.elsewhere = suspect.elsewhere, False
            return proven
        behind = self._outbox.peek(batch.lane, suspect.row.seq, _NEIGHBOURS)
        for row in _to_try(suspect.row, behind.rows if behind is not None else ()):
            assert behind is not None
            probe = replace(behind, after_seq=batch.after_seq, rows=(row,))
            try:
                receipt = self._uploader.send(probe, self._timeout_s)
            except BatchRefusedError:
                continue
            # It settles nothing here, but may bring wants.
            self._outbox.settle(replace(receipt, lane=batch.lane, through_seq=0, want=""))
            return True
        return False


def _to_try(suspected: Row, behind: Sequence[Row]) -> list[Row]:
    """A few rows: the next, the next of another kind or subject, and one farther on."""
    if not behind:
        return []
    about = (suspected.kind, suspected.subject)
    other = next((row for row in behind if (row.kind, row.subject) != about), behind[0])
    return list({row.seq: row for row in (behind[0], other, behind[-1])}.values())[:_PROBES]


def _named(gateway: str, row: Row) -> str:
    return f"row {gateway}/{row.stamp.boot_id}/{row.seq} ({row.lane}: {row.kind} of {row.subject})"
