"""pdm-edge: predictive maintenance on the gateway itself.

Vibration and temperature come in over serial or Modbus; spectral features, a compact TFLite model
trained on this very machine and the limits of ISO 20816-3 say how it fares; everything is kept in
SQLite until the cloud has confirmed it, and a change of state becomes an alarm that a mechanic can
act on.

A gateway script needs a configuration and a loop::

    import pdm_edge as pdm

    with pdm.Monitor.from_config("machine.toml") as monitor:
        for advisory in monitor:
            print(advisory)

A controller with a loop of its own calls `step`, which waits no longer than it is told::

    monitor = pdm.Monitor.from_config("machine.toml")
    while controller.is_on():
        controller.work()
        for advisory in monitor.step(timeout_s=0.0):
            controller.show(advisory.headline)
    monitor.close()

What flows
    `Waveform` and `Reading` come from a `Source`. A `Machine` joins them into a `FeatureVector`,
    scores it (`Score`, 1.0 is the threshold), collects `Evidence` (`Health`) and, when the alarm
    state changes, says so (`Advisory`). What was lost on the way is a `Gap`. All of these are
    records: frozen, checked when made, with unit, quality and clock trust on board.

Roles you may fill
    Any class with the methods of `Source` can deliver measurements, any with those of `Sink`
    receives every record; nothing has to be inherited. See `pdm_edge.ports`.

Errors
    All errors raised on purpose are `PdmError`; each says what happened, where, and how to mend
    it. Faults on a live line are not errors: they are counted, see `Monitor.status`.

Names are imported when they are first used, so that a script pays only for what it needs.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from pdm_edge._version import __version__
from pdm_edge.clock import FixedClock, SystemClock
from pdm_edge.delivery import Batch, Receipt, Row, Want
from pdm_edge.errors import (
    ConfigError,
    ModelError,
    PdmError,
    RecordError,
    SourceError,
    SourceTimeoutError,
    StoreError,
    StoreFullError,
    SyncError,
    SyncRefusedError,
)
from pdm_edge.ports import Clock, Outbox, Sink, Source, Uploader
from pdm_edge.records import (
    GOOD,
    Advisory,
    AlarmState,
    AmplitudeSpectrum,
    Evidence,
    FeatureSchema,
    FeatureVector,
    Gap,
    Health,
    Measurement,
    Quality,
    Reading,
    Record,
    Score,
    Stamp,
    Waveform,
)

if TYPE_CHECKING:
    from pdm_edge.acquire import open_source
    from pdm_edge.config import Config, MachineConfig
    from pdm_edge.config_file import load_config, parse_machine
    from pdm_edge.detect.bundle import load_bundle
    from pdm_edge.machine import Machine, MachineStatus
    from pdm_edge.monitor import Monitor, MonitorStatus
    from pdm_edge.store.buffer import Buffer

__all__ = [
    "GOOD",
    "Advisory",
    "AlarmState",
    "AmplitudeSpectrum",
    "Batch",
    "Buffer",
    "Clock",
    "Config",
    "ConfigError",
    "Evidence",
    "FeatureSchema",
    "FeatureVector",
    "FixedClock",
    "Gap",
    "Health",
    "Machine",
    "MachineConfig",
    "MachineStatus",
    "Measurement",
    "ModelError",
    "Monitor",
    "MonitorStatus",
    "Outbox",
    "PdmError",
    "Quality",
    "Reading",
    "Receipt",
    "Record",
    "RecordError",
    "Row",
    "Score",
    "Sink",
    "Source",
    "SourceError",
    "SourceTimeoutError",
    "Stamp",
    "StoreError",
    "StoreFullError",
    "SyncError",
    "SyncRefusedError",
    "SystemClock",
    "Uploader",
    "Want",
    "Waveform",
    "__version__",
    "load_bundle",
    "load_config",
    "open_source",
    "parse_machine",
]

_LATER = {
    "Buffer": "pdm_edge.store.buffer",
    "Config": "pdm_edge.config",
    "Machine": "pdm_edge.machine",
    "MachineConfig": "pdm_edge.config",
    "MachineStatus": "pdm_edge.machine",
    "Monitor": "pdm_edge.monitor",
    "MonitorStatus": "pdm_edge.monitor",
    "load_bundle": "pdm_edge.detect.bundle",
    "load_config": "pdm_edge.config_file",
    "open_source": "pdm_edge.acquire",
    "parse_machine": "pdm_edge.config_file",
}

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LATER[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
