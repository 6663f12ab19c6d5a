"""Which sensor, and which of its axes, a model of the spectrum hears: named, or the only one there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pdm_edge.detect.feed import SPECTRAL
from pdm_edge.errors import ConfigError

if TYPE_CHECKING:
    from pdm_edge.config import MachineConfig


def heard(machine: MachineConfig, where: str) -> tuple[str, str]:
    """Sensor and axis; an empty axis is the only one that the sensor has, both are empty for a model of
    the machine's vector.

    Raises
    ------
    ConfigError
        If several sensors could be meant, or the one that is named does not exist.
    """
    named, family = machine.detect.hears, machine.detect.family
    if family not in SPECTRAL:
        if named is not None:
            raise ConfigError(
                f"detect.hears is {named!r}, but a {family} model is fed with the vector of all sensors",
                where=where,
                mend=f"Remove it, or choose a family of the spectrum: {' or '.join(SPECTRAL)}",
            )
        return "", ""
    sensors = [sensor.id for sensor in machine.sensor if sensor.is_waveform]
    if named is None:
        if len(sensors) == 1:
            return sensors[0], ""
        raise ConfigError(
            f"a {family} model hears one vibration sensor, and there are {len(sensors)}",
            where=where,
            mend=f'Say which: detect = {{ hears = "{sensors[0]}" }}' if sensors else "Choose another family",
        )
    sensor, _, axis = (named, "", "") if named in sensors else named.rpartition("/")
    if sensor not in sensors:
        raise ConfigError(
            f"detect.hears names {named!r}, which is no vibration sensor",
            where=where,
            mend=f"One of {', '.join(sensors)}, with /AXIS where it has several",
        )
    return sensor, axis
