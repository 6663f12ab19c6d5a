"""The thread that empties the buffer when there is a link, and waits politely when there is none."""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass, replace
from typing import Final

from pdm_edge.delivery import Batch, Receipt
from pdm_edge.errors import BatchRefusedError, PdmError, SyncError, SyncRefusedError
from pdm_edge.ports import Outbox, Uploader
from pdm_edge.records import LANES
from pdm_edge.sync.budget import Budget, Logbook
from pdm_edge.sync.isolate import Isolation

logger = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
POLL_S: Final = 900.0
"""An idle link is used this often, so that the far end can ask for something."""

_IDLE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """A snapshot of the link. ``set_aside`` rows were refused by the far end time and again."""

    link_up: bool = False
    rows_sent: int = 0
    batches: int = 0
    failures: int = 0
    last_error: str = ""
    last_success_utc_ns: int | None = None
    set_aside: int = 0


class SyncWorker:
    """Sends batches, one after the other, until the outbox is empty.

    After a failure it pauses, twice as long each time up to `longest_pause_s`, with jitter, so that
    a fleet does not come back as one; the next batch is half as large, for a link that is too slow
    for whole ones. A new alarm ends a pause. Nothing leaves the outbox without a receipt, but for a row
    that the far end takes under no circumstances: see `isolate`.

    Parameters
    ----------
    outbox, uploader
        Where rows come from and how they go.
    budget
        What may be sent now; everything if there is none. It counts an uploader's `bytes_sent`.
    logbook
        Told why the link is down, for those who read the status of the buffer.
    poll_s
        An idle link is used this often with a batch without rows, whose receipt brings what the far end
        asks for; not in quiet hours, nor beyond the budget. 0: never.
    """

    def __init__(
        self,
        outbox: Outbox,
        uploader: Uploader,
        *,
        batch_rows: int = 200,
        timeout_s: float = 10.0,
        first_pause_s: float = FIRST_PAUSE_S,
        longest_pause_s: float = LONGEST_PAUSE_S,
        budget: Budget | None = None,
        logbook: Logbook | None = None,
        poll_s: float = POLL_S,
    ) -> None:
        self._outbox = outbox
        self._uploader = uploader
        self._isolation = Isolation(
            outbox,
            uploader,
            batch_rows=batch_rows,
            timeout_s=timeout_s,
            first_pause_s=first_pause_s,
            longest_pause_s=longest_pause_s,
        )
        self._poll_s = poll_s
        self._tried_s = time.monotonic()
        self._batch_rows = batch_rows
        self._rows_now = batch_rows
        self._timeout_s = timeout_s
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._budget = budget
        self._logbook = logbook
        self._bytes_counted = 0
        self._wake = threading.Event()
        self._urgent = threading.Event()
        self._stop = threading.Event()
        self._end_at_s = 0.0
        self._thread = threading.Thread(target=self._run, name="sync", daemon=True)
        self.status = SyncStatus()

    def start(self) -> None:
        self._thread.start()

    def notify(self, *, urgent: bool = False) -> None:
        """There are new rows; `urgent` if an alarm is among them, which is tried at once."""
        self._wake.set()
        if urgent:
            self._urgent.set()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Send what is left if the link is up, for at most `timeout_s`; the rest stays in the outbox."""
        self._end_at_s = time.monotonic() + timeout_s
        self._stop.set()
        self._wake.set()
        self._urgent.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s + self._timeout_s)
        self._uploader.close()

    def _run(self) -> None:
        pause_s = 0.0
        while not self._stop.is_set():
            try:
                sent = self._send_one()
            except Exception as error:  # noqa: BLE001 - the thread must outlive whatever an uploader raises
                pause_s = min(max(2 * pause_s, self._first_pause_s), self._longest_pause_s)
                self._failed(error)
                # Kept even if new rows come: the link is down, not the outbox.
                self._pause(pause_s * random.uniform(0.5, 1.0))
                continue
            pause_s = 0.0
            if not sent:
                self._wake.wait(self._idle_s())
                self._wake.clear()
        self._send_rest()

    def _idle_s(self) -> float:
        """How long there is nothing to do, unless new rows come."""
        held_s = self._isolation.pause_s
        until_poll_s = self._poll_s - (time.monotonic() - self._tried_s)
        # A poll that is due and not allowed now is looked at again with the next step.
        waits_s = [_IDLE_S, held_s, until_poll_s if until_poll_s > 0 else None]
        return min(wait_s for wait_s in waits_s if wait_s is not None)

    def _send_rest(self) -> None:
        try:
            while self.status.link_up and time.monotonic() < self._end_at_s and self._send_one():
                continue
        except Exception as error:  # noqa: BLE001 - as above; what was not delivered stays
            self._failed(error)

    def _send_one(self) -> bool:
        lanes = LANES if self._budget is None else self._budget.lanes()
        batch = self._isolation.next_batch(self._rows_now, lanes)
        if batch is None:
            return self._ask_around(may_poll="feature" in lanes)
        self._tried_s = time.monotonic()
        settled = 0
        try:
            try:
                settled = deliver(self._outbox, self._uploader, batch, self._timeout_s)
            except BatchRefusedError as error:
                set_aside = self._isolation.refused(batch, error)
                self._note_failure(str(error))
                self.status = replace(self.status, set_aside=self.status.set_aside + set_aside)
            else:
                self._isolation.taken(batch)
                self._succeeded(settled)
        finally:
            throttle_s = self._count_bytes()
        self._pause(throttle_s)
        return True

    def _ask_around(self, *, may_poll: bool) -> bool:
        """There is nothing to send: hear what the far end wants. True if there may be something now."""
        heard = tuple(getattr(self._uploader, "heard", tuple)())
        for receipt in heard:
            self._outbox.settle(replace(receipt, through_seq=0))
        due = self._poll_s > 0 and time.monotonic() - self._tried_s >= self._poll_s
        if not due or not may_poll:
            return bool(heard)
        self._tried_s = time.monotonic()
        try:
            receipt = poll(self._outbox, self._uploader, self._timeout_s)
        finally:
            self._count_bytes()
        self._succeeded(0)
        return bool(receipt.wants)

    def _succeeded(self, settled: int) -> None:
        if not self.status.link_up:
            logger.info("sync: the link is up")
        self._rows_now = min(2 * self._rows_now, self._batch_rows)
        self.status = replace(
            self.status,
            link_up=True,
            rows_sent=self.status.rows_sent + settled,
            batches=self.status.batches + 1,
            last_error="",
            last_success_utc_ns=time.time_ns(),
        )

    def _count_bytes(self) -> float:
        """Tell the budget what was sent, delivered or not; return the pause that it asks for."""
        total = int(getattr(self._uploader, "bytes_sent", 0))
        sent, self._bytes_counted = total - self._bytes_counted, total
        return 0.0 if self._budget is None else self._budget.spend(sent)

    def _pause(self, seconds_s: float) -> None:
        if seconds_s > 0 and not self._stop.is_set():
            self._urgent.wait(seconds_s)
        if not self._stop.is_set():
            self._urgent.clear()

    def _failed(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        known = isinstance(error, PdmError)
        if text != self.status.last_error:
            level = logging.ERROR if isinstance(error, SyncRefusedError) or not known else logging.WARNING
            logger.log(level, "sync: %s", text, exc_info=None if known else error)
        self._rows_now = max(self._rows_now // 2, 1)
        self.status = replace(self.status, link_up=False)
        self._note_failure(text)

    def _note_failure(self, text: str) -> None:
        self.status = replace(self.status, failures=self.status.failures + 1, last_error=text)
        if self._logbook is not None:
            try:
                self._logbook.note_failure(text)
            except PdmError as also:
                logger.warning("sync: the failure could not be noted: %s", also)


def deliver(outbox: Outbox, uploader: Uploader, batch: Batch, timeout_s: float) -> int:
    """Send a batch and settle its receipt; return the number of rows.

    Raises
    ------
    SyncError
        If it was not delivered, or the receipt covers nothing of it.
    """
    receipt = uploader.send(batch, timeout_s)
    if batch.rows and receipt.through_seq < batch.rows[0].seq:
        raise SyncError(
            f"the receipt goes through {receipt.through_seq}, the batch begins with {batch.rows[0].seq}",
            mend="It is tried again",
        )
    return outbox.settle(receipt)


def poll(outbox: Outbox, uploader: Uploader, timeout_s: float) -> Receipt:
    """Send a batch without rows and note what the far end asks for; return its receipt.

    Raises
    ------
    SyncError
        If there is no answer.
    """
    receipt = uploader.send(outbox.poll(), timeout_s)
    outbox.settle(replace(receipt, through_seq=0))
    return receipt


def drain(
    outbox: Outbox,
    uploader: Uploader,
    *,
    batch_rows: int = 200,
    timeout_s: float = 10.0,
    first_pause_s: float = FIRST_PAUSE_S,
    ask: bool = False,
) -> int:
    """Send everything now, in the caller's thread; return the number of rows.

    With `ask`, if there was nothing to send, the far end is asked what it wants. A row that it takes under no
    circumstances is set aside, see `isolate`.

    Raises
    ------
    SyncError
        At the first failure; what was not delivered stays.
    """
    isolation = Isolation(
        outbox,
        uploader,
        batch_rows=batch_rows,
        timeout_s=timeout_s,
        first_pause_s=first_pause_s,
        longest_pause_s=LONGEST_PAUSE_S,
    )
    rows, asked = 0, not ask
    while True:
        batch = isolation.next_batch(batch_rows, LANES)
        if batch is None:
            held_s = isolation.pause_s
            if held_s is not None:
                time.sleep(held_s)
            elif rows or asked:
                return rows
            else:
                asked = True
                poll(outbox, uploader, timeout_s)
            continue
        try:
            rows += deliver(outbox, uploader, batch, timeout_s)
        except BatchRefusedError as error:
            isolation.refused(batch, error)
            if isolation.is_refused_whole(batch.lane):
                raise
        else:
            isolation.taken(batch)
