"""Alarms that stand outlive a restart: one small file for each machine that is in alert or alarm.

A restart is no evidence. Without this, a standing alarm would be told to the mechanic as a new one, and the
time at which it was raised would be lost. A file is written after its advisory is stored, so that a
crash between the two tells an alarm twice and never not at all.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import msgspec

from pdm_edge.advise.part import named_part, only_in_mean
from pdm_edge.records import Advisory, Gap, Stamp

logger = logging.getLogger(__name__)

FORMAT: Final = 1
_LARGEST_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class StandingAlarm:
    """An alert or alarm that has not returned to normal.

    ``raised`` is when the machine left normal, ``alarm`` the id of the latest advisory, ``silent`` whether
    nothing is heard of the machine at present. ``told`` are the parts that were named, ``could_wait``
    whether nothing but the mean of many windows spoke, ``by_model`` whether a learned model judged.
    """

    machine: str
    level: Literal["alert", "alarm"]
    raised: Stamp
    alarm: str
    headline: str
    silent: bool = False
    told: tuple[str, ...] = ()
    could_wait: bool = False
    by_model: bool = False
    format: int = FORMAT


def standing_alarms(folder: Path) -> list[StandingAlarm]:
    """What stands by the files of a folder, for those who look on; files that cannot be used are left out."""
    found = []
    for path in sorted(folder.glob("*.alarm")):
        try:
            with path.open("rb") as stream:
                found.append(_decoded(stream.read(_LARGEST_BYTES + 1), path.name.removesuffix(".alarm")))
        except (OSError, ValueError) as error:
            logger.warning("%s is left out: %s", path, error)
    return found


class AlarmMemory:
    """The files ``<machine>.alarm`` in a folder. It never raises: what it cannot do is logged.

    Parameters
    ----------
    folder
        Where they are; made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._standing: dict[str, StandingAlarm] = {}
        self._unsaved: set[str] = set()
        self._failure = ""

    def take_up(self, machine: str, now: Stamp) -> StandingAlarm | Gap | None:
        """The alarm that stood when the last run ended, None if there was none.

        A file that cannot be used is renamed to ``<machine>.alarm.refused``; the gap says why.
        """
        path = self._path(machine)
        try:
            with path.open("rb") as stream:
                content = stream.read(_LARGEST_BYTES + 1)
            found = _decoded(content, machine)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            return self._refused(path, machine, str(error), now)
        self._standing[machine] = found
        return found

    def note(self, advisories: Iterable[Advisory], *, by_model: bool) -> None:
        """Advisories of one machine were stored: remember what stands after them."""
        for advisory in advisories:
            held = self._standing.get(advisory.machine)
            standing = _after(held, advisory, by_model)
            if standing != held:
                if standing is None:
                    del self._standing[advisory.machine]
                else:
                    self._standing[advisory.machine] = standing
                self._unsaved.add(advisory.machine)
        self.save()

    def save(self) -> None:
        """Write what has changed; what fails is tried again the next time."""
        for machine in sorted(self._unsaved):
            try:
                self._write(machine)
            except OSError as error:
                if str(error) != self._failure:
                    logger.error("the alarm state of %s is not kept: %s", machine, error)
                    self._failure = str(error)
            else:
                self._unsaved.discard(machine)
                self._failure = ""

    def _write(self, machine: str) -> None:
        path, standing = self._path(machine), self._standing.get(machine)
        if standing is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            new = path.with_name(f".{path.name}.new")
            with new.open("wb") as stream:
                stream.write(msgspec.json.encode(standing))
                stream.flush()
                os.fsync(stream.fileno())
            new.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _path(self, machine: str) -> Path:
        return self._folder / f"{machine}.alarm"

    def _refused(self, path: Path, machine: str, why: str, now: Stamp) -> Gap:
        logger.error("%s is refused: %s; the state of %s is judged anew", path, why, machine)
        try:
            path.replace(path.with_name(f"{path.name}.refused"))
        except OSError as error:
            logger.error("%s stays where it is: %s", path, error)
        return Gap(machine, "records", 1, f"the file of the standing alarm is refused: {why}", now)


def _decoded(content: bytes, machine: str) -> StandingAlarm:
    if len(content) > _LARGEST_BYTES:
        raise ValueError(f"is larger than {_LARGEST_BYTES} bytes")
    found = msgspec.json.decode(content, type=StandingAlarm)
    if found.format != FORMAT:
        raise ValueError(f"has format {found.format}, known is {FORMAT}")
    if found.machine != machine:
        raise ValueError(f"is of machine {found.machine!r}")
    return found


def _after(held: StandingAlarm | None, advisory: Advisory, by_model: bool) -> StandingAlarm | None:
    """What stands once this advisory has been told."""
    if advisory.state == "unknown":
        return None if held is None else replace(held, silent=True)
    if advisory.state not in ("alert", "alarm"):
        return None
    part = named_part(advisory)
    told = held.told if held is not None and advisory.state == advisory.previous else ()
    return StandingAlarm(
        advisory.machine,
        advisory.state,
        advisory.stamp if held is None else held.raised,
        advisory.id if held is None or advisory.state != advisory.previous else held.alarm,
        advisory.headline,
        told=(*told, part) if part and part not in told else told,
        could_wait=only_in_mean(advisory),
        by_model=by_model,
    )
