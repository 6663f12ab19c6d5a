"""Which requests may be sent on a line whose replies carry no number, so that none is mistaken.

An RTU reply names its device, its function and its length, an exception only the first two. So a
reply that comes after its time-out fits every request with the same device and function. The rule:
after a miss, the device is asked nothing with that function until its reply can no longer come,
``late_s`` after it was given up; what comes meanwhile is dropped.

Why no value can then stand under another register's name. Take the requests to one device with one
function, in the order they were sent. When one is sent, each before it was either answered, or
given up at least ``late_s`` ago, so that its reply has come and was dropped. None is on its way, so
what fits can only be the answer; and since it is, none is on its way after it either. The order of
replies, their delay, and whether the next one comes at all do not matter, nor do other devices and
functions, whose replies do not fit. Taken for granted:

* a reply comes within ``late_s`` of being given up, or never;
* a second copy of a reply comes within 60 ms of the first, and a device that sends two answers
  within 60 ms. Then where a copy is taken for the answer to another request, it equals a reply just
  received, and the line asks again; and the same request is not sent again as soon as that;
* nobody else asks on this line, or did in the ``late_s`` before it was opened;
* noise does not pass the CRC-16.

Where a device is only ever asked one thing with a function, a late reply can only be an older
answer to it: the right register, at most one time-out and ``late_s`` older than its stamp says.
Then nothing has to wait. The same holds over a serial server (RTU over TCP), across a reconnect
too. Modbus TCP numbers its transactions and needs none of this.
"""

from __future__ import annotations

from typing import Final

from pdm_edge.acquire.modbus_frames import Request

COPY_WITHIN_S: Final = 0.06
_MOST_KEPT: Final = 256


class Quarantine:
    """What may not be asked yet. Pure: the caller tells the time (monotonic, seconds)."""

    def __init__(self, late_s: float) -> None:
        self._late_s = late_s
        self._only: dict[tuple[int, int], Request | None] = {}
        self._until_s: dict[tuple[int, int], float] = {}
        self._answered_s: dict[tuple[int, Request], float] = {}

    def wait_s(self, device: int, request: Request, now_s: float) -> float:
        """How long this request has to wait; 0 if it may be sent now. Call it before each request."""
        key = device, request.function
        if self._only.setdefault(key, request) != request:
            self._only[key] = None
        if self._only[key] is not None:
            return 0.0
        return max(self._until_s.get(key, now_s) - now_s, 0.0)

    def copies_until_s(self, device: int, request: Request) -> float:
        """Until when a copy of the last answer to this very request may come."""
        if self._only.get((device, request.function)) is not None:
            return 0.0
        return self._answered_s.get((device, request), 0.0) + COPY_WITHIN_S

    def ended(self, device: int, request: Request, sent_s: float, now_s: float, *, is_sure: bool) -> None:
        """A request has ended; `is_sure` if it was answered and nothing more of it can come.

        What was sent during a quarantine may have been answered by the reply to an earlier attempt,
        and its own may still come: it prolongs the quarantine as a miss does.
        """
        key = device, request.function
        if not is_sure or sent_s < self._until_s.get(key, sent_s):
            self._until_s[key] = now_s + self._late_s
        if len(self._answered_s) > _MOST_KEPT:
            self._answered_s = {k: s for k, s in self._answered_s.items() if now_s - s < COPY_WITHIN_S}
        self._answered_s[device, request] = now_s
