"""Getting to know an unknown Modbus line: who is there, and what do its registers mean. Read-only.

Every request is one that a device may get at any time (function 3 or 4), and there is a pause
between any two, so that a line in operation is hardly disturbed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pdm_edge.acquire.burst import DEFAULT_BASE, BurstDescriptor, BurstError, parse_descriptor
from pdm_edge.acquire.modbus_line import Line, NoAnswerError, QuarantineError, RefusedError
from pdm_edge.acquire.profiles import Profile
from pdm_edge.acquire.registers import FORMATS, Block, Register, Table, blocks

BAUDS: Final = (9600, 19200, 115200, 38400, 57600, 4800)
PARITIES: Final = ("N", "E")
_PATIENCE: Final = 3
_ORDERS: Final[tuple[tuple[Literal["big", "little"], Literal["big", "little"], str], ...]] = (
    ("big", "big", "ABCD"),
    ("little", "big", "CDAB"),
    ("big", "little", "BADC"),
    ("little", "little", "DCBA"),
)


@dataclass(frozen=True, slots=True)
class View:
    """Registers read in one way; ``plausible`` if a measured value could look like that."""

    address: int
    type: str
    word_order: Literal["big", "little"]
    byte_order: Literal["big", "little"]
    letters: str
    value: float
    plausible: bool


@dataclass(frozen=True, slots=True)
class Match:
    """A profile that fits a device; ``sure`` if the device names itself, and not only its values."""

    profile: str
    sure: bool
    values: tuple[tuple[str, str, float], ...]


def find_devices(line: Line, ids: Sequence[int], *, pause_s: float) -> Iterator[tuple[int, str]]:
    """Ask each id for one register; yield the ids that answer, and how."""
    for device in ids:
        time.sleep(pause_s)
        try:
            line.read(device, Block("holding", 0, 1, ()))
        except RefusedError as error:
            yield device, f"answers (exception {error.code})"
        except NoAnswerError:
            continue
        else:
            yield device, "answers"


def read_words(
    line: Line, device: int, table: Table, address: int, count: int, *, pause_s: float
) -> dict[int, int]:
    """Registers by address; in one request if the device lets us, else one by one without the refused.

    Raises
    ------
    NoAnswerError
        If the device does not answer.
    """
    try:
        words = _ask(line, device, Block(table, address, count, ()), pause_s)
        return dict(enumerate(words, start=address))
    except RefusedError:
        if count == 1:
            return {}
    out: dict[int, int] = {}
    for one in range(address, address + count):
        out.update(read_words(line, device, table, one, 1, pause_s=pause_s))
    return out


def views(words: dict[int, int]) -> list[View]:
    """Every register in every type and order that the registers behind it allow.

    Of single registers only one view is marked for the same bits: as a signed number where that says
    the same as an unsigned one, and with its bytes swapped only where it makes no sense as it is.
    """
    out: list[View] = []
    for address in sorted(words):
        for kind in FORMATS:
            n_words = Register("x", "x", "1", 1, 0, kind, "holding").words
            if any(address + n not in words for n in range(n_words)):
                continue
            orders = _ORDERS if n_words > 1 else (_ORDERS[0], _ORDERS[2])
            for word_order, byte_order, letters in orders:
                register = Register("x", "x", "1", 1, 0, kind, "holding", word_order, byte_order)
                value = register.raw([words[address + n] for n in range(n_words)])
                names = letters if n_words > 1 else ("AB" if byte_order == "big" else "BA")
                seen = [v for v in out if v.address == address and v.plausible and v.type.endswith("int16")]
                plausible = is_plausible(kind, value) and not (kind.endswith("int16") and seen)
                out.append(View(address, kind, word_order, byte_order, names, value, plausible))
    return out


def is_plausible(kind: str, value: float) -> bool:
    """Whether a measured value could look like that.

    Wrong types and orders give floats that are tiny, huge or NaN, and large integers; zero says
    nothing. The rule marks, it does not prove.
    """
    if kind.startswith("float"):
        return math.isfinite(value) and 1e-3 <= abs(value) < 1e5
    if kind.endswith("16"):
        return 0 < abs(value) <= 10_000
    return 0 < abs(value) <= 10_000_000


def recognise(line: Line, device: int, profiles: Sequence[Profile], *, pause_s: float) -> list[Match]:
    """The profiles that fit a device, those that are sure first.

    A profile fits if the device has all its registers and every value is in its range; it is sure
    if its identity register says so. A device that lacks one register is none of that kind.
    """
    out = []
    for profile in profiles:
        match = _fits(line, device, profile, pause_s)
        if match is not None:
            out.append(match)
    return sorted(out, key=lambda m: (not m.sure, -len(m.values), m.profile))


def burst_of(line: Line, device: int, *, pause_s: float) -> BurstDescriptor | None:
    """What a device says of its waveforms (firmware_bridge/BURST.md); None if it has none."""
    try:
        return parse_descriptor(list(_ask(line, device, Block("holding", DEFAULT_BASE, 17, ()), pause_s)))
    except (NoAnswerError, RefusedError, BurstError):
        return None


def _fits(line: Line, device: int, profile: Profile, pause_s: float) -> Match | None:
    sure = False
    values: list[tuple[str, str, float]] = []
    try:
        if profile.identity is not None:
            identity = profile.identity
            (word,) = _ask(line, device, Block(identity.table, identity.address, 1, ()), pause_s)
            if not identity.lowest <= word <= identity.highest:
                return None
            sure = True
        registers = profile.registers("probe", device)
        for block in blocks(registers, max_words=profile.max_words, merge_gap=profile.merge_gap):
            words = _ask(line, device, block, pause_s)
            for register in block.registers:
                at = register.address - block.address
                value, quality = register.decode(words[at : at + register.words])
                if quality.level != "good" and "device" not in quality.reasons:
                    return None
                values.append((register.quantity, register.unit, value))
    except (NoAnswerError, RefusedError):
        return None
    return Match(profile.id, sure, tuple(values))


def _ask(line: Line, device: int, block: Block, pause_s: float) -> Sequence[int]:
    """Read a block from a device that is known to be there, with patience.

    Some devices hear nothing for half a second after they have refused a request.
    """
    for attempt in range(1, _PATIENCE):
        time.sleep(pause_s)
        try:
            return line.read(device, block)
        except QuarantineError as error:
            time.sleep(error.wait_s)
        except NoAnswerError:
            time.sleep(0.3 * attempt)
    return line.read(device, block)
