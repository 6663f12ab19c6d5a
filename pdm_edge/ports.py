"""The roles that an integrator may fill with a class of their own; none needs a base class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from pdm_edge.delivery import Batch, Receipt
from pdm_edge.records import LANES, Lane, Measurement, Record, Stamp


class Clock(Protocol):
    """Says what time it is, and whether the wall clock can be trusted."""

    def stamp(self) -> Stamp: ...


class Source(Protocol):
    """Where measurements come from.

    `read` waits at most `timeout_s` and returns what has come, oldest first; an empty sequence
    is no error. Faults on the line never raise: they are counted, a loss is returned as a Gap,
    and the source reconnects by itself. It is called by one thread at a time.
    """

    @property
    def name(self) -> str: ...

    @property
    def ended(self) -> bool:
        """True once a finite source (a recording) has delivered everything."""
        ...

    def read(self, timeout_s: float) -> Sequence[Measurement]: ...

    def counters(self) -> Mapping[str, int]:
        """Everything received, dropped or retried since the start, by name."""
        ...

    def close(self) -> None: ...


class Sink(Protocol):
    """Where records go. When `write` returns, alarms and events are durable."""

    def write(self, records: Sequence[Record]) -> None: ...

    def close(self) -> None: ...


class Outbox(Protocol):
    """What sync sees of the buffer."""

    def next_batch(self, max_rows: int, lanes: Sequence[Lane] = LANES) -> Batch | None:
        """The oldest unsent rows of the most urgent of `lanes` that has any."""
        ...

    def settle(self, receipt: Receipt) -> int:
        """Take what the far end has off the list; return the number of rows."""
        ...

    def poll(self) -> Batch:
        """A batch without rows, for when there is nothing to send."""
        ...

    def peek(self, lane: Lane, after_seq: int, max_rows: int) -> Batch | None:
        """Rows of a lane behind a number, which are not handed out by this."""
        ...

    def set_aside(self, lane: Lane, seq: int, why: str) -> None:
        """Take a row that the far end always refuses out of its lane; it is kept, counted and told."""
        ...


class Uploader(Protocol):
    """Carries a batch to the far end and brings its receipt back.

    Raises SyncError (try again later), BatchRefusedError (the far end refuses what the batch holds) or
    SyncRefusedError (a person must act); after either, nothing is removed from the buffer.
    """

    def send(self, batch: Batch, timeout_s: float) -> Receipt: ...

    def close(self) -> None: ...
