"""The thread that empties the buffer when there is a link, and waits politely when there is none."""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass, replace
from typing import Final

from pdm_edge.errors import PdmError, SyncError, SyncRefusedError
from pdm_edge.ports import Outbox, Uploader
from pdm_edge.records import Batch
from pdm_edge.sync.budget import Budget, Logbook

logger = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
_IDLE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """A snapshot of the link."""

    link_up: bool = False
    rows_sent: int = 0
    batches: int = 0
    failures: int = 0
    last_error: str = ""
    last_success_utc_ns: int | None = None


class SyncWorker:
    """Sends batches, one after the other, until the outbox is empty.

    After a failure it pauses, twice as long each time up to `longest_pause_s`, with jitter, so that
    a fleet does not come back as one; the next batch is half as large, for a link that is too slow
    for whole ones. A new alarm ends a pause. Nothing leaves the outbox without a receipt.

    Parameters
    ----------
    outbox, uploader
        Where rows come from and how they go.
    budget
        What may be sent now; everything if there is none. It counts an uploader's `bytes_sent`.
    logbook
        Told why the link is down, for those who read the status of the buffer.
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
    ) -> None:
        self._outbox = outbox
        self._uploader = uploader
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
                self._wake.wait(_IDLE_S)
                self._wake.clear()
        self._send_rest()

    def _send_rest(self) -> None:
        try:
            while self.status.link_up and time.monotonic() < self._end_at_s and self._send_one():
                continue
        except Exception as error:  # noqa: BLE001 - as above; what was not delivered stays
            self._failed(error)

    def _send_one(self) -> bool:
        if self._budget is None:
            batch = self._outbox.next_batch(self._rows_now)
        else:
            batch = self._outbox.next_batch(self._rows_now, self._budget.lanes())
        if batch is None:
            return False
        try:
            settled = deliver(self._outbox, self._uploader, batch, self._timeout_s)
        finally:
            throttle_s = self._count_bytes()
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
        self._pause(throttle_s)
        return True

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
        self.status = replace(self.status, link_up=False, failures=self.status.failures + 1, last_error=text)
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


def drain(outbox: Outbox, uploader: Uploader, *, batch_rows: int = 200, timeout_s: float = 10.0) -> int:
    """Send everything now, in the caller's thread; return the number of rows.

    Raises
    ------
    SyncError
        At the first failure; what was not delivered stays.
    """
    rows = 0
    while (batch := outbox.next_batch(batch_rows)) is not None:
        rows += deliver(outbox, uploader, batch, timeout_s)
    return rows
