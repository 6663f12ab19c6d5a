"""machine.toml, checked into frozen values before anything is opened.

An unknown key, a wrong type, a missing unit or a broken rule is a ConfigError that names the file,
the path of the key and the mend. Nothing has a default that a machine would have to confirm:
group, support, unit, baud rate and sample rate are given or the feature that needs them is off.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from pdm_edge.advise import AlarmSettings
from pdm_edge.config_bearing import BearingConfig
from pdm_edge.config_features import FeaturesConfig

# A number that is not finite is refused wherever it stands (`finite`), so these need no upper end.
_Positive = Annotated[float, msgspec.Meta(gt=0)]
_NotNegative = Annotated[float, msgspec.Meta(ge=0)]
_Address = Annotated[int, msgspec.Meta(ge=0, le=65535)]
_Count = Annotated[int, msgspec.Meta(ge=1)]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A TOML table that knows all its keys."""


class GatewayConfig(_Table, frozen=True, kw_only=True):
    id: str


class IsoConfig(_Table, frozen=True, kw_only=True):
    """Machine group (1 or 2) and support of ISO 20816-3."""

    group: Literal[1, 2]
    support: Literal["rigid", "flexible"]


class RegisterConfig(_Table, frozen=True, kw_only=True):
    """One value of a Modbus device; `address` counts from 0, as on the wire."""

    quantity: str
    unit: str
    address: _Address
    type: str
    table: Literal["holding", "input", "coil", "discrete"]
    device: int | None = None
    word_order: Literal["big", "little"] = "big"
    byte_order: Literal["big", "little"] = "big"
    scale: float = 1.0
    offset: float = 0.0
    minimum: float | None = None
    maximum: float | None = None
    invalid: tuple[int, ...] = ()
    bit: int | None = None
    bit_count: int = 1


class BurstConfig(_Table, frozen=True, kw_only=True):
    """Waveforms over Modbus (firmware_bridge/BURST.md): one burst every so often."""

    every_s: _Positive
    base: _Address = 4096
    fifo: bool = False


class QuantityConfig(_Table, frozen=True, kw_only=True):
    """A scalar that a serial device or a recording sends along, taken into the machine's vector."""

    quantity: str
    unit: str


class SensorConfig(_Table, frozen=True, kw_only=True):
    """A sensor: Modbus if it has registers, else vibration, unless `waveform` is false.

    With ``profile``, the registers are those of a known device, or the ones that ``take`` names.
    ``max_words`` and ``merge_gap`` say how its device likes to be read; see docs/modbus.md. Nothing
    is written over Modbus but to the registers that ``writable`` lists.
    """

    id: str
    source: str
    channel: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0
    waveform: bool | None = None
    bearing: BearingConfig | None = None
    envelope_band_hz: tuple[float, float] | None = None
    features: FeaturesConfig = FeaturesConfig()
    full_scale: _Positive | None = None
    poll_s: _Positive = 1.0
    max_age_s: _Positive = 30.0
    profile: str | None = None
    take: tuple[str, ...] = ()
    max_words: Annotated[int, msgspec.Meta(ge=1, le=125)] | None = None
    merge_gap: Annotated[int, msgspec.Meta(ge=0)] | None = None
    burst: BurstConfig | None = None
    writable: tuple[_Address, ...] = ()
    register: tuple[RegisterConfig, ...] = ()
    quantity: tuple[QuantityConfig, ...] = ()

    @property
    def is_waveform(self) -> bool:
        if self.waveform is not None:
            return self.waveform
        return self.burst is not None or not self.register

    @property
    def scalars(self) -> tuple[QuantityConfig, ...]:
        """Quantities that belong to the machine's vector."""
        own = tuple(QuantityConfig(quantity=r.quantity, unit=r.unit) for r in self.register)
        return own + self.quantity


class DetectConfig(_Table, frozen=True, kw_only=True):
    """Which model judges: a bundle by path or name, or one learned from `learn_windows` vectors.

    With ``learn_windows = 0`` and no model, the limits of ISO 20816-3 judge alone. The threshold is
    set so that a healthy machine raises ``false_alarms_per_month``, as far as the data reach. The
    families are told apart in docs/models.md; those of the spectrum hear one sensor, ``hears`` names it
    (``"sensor"`` or ``"sensor/axis"``) where there are several. ``quantize = false`` keeps the weights
    in float32.
    """

    model: str | None = None
    learn_windows: int = 300
    false_alarms_per_month: float = 1.0
    family: Literal["linear", "dense", "pruned", "mobilenet", "squeezenet"] = "linear"
    quantize: bool = True
    hears: str | None = None


class AlarmConfig(_Table, frozen=True, kw_only=True):
    n: int = 3
    m: int = 5
    alert_at: float = 1.0
    alarm_at: float = 2.0
    clear_below: float = 0.9
    stale_after_s: float = 60.0

    def settings(self) -> AlarmSettings:
        return AlarmSettings(**msgspec.structs.asdict(self))


class EvidenceConfig(_Table, frozen=True, kw_only=True):
    """How much of each waveform is kept from before and after an alert or alarm."""

    before_s: float = 4.0
    after_s: float = 4.0


class SpectrumConfig(_Table, frozen=True, kw_only=True):
    """Compact spectra of each vibration sensor: every so often, and after each change of the alarm's state.

    ``every_s = 0`` makes them at changes only, ``bins = 0`` none at all.
    """

    every_s: float = 3600.0
    bins: int = 800
    averages: int = 8


class MachineConfig(_Table, frozen=True, kw_only=True):
    id: str
    sensor: tuple[SensorConfig, ...]
    rated_speed_rpm: _Positive | None = None
    iso20816: IsoConfig | None = None
    window_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 1.0
    stopped_below_mm_s: _NotNegative | None = None
    detect: DetectConfig = DetectConfig()
    alarm: AlarmConfig = AlarmConfig()
    evidence: EvidenceConfig = EvidenceConfig()
    spectrum: SpectrumConfig = SpectrumConfig()


class StoreConfig(_Table, frozen=True, kw_only=True):
    """The buffer file. With ``commit_s`` that much of the features may be lost if the power goes."""

    path: str
    max_mb: int = 512
    commit_s: float = 0.0


class SyncConfig(_Table, frozen=True, kw_only=True):
    """Where the buffer is emptied to. Secrets only as ``env:NAME`` or ``file:PATH``.

    After a failure the next attempt waits, longer each time, up to ``longest_pause_s``. Bytes a day,
    bits a second and quiet hours are those of `pdm_edge.sync.budget.Budget`. Waveforms, the evidence
    of an alarm, stay until the far end asks for them, unless ``waveforms = "send"``. An idle link is used
    every ``poll_s``, so that the far end can ask for something; 0: never. ``proxy``, ``http://host:port``, is
    for HTTP and HTTPS.
    """

    url: str
    receipt: Literal["end_to_end", "puback"] = "end_to_end"
    batch_rows: int = 200
    timeout_s: float = 10.0
    longest_pause_s: float = 60.0
    poll_s: float = 900.0
    encoding: Literal["json", "cbor"] = "json"
    waveforms: Literal["on_request", "send"] = "on_request"
    max_kb_per_day: float | None = None
    max_kbit_s: float | None = None
    quiet_hours: str | None = None
    proxy: str | None = None
    token: str | None = None
    username: str | None = None
    password: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


class ModbusServerConfig(_Table, frozen=True, kw_only=True):
    """Where a PLC reads the health of the machines; values older than ``stale_after_s`` are withdrawn."""

    url: str
    stale_after_s: float = 60.0


class Config(_Table, frozen=True, kw_only=True):
    """The whole file. `base` is the folder that its relative paths start from."""

    gateway: GatewayConfig
    machine: tuple[MachineConfig, ...]
    store: StoreConfig
    sync: SyncConfig | None = None
    modbus_server: ModbusServerConfig | None = None
    base: str = ""

    def path(self, name: str) -> Path:
        """A path named in the file: absolute, or relative to the folder of the file."""
        return Path(self.base, name)
