"""From a checked configuration to open sources, buffer and uploader."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pdm_edge.acquire import Register, open_modbus, open_serial, open_source
from pdm_edge.acquire.burst import BurstTask
from pdm_edge.acquire.modbus import DeviceOptions
from pdm_edge.acquire.registers import MAX_BLOCK
from pdm_edge.clock import FixedClock
from pdm_edge.config import Config, SensorConfig
from pdm_edge.errors import ConfigError, StoreError
from pdm_edge.ports import Clock, Source, Uploader
from pdm_edge.serve import ModbusServer
from pdm_edge.serve.modbus_server import Watched
from pdm_edge.store.buffer import Buffer
from pdm_edge.sync import open_uploader
from pdm_edge.sync.budget import Budget, Logbook
from pdm_edge.sync.worker import SyncWorker


def open_sources(config: Config, clock: Clock) -> tuple[list[Source], list[Source]]:
    """Open one source for each line; sensors on the same line share it.

    Returns the live sources, and the patient ones (recordings that are not played in real time).
    """
    live: list[Source] = []
    patient: list[Source] = []
    started_ns = clock.stamp().utc_ns  # recordings keep their own time, all from the same start
    for url, sensors in lines_of(config).items():
        scheme = urlsplit(url).scheme
        if scheme.startswith("modbus"):
            registers = [register for sensor in sensors for register in registers_of(sensor)]
            live.append(
                open_modbus(
                    url,
                    registers,
                    clock=clock,
                    options=device_options(sensors),
                    bursts=[_burst(sensor, clock) for sensor in sensors if sensor.burst is not None],
                    writable=[(_device(s), address) for s in sensors for address in s.writable],
                )
            )
        elif scheme == "serial":
            live.append(open_serial(url, _channels(sensors), clock=clock))
        else:
            in_real_time = _query(url).get("realtime") == "1"
            own_clock = clock if in_real_time else FixedClock(started_ns)
            source = open_source(_from_base(config, url), clock=own_clock, sensor=_only(sensors).id)
            (live if in_real_time else patient).append(source)
    if live and patient:
        raise ConfigError(
            f"{patient[0].name} has a time of its own and cannot run beside the live {live[0].name}",
            mend="Add realtime=1 to the recording's source, or replay it alone",
        )
    return live, patient


def lines_of(config: Config) -> dict[str, list[SensorConfig]]:
    """The sensors of each line, by its URL; for Modbus that is the URL without the device."""
    lines: dict[str, list[SensorConfig]] = {}
    for machine in config.machine:
        for sensor in machine.sensor:
            lines.setdefault(_line(sensor), []).append(sensor)
    return lines


def open_buffer(config: Config, clock: Clock) -> Buffer:
    """Open the durable buffer of a gateway.

    Raises
    ------
    StoreError
        If the file is foreign, or its folder cannot be used.
    """
    path = config.path(config.store.path)
    held = config.sync is not None and config.sync.waveforms == "on_request"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Buffer(
            path,
            gateway=config.gateway.id,
            max_mb=config.store.max_mb,
            clock=clock,
            commit_s=config.store.commit_s,
            on_request=("waveform",) if held else (),
        )
    except OSError as error:
        raise StoreError(
            f"cannot be used: {error}", where=str(path), mend="Check the folder of store.path and its rights"
        ) from error


def open_server(config: Config, machines: Sequence[Watched]) -> ModbusServer | None:
    """The Modbus server that a PLC reads, None if the configuration names none."""
    if config.modbus_server is None:
        return None
    server = config.modbus_server
    return ModbusServer(server.url, machines, gateway=config.gateway.id, stale_after_s=server.stale_after_s)


def open_sync(config: Config, buffer: Buffer) -> SyncWorker | None:
    """The worker that empties the buffer, None if the configuration names no far end."""
    if config.sync is None:
        return None
    sync = config.sync
    return SyncWorker(
        buffer,
        uploader_for(config),
        batch_rows=sync.batch_rows,
        timeout_s=sync.timeout_s,
        longest_pause_s=sync.longest_pause_s,
        budget=budget_for(config, buffer),
        logbook=buffer,
        poll_s=sync.poll_s if sync.receipt == "end_to_end" else 0.0,  # a broker has nothing to ask for
    )


def budget_for(config: Config, logbook: Logbook) -> Budget | None:
    """What may be sent when; None if the configuration sets no bounds."""
    sync = config.sync
    if sync is None or (sync.max_kb_per_day, sync.max_kbit_s, sync.quiet_hours) == (None, None, None):
        return None
    return Budget(
        logbook,
        max_kb_per_day=sync.max_kb_per_day,
        max_kbit_s=sync.max_kbit_s,
        quiet_hours=sync.quiet_hours,
    )


def uploader_for(config: Config) -> Uploader:
    """The uploader that a configuration names.

    Raises
    ------
    ConfigError
        If it names none.
    """
    sync = config.sync
    if sync is None:
        raise ConfigError("there is no [sync] table", mend="Add one with the url of the far end")
    files = (sync.ca_file, sync.cert_file, sync.key_file)
    ca_file, cert_file, key_file = (None if f is None else str(config.path(f)) for f in files)
    return open_uploader(
        sync.url,
        gateway=config.gateway.id,
        receipt=sync.receipt,
        token=sync.token,
        username=sync.username,
        password=sync.password,
        ca_file=ca_file,
        cert_file=cert_file,
        key_file=key_file,
        encoding=sync.encoding,
        proxy=sync.proxy,
    )


def _line(sensor: SensorConfig) -> str:
    """The URL of the line a sensor is on, the same for all devices on it, however its options are ordered."""
    parts = urlsplit(sensor.source)
    if not parts.scheme.startswith(("modbus", "serial")):
        return sensor.source
    query = sorted(item for item in _query(sensor.source).items() if item[0] != "device")
    return urlunsplit(parts._replace(query=urlencode(query)))


def _query(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))


def registers_of(sensor: SensorConfig) -> list[Register]:
    """The registers of one sensor; the device id is the register's own, or that of the URL."""
    stated = _query(sensor.source).get("device")
    registers = []
    for row in sensor.register:
        device = row.device if row.device is not None else stated
        if device is None or not str(device).isdigit():
            raise ConfigError(
                f"register {row.quantity!r} has no device id (got {device!r})",
                where=f"sensor {sensor.id!r}",
                mend="Add ?device=N to the source, or device = N to the register",
            )
        registers.append(
            Register(
                sensor=sensor.id,
                quantity=row.quantity,
                unit=row.unit,
                device=int(device),
                address=row.address,
                table=row.table,
                type=row.type,
                word_order=row.word_order,
                byte_order=row.byte_order,
                scale=row.scale,
                offset=row.offset,
                minimum=row.minimum,
                maximum=row.maximum,
                invalid=row.invalid,
                bit=row.bit,
                bit_count=row.bit_count,
            )
        )
    return registers


def _burst(sensor: SensorConfig, clock: Clock) -> BurstTask:
    assert sensor.burst is not None
    how = sensor.burst
    return BurstTask(
        sensor.id, _device(sensor), base=how.base, every_s=how.every_s, clock=clock, fifo=how.fifo
    )


def _device(sensor: SensorConfig) -> int:
    """The device id that the URL of a sensor states."""
    stated = _query(sensor.source).get("device", "")
    if not stated.isdigit():
        raise ConfigError(
            f"has no device id (got {stated!r})",
            where=f"sensor {sensor.id!r}",
            mend="Add ?device=N to the source",
        )
    return int(stated)


def device_options(sensors: list[SensorConfig]) -> dict[int, DeviceOptions]:
    """How to poll each device of a line: as often, and in as small reads, as one of its sensors asks."""
    options: dict[int, DeviceOptions] = {}
    for sensor in sensors:
        own = DeviceOptions(
            poll_s=sensor.poll_s,
            max_words=sensor.max_words or MAX_BLOCK,
            merge_gap=sensor.merge_gap or 0,
        )
        for device in {register.device for register in registers_of(sensor)}:
            known = options.get(device, own)
            options[device] = DeviceOptions(
                poll_s=min(known.poll_s, own.poll_s),
                max_words=min(known.max_words, own.max_words),
                merge_gap=min(known.merge_gap, own.merge_gap),
            )
    return options


def _channels(sensors: list[SensorConfig]) -> dict[int, str]:
    channels: dict[int, str] = {}
    for sensor in sensors:
        if sensor.channel in channels:
            raise ConfigError(
                f"channel {sensor.channel} of {sensor.source} is also sensor {channels[sensor.channel]!r}",
                where=f"sensor {sensor.id!r}",
                mend="Give each sensor of a device its own channel = N",
            )
        channels[sensor.channel] = sensor.id
    return channels


def _only(sensors: list[SensorConfig]) -> SensorConfig:
    if len(sensors) > 1:
        raise ConfigError(
            f"{sensors[0].source} is named by {len(sensors)} sensors", mend="A recording feeds one sensor"
        )
    return sensors[0]


def _from_base(config: Config, url: str) -> str:
    """A recording's relative path (``replay://today.npz``) starts at the folder of the configuration."""
    parts = urlsplit(url)
    if parts.scheme != "replay":
        return url
    path = config.path(parts.netloc + parts.path).resolve()
    return urlunsplit(parts._replace(netloc="", path=str(path)))
