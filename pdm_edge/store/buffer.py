"""The durable buffer: what `write` has returned for is on disk, and leaves on a receipt only.

One SQLite file in WAL mode with ``synchronous=FULL``: measured over 25 real power cuts, NORMAL lost
rows that it had acknowledged, FULL never. A write is one transaction, so a batch costs one sync.

The file has a byte cap, its write-ahead log included. Before the cap is reached the lowest lane
gives way (`evict`), alarms last, and every loss leaves a Gap that is itself delivered. A damaged
file, found at start or later, is set aside; what can be read of it goes on in a new one.

Thread use: one connection behind one lock; any thread may call anything.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from pdm_edge.delivery import Batch, Receipt, Want
from pdm_edge.errors import StoreError, StoreFullError, SyncError
from pdm_edge.ports import Clock
from pdm_edge.records import LANES, FeatureVector, Gap, Lane, Record
from pdm_edge.store import reading, refused, settling
from pdm_edge.store.file import SHARES, BufferFile, DamagedError
from pdm_edge.store.opening import is_damage
from pdm_edge.store.room import Room
from pdm_edge.store.rows import Stored, to_stored
from pdm_edge.store.salvage import leave_numbers_out, salvage
from pdm_edge.store.status import BufferStatus, query_status
from pdm_edge.store.trend import Trend
from pdm_edge.store.writing import RowWriter

logger = logging.getLogger(__name__)

_URGENT: Final = frozenset({"alarm", "event"})
_PENDING_MOST: Final = 5000
_T = TypeVar("_T")


class Buffer:
    """A gateway's buffer file.

    Parameters
    ----------
    path
        The file; made if it is not there.
    gateway
        Id of this gateway; a file of another one is refused.
    max_mb
        Byte cap in MB (10^6 bytes), write-ahead log and ballast included.
    clock
        Stamps the gaps that eviction leaves.
    commit_s
        Longest time for which a write of nothing but features, spectra and waveforms may wait for
        others, to spare the flash. That much of it is lost if the power goes. 0: every write is
        durable when it returns, as those with alarms and events always are.
    on_request
        Lanes that are sent only when the far end asks for them.

    Raises
    ------
    StoreError
        If the file is foreign, of another gateway, of a newer version, or cannot be opened. A
        damaged buffer is no error: it is set aside under another name, what can be read of it is
        kept, and a Gap says so.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        gateway: str,
        max_mb: int = 512,
        clock: Clock,
        commit_s: float = 0.0,
        on_request: Sequence[Lane] = (),
    ) -> None:
        self.path = Path(path)
        self.gateway = gateway
        self.counters: Counter[str] = Counter()
        self._clock = clock
        self._commit_s = commit_s
        self._on_request = frozenset(on_request)
        self._lock = threading.RLock()
        self._trend = Trend(max_mb * 1_000_000)
        self._pending: list[FeatureVector | Stored] = []
        self._timer: threading.Timer | None = None
        self._link_error: str | None = None  # not known yet
        self._closed = False
        self._writer = RowWriter()
        self._file = BufferFile(self.path, gateway, max_mb)
        try:
            self._start(self._file.set_aside)
        except BaseException:
            self._file.close()
            raise

    def write(self, records: Sequence[Record]) -> None:
        """Store all records or none; when this returns they survive a power cut (but see `commit_s`).

        Raises
        ------
        StoreFullError
            If the disk is full, or the cap cannot be kept by eviction. Nothing was stored.
        StoreError
            If the file cannot be written. Nothing was stored.
        """
        if not records:
            return
        rows = [record if type(record) is FeatureVector else to_stored(record) for record in records]
        with self._lock:
            if self._may_wait(rows):
                self._pending += rows
                self._start_timer()
            else:
                self._mended(lambda: self._commit([*self._pending, *rows]))
                self._forget_pending()
            self.counters["written"] += len(rows)

    def flush(self) -> None:
        """Make durable what waits for `commit_s`; see `write` for what is raised."""
        with self._lock:
            if self._pending:
                self._mended(lambda: self._commit(self._pending))
                self._forget_pending()

    def next_batch(self, max_rows: int, lanes: Sequence[Lane] = LANES) -> Batch | None:
        """The oldest rows of the most urgent of `lanes` that has any; see `pdm_edge.ports.Outbox`."""
        with self._lock:
            self.flush()
            return self._mended(lambda: self._next_batch(max_rows, lanes))

    def settle(self, receipt: Receipt) -> int:
        """Take a receipt: the far end has these rows, and may want others. Return the number of rows.

        Raises
        ------
        SyncError
            If the receipt is of another gateway, or for rows that were never handed out.
        """
        if receipt.gateway != self.gateway:
            raise SyncError(f"receipt of gateway {receipt.gateway!r}, this is {self.gateway!r}")
        with self._lock:
            if receipt.through_seq == 0:
                self._mended(lambda: self._relieved(lambda: self._note_wants(receipt.wants)))
                return 0
            batch = self._handed_out.get((receipt.lane, receipt.want))
            handed_out = batch.through_seq if batch is not None else 0
            if batch is None or receipt.through_seq > handed_out:
                raise SyncError(
                    f"receipt through {receipt.through_seq} in lane {receipt.lane}, sent only to {handed_out}"
                )
            settled = self._mended(lambda: self._relieved(lambda: self._settle(receipt, batch)))
            if settled.gone or batch.want or not batch.rows:
                self._file.shrink(emptied=batch.lane == "waveform" or not batch.rows)
            return settled.rows

    def poll(self) -> Batch:
        """A batch without rows: it says how far the alarms were delivered, and lets the far end ask."""
        with self._lock:
            (sent,) = self._file.connection.execute("SELECT sent_seq FROM lanes WHERE lane = 0").fetchone()
        return Batch(self.gateway, "alarm", sent, (), poll=True)

    def peek(self, lane: Lane, after_seq: int, max_rows: int) -> Batch | None:
        """Rows of a lane behind a number; they do not count as handed out."""
        with self._lock:
            return self._mended(
                lambda: reading.next_in_lane(
                    self._file.connection, self.gateway, lane, max_rows, after=after_seq
                )
            )

    def set_aside(self, lane: Lane, seq: int, why: str) -> None:
        """Take a row that the far end always refuses out of its lane, into the table ``refused``; tell it."""
        with self._lock:
            self._mended(lambda: self._relieved(lambda: self._set_aside(lane, seq, why)))

    def release_refused(self) -> int:
        """Put the rows that were set aside back into their lanes, under new numbers; return their number."""
        with self._lock:
            return self._mended(lambda: self._relieved(self._release_refused))

    def status(self) -> BufferStatus:
        """How much is waiting, in which lane, since when."""
        with self._lock:
            self.flush()
            return self._mended(lambda: query_status(self._file.connection, self.path))

    def sent_on(self, day: str) -> int:
        """Bytes sent on a day (``2026-11-24``, UTC), as noted by `note_sent`."""
        with self._lock:
            return settling.sent_on(self._file.connection, day)

    def note_sent(self, day: str, n_bytes: int) -> None:
        """Add to the bytes sent on a day; a month of days is kept."""
        with self._lock, self._file.transaction() as connection:
            settling.note_sent(connection, day, n_bytes)

    def note_failure(self, text: str) -> None:
        """What keeps the link down, for those who read the status; empty when it is up."""
        with self._lock:
            if text != self._link_error:
                with self._file.transaction() as connection:
                    connection.execute("UPDATE link SET last_error = ?", (text,))
                self._link_error = text

    def close(self) -> None:
        """Make everything durable and close the file."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._stop_timer()
            try:
                self.flush()
                self._trend.end_minutes()
                self._insert([], is_last=True)
            except StoreError as error:
                logger.error("at closing, %d rows were not stored: %s", len(self._pending), error)
            finally:
                self._file.close()

    # damage

    def _start(self, aside: Path | None) -> None:
        """Begin on a file that was just opened; `aside` is the damaged one that it replaces."""
        known_last = self._writer.last_seq
        self._writer = RowWriter()
        self._writer.load(self._file.connection)
        self._room = Room(self._file, self._writer, self._clock, self.counters)
        self._handed_out: dict[tuple[Lane, str], Batch] = {}
        self._pace = settling.Pace()
        self._link_error = None
        self._trend.forget_columns()
        if aside is not None:
            found = salvage(aside, self._file.connection, known_last)
            self._writer.load(self._file.connection)
            self.counters["set aside"] += 1
        try:
            self._tell_lost_log()
        except StoreError as error:
            logger.error("a damaged log is told before the next write: %s", error)
        settling.mark_on_request(self._file, self._on_request)
        if aside is not None:
            why = f"the buffer file was damaged; it is kept as {aside.name}; {found.told}"
            self._tell(Gap("buffer", "rows", found.lost, why, self._clock.stamp(), found.first, found.last))

    def _tell_lost_log(self) -> None:
        """Before anything is written: numbers may have been given of which nothing is known any more."""
        if not self._file.lost_commits:
            return

        def leave_out() -> int:
            with self._file.transaction() as connection:
                return leave_numbers_out(connection)

        last = self._relieved(leave_out)
        why = f"the log of the buffer was damaged; its last {self._file.lost_commits} commits are lost"
        self._file.lost_commits = 0
        self._writer.load(self._file.connection)
        self.counters["log damaged"] += 1
        self._tell(Gap("buffer", "rows", 0, why, self._clock.stamp(), first=last + 1))

    def _tell(self, gap: Gap) -> None:
        try:
            self._commit([to_stored(gap)])
        except StoreError as error:
            logger.error("the loss is told later: %s", error)
            self._pending.append(to_stored(gap))

    def _begin_again(self, *, condemned: bool = False) -> None:
        aside = self._file.renew(condemned=condemned)
        try:
            self._start(aside)
        except sqlite3.Error as error:
            raise self._file.explained(error) from error

    def _mended(self, work: Callable[[], _T]) -> _T:
        """Do it; if the file turns out to be damaged, begin a new one and do it again."""
        if self._file.bring_back():
            self.counters["brought back"] += 1
        if self._file.is_suspect:
            self._begin_again()
        for found_sound in (False, True):
            try:
                self._tell_lost_log()
                return work()
            except (DamagedError, sqlite3.Error) as error:
                if isinstance(error, sqlite3.Error) and not is_damage(error):
                    raise self._file.explained(error) from error
                logger.error("%s: %s", self.path, error)
            # SQLite's own check does not look at everything: the second time it is not asked.
            self._begin_again(condemned=found_sound)
        return work()

    # writing

    def _commit(self, rows: Sequence[FeatureVector | Stored]) -> None:
        self._room.make(self._in_flight())
        self._relieved(lambda: self._insert(rows))

    def _insert(self, rows: Sequence[FeatureVector | Stored], *, is_last: bool = False) -> None:
        self._writer.forget()
        with self._file.transaction() as connection:
            self._writer.insert(connection, rows)
            if is_last:
                self._writer.note_last(connection)
            self._trend.write(connection)
            self._file.note_written(self._writer.inserted_bytes)
        self._trend.written()
        self._trend.add(self._writer.keep())

    def _relieved(self, work: Callable[[], _T]) -> _T:
        """Do it; if it does not fit, give up rows and do it once more."""
        try:
            return work()
        except StoreFullError as error:
            self._file.relieve()
            try:
                if not self._room.give_up(self._in_flight()):
                    raise
            except StoreFullError:
                raise error from None
        return work()

    def _in_flight(self) -> dict[Lane, int]:
        """Through where each lane was handed out: those rows stay."""
        return {lane: batch.through_seq for (lane, want), batch in self._handed_out.items() if not want}

    def _may_wait(self, rows: Sequence[FeatureVector | Stored]) -> bool:
        if self._commit_s <= 0 or len(self._pending) + len(rows) > _PENDING_MOST:
            return False
        return not any(row.about.lane in _URGENT for row in rows if type(row) is Stored)

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(self._commit_s, self._time_is_up)
            self._timer.daemon = True
            self._timer.start()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_is_up(self) -> None:
        with self._lock:
            self._timer = None
            if self._closed:
                return
            try:
                self.flush()
            except StoreError as error:
                self.counters["write failures"] += 1
                logger.error("%d rows wait in memory: %s", len(self._pending), error)
                self._start_timer()

    def _forget_pending(self) -> None:
        self._pending = []
        self._stop_timer()

    # refused rows

    def _set_aside(self, lane: Lane, seq: int, why: str) -> None:
        self._writer.forget()
        with self._file.transaction() as connection:
            most_bytes = self._file.share_bytes * SHARES
            gap = refused.set_aside(connection, lane, seq, why, self._clock.stamp(), most_bytes)
            if gap is not None:
                self._writer.insert(connection, [to_stored(gap)])
        self._writer.keep()
        self.counters["set aside by the far end"] += 1

    def _release_refused(self) -> int:
        self._writer.forget()
        with self._file.transaction() as connection:
            rows = refused.release(connection)
            if rows:
                self._writer.insert(connection, rows)
        self._writer.keep()
        return len(rows)

    # reading

    def _note_wants(self, wants: Sequence[Want]) -> None:
        if wants or self._link_error != "":
            with self._file.transaction() as connection:
                settling.add_wants(connection, wants)
                connection.execute("UPDATE link SET last_error = ''")
            self._link_error = ""

    def _next_batch(self, max_rows: int, lanes: Sequence[Lane]) -> Batch | None:
        connection = self._file.connection
        on_request = {
            name for (name,) in connection.execute("SELECT name FROM lanes WHERE on_request").fetchall()
        }
        for lane in LANES:
            if lane not in lanes:
                continue
            batch = reading.wanted(connection, self.gateway, lane, max_rows)
            if batch is None and lane not in on_request:
                batch = reading.next_in_lane(connection, self.gateway, lane, max_rows)
            if batch is not None:
                self._handed_out[lane, batch.want] = batch
                self._pace.handed_out(batch, max_rows)
                return batch
        return None

    def _settle(self, receipt: Receipt, batch: Batch) -> settling.Settled:
        lane, through = receipt.lane, receipt.through_seq
        with self._file.transaction() as connection:
            settling.add_wants(connection, receipt.wants)
            if batch.want:
                settled = settling.settle_want(connection, batch, through)
            else:
                settled = settling.settle_lane(connection, batch, through)
            rate = self._pace.settled(batch, settled.rows)
            settling.note_receipt(connection, lane, settled, rate, self._clock.stamp().utc_ns)
            if self._link_error != "":
                connection.execute("UPDATE link SET last_error = ''")
        self._link_error = ""
        if batch.want and through >= batch.through_seq:
            del self._handed_out[batch.lane, batch.want]
        return settled
