"""The one readable loop that joins the stages: sources -> machines -> sinks.

Threads: one for each live source, one for all recordings, one for sync. The pipeline itself runs in
the thread that iterates or calls `step`, so a host keeps the reins. Records are durable before
their advisories are handed out. Collection never waits for sync, and nothing that a source, a model
or a broker does ends the loop.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from pdm_edge.acquire.collect import Collector
from pdm_edge.clock import SystemClock
from pdm_edge.config import Config, load_config
from pdm_edge.errors import PdmError
from pdm_edge.machine import Machine, MachineStatus
from pdm_edge.ports import Clock, Sink, Source
from pdm_edge.records import Advisory, Gap, Measurement, Record, Stamp
from pdm_edge.sync.worker import SyncStatus, SyncWorker
from pdm_edge.wiring import open_buffer, open_server, open_sources, open_sync

logger = logging.getLogger(__name__)

_STEP_S = 0.2
"""Longest time that a step works off its queue before it commits what it has."""

_TICK_S = 1.0
_UNWRITTEN_MAX = 10_000
"""Records held in memory while a sink refuses them; beyond that the oldest are dropped, counted."""


@dataclass(frozen=True, slots=True)
class MonitorStatus:
    """A snapshot for a person or a program.

    ``waiting`` measurements have been read and not yet worked off; ``unwritten`` records are held
    in memory because the buffer refuses them. ``link`` is None where no far end is configured.
    """

    machines: tuple[MachineStatus, ...]
    counters: Mapping[str, int]
    waiting: int
    unwritten: int
    link: SyncStatus | None = None


class Monitor:
    """Runs machines on sources into sinks.

    Parameters
    ----------
    machines
        The pipelines to run.
    live, patient
        Sources that cannot wait, and those that can (recordings).
    sinks
        Where every record goes, in this order; the first should be the durable buffer.
    sync
        The thread that empties the buffer; started and stopped with the monitor.
    clock
        Used for staleness. Where all sources are recordings, their own time is used instead.
    """

    def __init__(
        self,
        machines: Sequence[Machine],
        *,
        live: Sequence[Source] = (),
        patient: Sequence[Source] = (),
        sinks: Sequence[Sink] = (),
        sync: SyncWorker | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.machines = tuple(machines)
        self._clock = clock or SystemClock()
        self._collector = Collector(live, patient, clock=self._clock)
        self._by_sensor = {sensor.id: m for m in self.machines for sensor in m.config.sensor}
        self._sinks = tuple(sinks)
        self._sync = sync
        self._counters: Counter[str] = Counter()
        self._unwritten: deque[Record] = deque()
        self._latest: Stamp | None = None
        self._next_tick_s = time.monotonic() + _TICK_S
        self._started = False
        self._closed = False

    @classmethod
    def from_config(
        cls, config: str | Path | Config, *, sinks: Sequence[Sink] = (), clock: Clock | None = None
    ) -> Monitor:
        """Build everything that a configuration names; further `sinks` follow the buffer.

        Raises
        ------
        ConfigError
            If the configuration cannot be used.
        ModelError
            If a configured model bundle is damaged or missing.
        StoreError
            If the buffer file is foreign or made by a newer version.
        """
        checked = config if isinstance(config, Config) else load_config(config)
        used_clock = clock or SystemClock()
        models = checked.path(checked.store.path).parent / "models"
        machines = [Machine(machine, models=models) for machine in checked.machine]
        live, patient = open_sources(checked, used_clock)
        server = open_server(checked, machines)
        buffer = open_buffer(checked, used_clock)
        return cls(
            machines,
            live=live,
            patient=patient,
            sinks=(buffer, *([server] if server else []), *sinks),
            sync=open_sync(checked, buffer),
            clock=used_clock,
        )

    def __enter__(self) -> Monitor:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Advisory]:
        """Run until every source has ended or the monitor is closed; yield what changes."""
        while not self._closed and not self.ended:
            yield from self.step()
        yield from self.step(timeout_s=0.0)

    def start(self) -> None:
        """Start the threads; done by the context manager and by the first `step`."""
        if not self._started:
            self._started = True
            for machine in self.machines:
                # A recording can wait for a training, and so gives the same every time; a line cannot.
                machine.model.trains_apart = self._collector.is_live
            self._collector.start()
            if self._sync is not None:
                self._sync.start()

    @property
    def ended(self) -> bool:
        """True once all sources were finite and everything they brought has been worked off."""
        return self._started and self._collector.ended

    def step(self, timeout_s: float = 0.5) -> list[Advisory]:
        """Work off what has come; wait at most `timeout_s` for the first of it.

        Returns the advisories of this step, after all records of it were written to the sinks.
        """
        if self._closed:
            return []
        self.start()
        records: list[Record] = []
        deadline = time.monotonic() + timeout_s + _STEP_S
        measurement = self._collector.get(timeout_s)
        while measurement is not None:
            records.extend(self._take(measurement))
            measurement = None if time.monotonic() > deadline else self._collector.get(0.0)
        if time.monotonic() >= self._next_tick_s:
            self._next_tick_s = time.monotonic() + _TICK_S
            now = self._clock.stamp() if self._collector.is_live else self._latest
            if now is not None:
                for machine in self.machines:
                    records.extend(machine.tick(now))
        self._write(records)
        return [record for record in records if isinstance(record, Advisory)]

    def close(self) -> None:
        """Stop reading, write what is held, give sync a moment, close everything."""
        if self._closed:
            return
        self._collector.close()
        records: list[Record] = []
        while (measurement := self._collector.get(0.0)) is not None:
            records.extend(self._take(measurement))
        for machine in self.machines:
            records.extend(machine.rest())
            machine.close()
        self._write(records)
        self._closed = True
        if self._sync is not None:
            self._sync.stop()
        for sink in self._sinks:
            sink.close()

    def status(self) -> MonitorStatus:
        """Where every machine stands, and everything counted so far."""
        counters = dict(self._counters)
        for source in self._collector.sources:
            counters.update({f"{source.name}: {k}": v for k, v in source.counters().items()})
        for what, by_source in (("dropped", self._collector.dropped), ("faults", self._collector.faults)):
            counters.update({f"{name}: {what}": count for name, count in by_source.items() if count})
        return MonitorStatus(
            machines=tuple(machine.status for machine in self.machines),
            counters=counters,
            waiting=self._collector.waiting,
            unwritten=len(self._unwritten),
            link=None if self._sync is None else self._sync.status,
        )

    def _take(self, measurement: Measurement) -> list[Record]:
        self._latest = measurement.stamp
        if isinstance(measurement, Gap):
            self._counters[f"lost {measurement.what}"] += measurement.lost
            return [measurement]
        machine = self._by_sensor.get(measurement.sensor)
        if machine is None:
            self._counters["unassigned"] += 1
            if self._counters["unassigned"] == 1:
                logger.warning("sensor %r belongs to no machine; its data are dropped", measurement.sensor)
            return []
        return machine.take(measurement)

    def _write(self, records: Sequence[Record]) -> None:
        """Write to all sinks. What the first one refuses is kept and tried again with the next step."""
        self._unwritten.extend(records)
        self._drop_beyond_limit()
        if not self._unwritten:
            return
        batch = tuple(self._unwritten)
        for index, sink in enumerate(self._sinks):
            try:
                sink.write(batch if index == 0 else records)
            except PdmError as error:
                self._counters["write failures"] += 1
                logger.error("%s: %s", type(sink).__name__, error)
                if index == 0:
                    return
        self._unwritten.clear()
        if self._sync is not None:
            self._sync.notify(urgent=any(isinstance(record, Advisory) for record in records))

    def _drop_beyond_limit(self) -> None:
        lost = 0
        while len(self._unwritten) > _UNWRITTEN_MAX:
            self._unwritten.popleft()
            lost += 1
        if lost:
            self._counters["lost records"] += lost
            gap = Gap("monitor", "records", lost, "the buffer could not be written", self._clock.stamp())
            self._unwritten.append(gap)
