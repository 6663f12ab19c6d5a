"""When and how much may be sent: bytes a day, bits a second, quiet hours."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Final, Protocol

from pdm_edge.errors import ConfigError
from pdm_edge.records import LANES, Lane

ALWAYS: Final[tuple[Lane, ...]] = ("alarm", "event")
_DAY_S: Final = 86_400
_HEAD_START_S: Final = 3600.0
_QUIET_HOURS: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)\Z")


class Logbook(Protocol):
    """Where the link is accounted for, so that a restart does not forget; the buffer is one."""

    def sent_on(self, day: str) -> int: ...

    def note_sent(self, day: str, n_bytes: int) -> None: ...

    def note_failure(self, text: str) -> None: ...


class Budget:
    """Says which lanes may be sent now.

    Parameters
    ----------
    logbook
        Remembers the bytes of the day.
    max_kb_per_day
        Payload of a UTC day in kB (1000 bytes). It becomes available evenly over the day, with one
        hour in advance, so that midnight is no rush hour and the evening not empty. Alarms and events
        are sent even beyond it, and count.
    max_kbit_s
        Highest rate, kept by pausing after each batch.
    quiet_hours
        ``22:00-06:00``, in the gateway's local time: only alarms are sent then.

    Raises
    ------
    ConfigError
        For numbers that are not positive, or hours that are none.
    """

    def __init__(
        self,
        logbook: Logbook,
        *,
        max_kb_per_day: float | None = None,
        max_kbit_s: float | None = None,
        quiet_hours: str | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        for name, value in (("max_kb_per_day", max_kb_per_day), ("max_kbit_s", max_kbit_s)):
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {value:g}", where="sync", mend="Give a positive number")
        self._logbook = logbook
        self._max_bytes = None if max_kb_per_day is None else max_kb_per_day * 1000
        self._max_kbit_s = max_kbit_s
        self._quiet = None if quiet_hours is None else parse_quiet_hours(quiet_hours)
        self._now_s = now_s

    def lanes(self) -> Sequence[Lane]:
        """The lanes that may be sent now."""
        now_s = self._now_s()
        if self._is_quiet(now_s):
            return ("alarm",)
        if self._max_bytes is None:
            return LANES
        share = min((now_s % _DAY_S + _HEAD_START_S) / _DAY_S, 1.0)
        return LANES if self._logbook.sent_on(_day(now_s)) < share * self._max_bytes else ALWAYS

    def spend(self, n_bytes: int) -> float:
        """Account for bytes that were sent; return the pause in seconds that the rate asks for."""
        if n_bytes and self._max_bytes is not None:
            self._logbook.note_sent(_day(self._now_s()), n_bytes)
        return 0.0 if self._max_kbit_s is None else n_bytes * 8 / (self._max_kbit_s * 1000)

    def _is_quiet(self, now_s: float) -> bool:
        if self._quiet is None:
            return False
        local = time.localtime(now_s)
        minute = local.tm_hour * 60 + local.tm_min
        begin, end = self._quiet
        return begin <= minute < end if begin <= end else minute >= begin or minute < end


def parse_quiet_hours(text: str) -> tuple[int, int]:
    """``22:00-06:00`` as minutes of the day.

    Raises
    ------
    ConfigError
        If it is no such pair.
    """
    match = _QUIET_HOURS.match(text)
    if match is None:
        raise ConfigError(
            f"quiet hours {text!r} cannot be read", where="sync.quiet_hours", mend="Write 22:00-06:00"
        )
    hours = [int(part) for part in match.groups()]
    return hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]


def _day(now_s: float) -> str:
    return datetime.fromtimestamp(now_s, timezone.utc).strftime("%Y-%m-%d")
