"""machine.toml, checked into frozen values before anything is opened.

An unknown key, a wrong type, a missing unit or a broken rule is a ConfigError that names the file,
the path of the key and the mend. Nothing has a default that a machine would have to confirm:
group, support, unit, baud rate and sample rate are given or the feature that needs them is off.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from pdm_edge.acquire.profiles import load_profile
from pdm_edge.advise import AlarmSettings
from pdm_edge.config_bearing import BearingConfig
from pdm_edge.config_errors import At, check_port, explained, finite, lines_agree, unique
from pdm_edge.config_features import FeaturesConfig
from pdm_edge.errors import ConfigError
from pdm_edge.features import velocity_limits_mm_s
from pdm_edge.hearing import heard
from pdm_edge.records import check_id

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


def load_config(path: str | Path) -> Config:
    """Read and check a configuration file.

    Raises
    ------
    ConfigError
        If it cannot be read or used; the text says which key, what is wrong and how to mend it.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(file)) from error
    return parse_config(text, where=str(file), base=str(file.resolve().parent))


def parse_config(text: str, *, where: str = "config", base: str = "") -> Config:
    """Check the text of a configuration file; see `load_config`."""
    try:
        raw = msgspec.toml.decode(text.encode())
    except msgspec.DecodeError as error:
        raise ConfigError(f"is not TOML: {error}", where=where) from error
    finite(raw, where)
    if isinstance(raw, dict) and "base" in raw:
        raise ConfigError("unknown key 'base'", where=where, mend="Remove it")
    try:
        config = msgspec.convert(raw, Config)
        config = msgspec.structs.replace(config, base=base)
    except msgspec.ValidationError as error:
        raise explained(error, where, Config) from error
    machines = tuple(_with_profiles(machine, base, where) for machine in config.machine)
    config = msgspec.structs.replace(config, machine=machines)
    _check(config, where)
    return config


def parse_machine(raw: Mapping[str, Any], *, where: str) -> MachineConfig:
    """Check one machine that a program describes, by the rules of the file.

    Raises
    ------
    ConfigError
        If it cannot be used.
    """
    finite(raw, where)
    try:
        machine = msgspec.convert(raw, MachineConfig)
    except msgspec.ValidationError as error:
        raise explained(error, where, Config) from error
    machine = _with_profiles(machine, "", where)
    _check_machine(machine, where)
    return machine


def _with_profiles(machine: MachineConfig, base: str, where: str) -> MachineConfig:
    """The machine with the registers of its sensors' profiles in place of their names."""
    sensors = []
    for sensor in machine.sensor:
        with At(f"{where}: machine {machine.id!r}: sensor {sensor.id!r}"):
            sensors.append(_with_profile(sensor, base))
    return msgspec.structs.replace(machine, sensor=tuple(sensors))


def _with_profile(sensor: SensorConfig, base: str) -> SensorConfig:
    if sensor.profile is None:
        if sensor.take:
            raise ConfigError("take chooses from a profile", mend='Add profile = "..." or remove take')
        return sensor
    profile = load_profile(sensor.profile, beside=base or None)
    rows = []
    for register in profile.registers(sensor.id, 0, sensor.take):
        values = {f: getattr(register, f) for f in RegisterConfig.__struct_fields__ if f != "device"}
        rows.append(RegisterConfig(**values))
    return msgspec.structs.replace(
        sensor,
        register=(*rows, *sensor.register),
        max_words=sensor.max_words or profile.max_words,
        merge_gap=profile.merge_gap if sensor.merge_gap is None else sensor.merge_gap,
    )


def _check(config: Config, where: str) -> None:
    """What types alone cannot say."""
    with At(f"{where}: gateway.id"):
        check_id(config.gateway.id, "gateway")
    if not config.machine:
        raise ConfigError("has no machine", where=where, mend="Add a [[machine]] table")
    unique([m.id for m in config.machine], "machine", where)
    unique([s.id for m in config.machine for s in m.sensor], "sensor", where)
    for machine in config.machine:
        _check_machine(machine, f"{where}: machine {machine.id!r}")
    lines_agree([(s.id, s.source) for m in config.machine for s in m.sensor], where)
    if config.modbus_server is not None:
        check_port(config.modbus_server.url, f"{where}: modbus_server.url")
    if config.sync is not None:
        check_port(config.sync.url, f"{where}: sync.url")
        if config.sync.batch_rows < 1:
            raise ConfigError(
                f"batch_rows is {config.sync.batch_rows}: nothing would be sent",
                where=f"{where}: sync.batch_rows",
                mend="At least 1; 200 is the default",
            )
        if not 0 < config.sync.timeout_s <= 3600:
            raise ConfigError(
                f"timeout_s is {config.sync.timeout_s:g}",
                where=f"{where}: sync.timeout_s",
                mend="Above 0, at most 3600",
            )
    if config.sync is not None and not config.sync.longest_pause_s >= 1:
        raise ConfigError(
            f"longest_pause_s is {config.sync.longest_pause_s:g}; at least 1",
            where=f"{where}: sync.longest_pause_s",
        )
    if config.sync is not None and not (config.sync.poll_s == 0 or config.sync.poll_s >= 5):
        raise ConfigError(
            f"poll_s is {config.sync.poll_s:g}; 0, or at least 5", where=f"{where}: sync.poll_s"
        )
    if not 0 <= config.store.commit_s <= 60:
        raise ConfigError(f"commit_s is {config.store.commit_s:g}; 0 to 60", where=f"{where}: store.commit_s")
    if config.store.max_mb < 4:
        raise ConfigError(f"max_mb is {config.store.max_mb}; at least 4", where=f"{where}: store.max_mb")


def _check_machine(machine: MachineConfig, where: str) -> None:
    with At(where):
        check_id(machine.id, "machine")
    if not machine.sensor:
        raise ConfigError("has no sensor", where=where, mend="Add a [[machine.sensor]] table")
    if not (0 <= machine.evidence.before_s <= 600 and 0 <= machine.evidence.after_s <= 3600):
        raise ConfigError(
            f"evidence is {machine.evidence.before_s:g} s before and {machine.evidence.after_s:g} s after",
            where=f"{where}: evidence",
            mend="before_s is 0 to 600 (it is kept in memory), after_s 0 to 3600",
        )
    spectrum = machine.spectrum
    if not (
        (spectrum.every_s == 0 or 10 <= spectrum.every_s <= 1e8)
        and (spectrum.bins == 0 or 16 <= spectrum.bins <= 10_000)
        and 1 <= spectrum.averages <= 1000
    ):
        raise ConfigError(
            f"every_s = {spectrum.every_s:g}, bins = {spectrum.bins}, averages = {spectrum.averages}",
            where=f"{where}: spectrum",
            mend="every_s is 10 or more, or 0; bins 16 to 10000, or 0; averages 1 to 1000",
        )
    if machine.detect.model is None and machine.detect.learn_windows == 0 and machine.iso20816 is None:
        raise ConfigError(
            "nothing would judge this machine: no model, nothing to learn, no ISO group",
            where=where,
            mend='Give detect.model, detect.learn_windows, or iso20816 = { group = 2, support = "rigid" }',
        )
    if not 0 < machine.detect.false_alarms_per_month <= 1000:
        raise ConfigError(
            f"detect.false_alarms_per_month is {machine.detect.false_alarms_per_month:g}",
            where=where,
            mend="Give a rate above 0, such as 1",
        )
    if machine.detect.learn_windows != 0 and machine.detect.learn_windows < 20:
        raise ConfigError(
            f"detect.learn_windows is {machine.detect.learn_windows}",
            where=where,
            mend="A baseline needs at least 20 windows, a few hundred are better",
        )
    heard(machine, where)
    with At(f"{where}: alarm"):
        machine.alarm.settings()
    if machine.iso20816 is not None:
        with At(f"{where}: iso20816"):
            velocity_limits_mm_s(machine.iso20816.group, machine.iso20816.support)
    for sensor in machine.sensor:
        _check_sensor(sensor, machine, f"{where}: sensor {sensor.id!r}")


def _check_sensor(sensor: SensorConfig, machine: MachineConfig, where: str) -> None:
    with At(where):
        check_id(sensor.id, "sensor")
        for scalar in sensor.scalars:
            check_id(scalar.quantity, "quantity")
            if not scalar.unit:
                raise ConfigError(f"quantity {scalar.quantity!r} has an empty unit")
        if sensor.bearing is not None:
            sensor.bearing.geometry()
    unique([scalar.quantity for scalar in sensor.scalars], "quantity", where)
    for register in sensor.register:
        low, high = register.minimum, register.maximum
        here = f"{where}: register {register.quantity!r}"
        if low is not None and high is not None and low > high:
            raise ConfigError(f"minimum {low:g} is above maximum {high:g}: no value is valid", where=here)
        if register.scale == 0:
            raise ConfigError("scale is 0: every value would be the same", where=here, mend="Give its factor")
    check_port(sensor.source, f"{where}: source")
    modbus = urlsplit(sensor.source).scheme.startswith("modbus")
    if modbus and not sensor.register and sensor.burst is None:
        raise ConfigError(
            "a Modbus source without registers reads nothing",
            where=where,
            mend='Add profile = "..." (see pdm-edge profiles), or [[machine.sensor.register]] rows from the '
            "register list of the device",
        )
    if (sensor.register or sensor.burst) and not modbus:
        raise ConfigError("registers, profiles and bursts belong to a modbus+... source", where=where)
    if sensor.writable and not modbus:
        raise ConfigError("writable lists registers of a modbus+... source", where=where, mend="Remove it")
    if sensor.burst is not None and sensor.waveform is False:
        raise ConfigError("a burst is a waveform", where=where, mend="Remove waveform = false, or the burst")
    band = sensor.envelope_band_hz
    if band is not None and not 0 < band[0] < band[1]:
        raise ConfigError(
            f"envelope_band_hz is {band[0]:g} to {band[1]:g}",
            where=where,
            mend="Give the lower edge first, above 0",
        )
    sensor.features.check(f"{where}: features", has_speed=machine.rated_speed_rpm is not None)
    if sensor.features != FeaturesConfig() and not sensor.is_waveform:
        raise ConfigError("features are those of a vibration sensor", where=where, mend="Remove the key")
    if sensor.bearing is not None and machine.rated_speed_rpm is None:
        raise ConfigError(
            "bearing lines need the speed", where=where, mend="Give the machine's rated_speed_rpm"
        )
    if sensor.bearing is not None and not sensor.is_waveform:
        raise ConfigError("bearing lines need a vibration sensor", where=where)
