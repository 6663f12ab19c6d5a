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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from pdm_edge.acquire.collect import Collector
from pdm_edge.advise import AlarmMemory
from pdm_edge.clock import SystemClock
from pdm_edge.config import Config
from pdm_edge.config_file import load_config
from pdm_edge.errors import PdmError
from pdm_edge.machine import Machine, MachineStatus
from pdm_edge.ports import Clock, Sink, Source
from pdm_edge.records import Advisory, Gap, Measurement, Record, Stamp, Waveform
from pdm_edge.sync.worker import SyncStatus, SyncWorker
from pdm_edge.wiring import open_buffer, open_server, open_sources, open_sync

logger = logging.getLogger(__name__)

_STEP_S = 0.2
"""Longest time that a step works off its queue before it commits what it has."""

_TICK_S = 1.0
_UNWRITTEN_MAX = 10_000
"""Records held in memory while the buffer refuses them; beyond that the oldest are dropped, counted,
advisories and gaps last."""


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
    memory
        Keeps standing alarms over a restart. Recordings tell their own history: they neither read nor
        write it.
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
        memory: AlarmMemory | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.machines = tuple(machines)
        self._clock = clock or SystemClock()
        self._collector = Collector(live, patient, clock=self._clock)
        self._by_sensor = {sensor.id: m for m in self.machines for sensor in m.config.sensor}
        self._scalar_only = {s.id for m in self.machines for s in m.config.sensor if not s.is_waveform}
        self._sinks = tuple(sinks)
        self._sync = sync
        self._memory = memory if self._collector.is_live else None
        self._counters: Counter[str] = Counter()
        self._unwritten: deque[Record] = deque()
        self._lost_unwritten = 0
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
        with ExitStack() as opened:  # if one of them fails, those before it are closed
            live, patient = open_sources(checked, used_clock)
            for source in (*live, *patient):
                opened.callback(source.close)
            buffer = open_buffer(checked, used_clock)
            opened.callback(buffer.close)
            server = open_server(checked, machines)
            if server is not None:
                opened.callback(server.close)
            sync = open_sync(checked, buffer)
            opened.pop_all()
        return cls(
            machines,
            live=live,
            patient=patient,
            sinks=(buffer, *([server] if server else []), *sinks),
            sync=sync,
            memory=AlarmMemory(models),
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
                self._take_up_alarm(machine)
            self._collector.start()
            if self._sync is not None:
                self._sync.start()

    @property
    def ended(self) -> bool:
        """True once all sources were finite and everything they brought has been worked off."""
        return self._started and self._collector.ended

    def step(self, timeout_s: float = 0.5) -> list[Advisory]:
        """Work off what has come; wait at most `timeout_s` for the first of it.

        While measurements wait, a step goes on for up to 0.2 s before it writes what it has and returns.
        Returns the advisories of this step, after all records of it were offered to the sinks. What the
        buffer refuses is kept in memory and offered again with each step (`MonitorStatus.unwritten`).
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
            if self._memory is not None:
                self._memory.save()
        self._write(records)
        return [record for record in records if isinstance(record, Advisory)]

    def close(self) -> None:
        """Stop reading, write what is held, give sync a moment, close everything."""
        if self._closed:
            return
        self._closed = True
        with ExitStack() as closing:  # each of them is closed, whatever another one raises
            for sink in reversed(self._sinks):
                closing.callback(sink.close)
            if self._sync is not None:
                closing.callback(self._sync.stop)
            for machine in self.machines:
                closing.callback(machine.close)
            self._collector.close()
            records: list[Record] = []
            while (measurement := self._collector.get(0.0)) is not None:
                records.extend(self._take(measurement))
            for machine in self.machines:
                records.extend(machine.rest())
            self._write(records)

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
        if isinstance(measurement, Waveform) and measurement.sensor in self._scalar_only:
            self._counters["unwanted waveforms"] += 1
            if self._counters["unwanted waveforms"] == 1:
                logger.warning(
                    "sensor %r is configured without a waveform and brings one; it is dropped",
                    measurement.sensor,
                )
            return []
        return machine.take(measurement)

    def _take_up_alarm(self, machine: Machine) -> None:
        if self._memory is None:
            return
        found = self._memory.take_up(machine.id, self._clock.stamp())
        if isinstance(found, Gap):
            self._unwritten.append(found)
        elif found is not None:
            machine.resume(found)
            logger.warning("machine %s: %s still stands: %s", machine.id, found.level, found.headline)

    def _remember(self, records: Iterable[Record]) -> None:
        """These are durable: what they say of alarms is kept over a restart."""
        for machine in self.machines if self._memory else ():
            told = [r for r in records if isinstance(r, Advisory) and r.machine == machine.id]
            if told and self._memory:
                self._memory.note(told, by_model=machine.model.manifest is not None)

    def _write(self, records: Sequence[Record]) -> None:
        """Write to all sinks. What the first one refuses is kept and tried again with the next step."""
        self._unwritten.extend(records)
        self._drop_beyond_limit()
        if self._unwritten and (not self._sinks or self._written(self._sinks[0], self._waiting_batch())):
            urgent = any(isinstance(record, Advisory) for record in self._unwritten)
            self._remember(self._unwritten)
            self._unwritten.clear()
            self._lost_unwritten = 0
            if self._sync is not None:
                self._sync.notify(urgent=urgent)
        if records:
            for sink in self._sinks[1:]:  # a PLC reads on while the disk is full
                self._written(sink, records)

    def _written(self, sink: Sink, records: Sequence[Record]) -> bool:
        try:
            sink.write(records)
        except Exception as error:  # a sink of the host must not end the monitor
            self._counters["write failures"] += 1
            trace = None if isinstance(error, PdmError) else error
            logger.error("%s: %s", type(sink).__name__, error, exc_info=trace)
            return False
        return True

    def _waiting_batch(self) -> Sequence[Record]:
        if not self._lost_unwritten:
            return tuple(self._unwritten)
        why = "the buffer could not be written"
        return (
            *self._unwritten,
            Gap("monitor", "records", self._lost_unwritten, why, self._clock.stamp()),
        )

    def _drop_beyond_limit(self) -> None:
        excess = len(self._unwritten) - _UNWRITTEN_MAX
        if excess <= 0:
            return
        kept: deque[Record] = deque()
        dropped = 0
        for record in self._unwritten:
            if dropped < excess and not isinstance(record, (Advisory, Gap)):
                dropped += 1
            else:
                kept.append(record)
        while len(kept) > _UNWRITTEN_MAX:  # nothing but advisories and gaps is left
            kept.popleft()
            dropped += 1
        self._unwritten = kept
        self._lost_unwritten += dropped
        self._counters["lost records"] += dropped
