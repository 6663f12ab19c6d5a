"""One thread a live source, one for all recordings, one bounded queue to the pipeline.

Reading never waits for what follows: when the queue is full, what a live source brings is dropped
and counted, and the loss is told as a Gap. A recording can wait, so it does; several recordings
are read in step, by their own time, so that a replay gives the same records every time.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterable, Sequence

from pdm_edge.errors import PdmError
from pdm_edge.ports import Clock, Source
from pdm_edge.records import Gap, Measurement, Reading, Waveform

logger = logging.getLogger(__name__)

_READ_TIMEOUT_S = 0.25
_PAUSE_AFTER_FAULT_S = 1.0


class Collector:
    """Reads sources in threads.

    Parameters
    ----------
    live
        Sources that cannot wait: what does not fit the queue is dropped, counted and told.
    patient
        Sources that can (recordings, read as fast as they are worked off).
    capacity
        Length of the queue, in measurements (a waveform block or a reading each).
    """

    def __init__(
        self, live: Sequence[Source], patient: Sequence[Source] = (), *, clock: Clock, capacity: int = 256
    ) -> None:
        self._queue: queue.Queue[Measurement] = queue.Queue(maxsize=capacity)
        self._clock = clock
        self._stop = threading.Event()
        self.sources = (*live, *patient)
        self.is_live = bool(live)
        self.dropped = {source.name: 0 for source in self.sources}
        self.faults = {source.name: 0 for source in self.sources}
        self._threads = [
            threading.Thread(target=self._run, args=(source,), name=f"read {source.name}", daemon=True)
            for source in live
        ]
        if patient:
            self._threads.append(
                threading.Thread(
                    target=self._run_in_step, args=(tuple(patient),), name="read recordings", daemon=True
                )
            )

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def get(self, timeout_s: float) -> Measurement | None:
        """The next measurement, None if nothing came in time."""
        try:
            return self._queue.get(timeout=timeout_s) if timeout_s > 0 else self._queue.get_nowait()
        except queue.Empty:
            return None

    @property
    def ended(self) -> bool:
        """Every source has ended and everything was handed out."""
        return not any(thread.is_alive() for thread in self._threads) and self._queue.empty()

    @property
    def waiting(self) -> int:
        """Measurements in the queue."""
        return self._queue.qsize()

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout=5.0)
        for source in self.sources:
            source.close()

    def _run(self, source: Source) -> None:
        lost = 0
        while not self._stop.is_set() and not source.ended:
            for measurement in self._read(source):
                if lost and self._put(self._gap(source, lost)):
                    lost = 0
                if lost or not self._put(measurement):
                    lost += 1
                    self.dropped[source.name] += 1
        if lost:
            self._put_patiently(self._gap(source, lost))

    def _run_in_step(self, sources: Sequence[Source]) -> None:
        """Read the recording that is furthest behind, until all have ended."""
        reached_ns = {source.name: 0 for source in sources}
        while not self._stop.is_set():
            waiting = [source for source in sources if not source.ended]
            if not waiting:
                return
            source = min(waiting, key=lambda s: reached_ns[s.name])
            for measurement in self._read(source):
                reached_ns[source.name] = measurement.stamp.utc_ns
                self._put_patiently(measurement)

    def _read(self, source: Source) -> Sequence[Measurement]:
        try:
            return _checked(source.read(_READ_TIMEOUT_S))
        except Exception as error:  # noqa: BLE001 - a source of the host must not end the monitor
            self._fault(source, error)
            return ()

    def _put(self, measurement: Measurement) -> bool:
        try:
            self._queue.put_nowait(measurement)
        except queue.Full:
            return False
        return True

    def _put_patiently(self, measurement: Measurement) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(measurement, timeout=_READ_TIMEOUT_S)
            except queue.Full:
                continue
            return

    def _gap(self, source: Source, lost: int) -> Gap:
        return Gap(source.name, "records", lost, "pipeline too slow, queue full", self._clock.stamp())

    def _fault(self, source: Source, error: Exception) -> None:
        self.faults[source.name] += 1
        if self.faults[source.name] == 1:
            trace = None if isinstance(error, PdmError) else error
            logger.error("source %s failed and is tried again: %s", source.name, error, exc_info=trace)
        deadline = time.monotonic() + _PAUSE_AFTER_FAULT_S
        while not self._stop.is_set() and time.monotonic() < deadline:
            self._stop.wait(0.1)


def _checked(brought: Iterable[Measurement]) -> tuple[Measurement, ...]:
    """What a source brought, refused here in its own thread if a source of the host brings something else."""
    measurements = tuple(brought)
    for measurement in measurements:
        if not isinstance(measurement, (Waveform, Reading, Gap)):
            raise TypeError(
                f"read() brought a {type(measurement).__name__}; Waveform, Reading or Gap are taken"
            )
    return measurements
