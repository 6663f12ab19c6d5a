"""Reading and checking the configuration file; its tables are those of `config`.

Every mistake is a ConfigError that names the file, the path of the key and the mend.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from pdm_edge.acquire.profiles import load_profile
from pdm_edge.config import Config, MachineConfig, RegisterConfig, SensorConfig
from pdm_edge.config_errors import At, check_port, explained, finite, lines_agree, unique
from pdm_edge.config_features import FeaturesConfig
from pdm_edge.errors import ConfigError
from pdm_edge.features import velocity_limits_mm_s
from pdm_edge.hearing import heard
from pdm_edge.records import check_id


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
