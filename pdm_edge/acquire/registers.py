"""Modbus registers as values: what to read, in which blocks, and what the words mean. Pure."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pdm_edge.errors import ConfigError
from pdm_edge.records import GOOD, Quality, bad

FORMATS: Final = {
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}
MAX_BLOCK: Final = 125
"""Most registers in one read (Modbus application protocol 1.1b3, 6.3)."""


@dataclass(frozen=True, slots=True)
class Register:
    """One value of a device: where it stands, how to read it, and what it may be.

    ``address`` counts from 0 as on the wire (the register that a manual calls 40001 or 30001 is
    address 0). The value is ``raw * scale + offset``. Outside ``minimum`` to ``maximum``, or if the
    raw value is one of ``invalid``, it is bad.

    Raises
    ------
    ConfigError
        For a type, table, order, address or device id that Modbus does not know.
    """

    sensor: str
    quantity: str
    unit: str
    device: int
    address: int
    type: str
    table: Literal["holding", "input"]
    word_order: Literal["big", "little"] = "big"
    byte_order: Literal["big", "little"] = "big"
    scale: float = 1.0
    offset: float = 0.0
    minimum: float | None = None
    maximum: float | None = None
    invalid: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        where = f"sensor {self.sensor!r}, register {self.quantity!r}"
        choices: tuple[tuple[str, object, Sequence[str]], ...] = (
            ("type", self.type, tuple(FORMATS)),
            ("table", self.table, ("holding", "input")),
            ("word_order", self.word_order, ("big", "little")),
            ("byte_order", self.byte_order, ("big", "little")),
        )
        for name, value, known in choices:
            if value not in known:
                raise ConfigError(f"{name} is {value!r}", where=where, mend=f"Use one of {', '.join(known)}")
        if not 0 <= self.address <= 65536 - self.words:
            raise ConfigError(
                f"address {self.address} is not in 0 to {65536 - self.words}",
                where=where,
                mend="Give the address as on the wire, counted from 0, without the leading 3 or 4",
            )
        if not 0 <= self.device <= 247:
            raise ConfigError(f"device id {self.device} is not in 0 to 247", where=where)

    @property
    def words(self) -> int:
        return struct.calcsize(FORMATS[self.type]) // 2

    def decode(self, words: Sequence[int]) -> tuple[float, Quality]:
        """Value and quality of the words of this register; a bad value is NaN."""
        ordered = words if self.word_order == "big" else tuple(reversed(words))
        packing = ">" if self.byte_order == "big" else "<"
        content = b"".join(struct.pack(f"{packing}H", word) for word in ordered)
        (raw,) = struct.unpack(f">{FORMATS[self.type]}", content)
        if raw in self.invalid:
            return math.nan, bad("device")
        value = float(raw) * self.scale + self.offset
        if not math.isfinite(value):
            return math.nan, bad("nonfinite")
        too_low = self.minimum is not None and value < self.minimum
        too_high = self.maximum is not None and value > self.maximum
        return (math.nan, bad("out_of_range")) if too_low or too_high else (value, GOOD)


@dataclass(frozen=True, slots=True)
class Block:
    """Registers of one table that stand side by side and are read at once."""

    table: Literal["holding", "input"]
    address: int
    count: int
    registers: tuple[Register, ...]


def blocks(registers: Sequence[Register]) -> tuple[Block, ...]:
    """Join neighbours into blocks. Addresses that nobody asked for are never read."""
    out: list[Block] = []
    for register in sorted(registers, key=lambda r: (r.table, r.address)):
        last = out[-1] if out else None
        end = register.address + register.words
        if (
            last is not None
            and last.table == register.table
            and register.address <= last.address + last.count
            and end - last.address <= MAX_BLOCK
        ):
            count = max(last.count, end - last.address)
            out[-1] = Block(last.table, last.address, count, (*last.registers, register))
        else:
            out.append(Block(register.table, register.address, register.words, (register,)))
    return tuple(out)


def single_blocks(registers: Sequence[Register]) -> tuple[Block, ...]:
    """Each register in a block of its own, for devices that refuse a block as a whole."""
    return tuple(Block(r.table, r.address, r.words, (r,)) for r in registers)
