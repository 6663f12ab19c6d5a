"""Modbus registers as values: what to read, in which blocks, and what the words mean. Pure."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from pdm_edge.errors import ConfigError
from pdm_edge.records import GOOD, Quality, bad

Table: TypeAlias = Literal["holding", "input", "coil", "discrete"]

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
TYPES: Final = (*FORMATS, "bool")
REGISTER_TABLES: Final = ("holding", "input")
TABLES: Final = (*REGISTER_TABLES, "coil", "discrete")
MAX_BLOCK: Final = 125
"""Most registers in one read (Modbus application protocol 1.1b3, 6.3)."""


@dataclass(frozen=True, slots=True)
class Register:
    """One value of a device: where it stands, how to read it, and what it may be.

    ``address`` counts from 0 as on the wire (the register that a manual calls 40001 or 30001 is
    address 0). ``word_order`` is the order of the registers of a value, ``byte_order`` that of the
    bytes in each: big/big is ABCD, little/big CDAB, big/little BADC, little/little DCBA.

    With ``bit``, only ``bit_count`` bits from that one up are taken from a ``uint`` value (bit 0 is
    the lowest). The value is ``raw * scale + offset``. Outside ``minimum`` to ``maximum``, or if
    the raw value is one of ``invalid``, it is bad.

    Raises
    ------
    ConfigError
        For a type, table, order, bit, address or device id that Modbus does not know.
    """

    sensor: str
    quantity: str
    unit: str
    device: int
    address: int
    type: str
    table: Table
    word_order: Literal["big", "little"] = "big"
    byte_order: Literal["big", "little"] = "big"
    scale: float = 1.0
    offset: float = 0.0
    minimum: float | None = None
    maximum: float | None = None
    invalid: tuple[int, ...] = ()
    bit: int | None = None
    bit_count: int = 1

    def __post_init__(self) -> None:
        where = f"sensor {self.sensor!r}, register {self.quantity!r}"
        choices: tuple[tuple[str, object, Sequence[str]], ...] = (
            ("type", self.type, TYPES),
            ("table", self.table, TABLES),
            ("word_order", self.word_order, ("big", "little")),
            ("byte_order", self.byte_order, ("big", "little")),
        )
        for name, value, known in choices:
            if value not in known:
                raise ConfigError(f"{name} is {value!r}", where=where, mend=f"Use one of {', '.join(known)}")
        if (self.type == "bool") != (self.table not in REGISTER_TABLES):
            raise ConfigError(
                f"type {self.type!r} in table {self.table!r}",
                where=where,
                mend="The tables coil and discrete hold bool; in registers use type uint16 with bit = N",
            )
        if not 0 <= self.address <= 65536 - self.words:
            raise ConfigError(
                f"address {self.address} is not in 0 to {65536 - self.words}",
                where=where,
                mend="Give the address as on the wire, counted from 0, without the leading 3 or 4",
            )
        if not 0 <= self.device <= 247:
            raise ConfigError(f"device id {self.device} is not in 0 to 247", where=where)
        if self.bit is not None and not (
            self.type.startswith("uint")
            and self.bit >= 0
            and self.bit_count >= 1
            and self.bit + self.bit_count <= 16 * self.words
        ):
            raise ConfigError(
                f"bits {self.bit} to {self.bit + self.bit_count - 1} of a {self.type}",
                where=where,
                mend="Bits are counted from 0, the lowest, and need one of the uint types",
            )

    @property
    def words(self) -> int:
        return 1 if self.type == "bool" else struct.calcsize(FORMATS[self.type]) // 2

    def decode(self, words: Sequence[int]) -> tuple[float, Quality]:
        """Value and quality of the words of this register; a bad value is NaN."""
        raw = self.raw(words)
        if raw in self.invalid:
            return math.nan, bad("device")
        if self.bit is not None:
            raw = (int(raw) >> self.bit) & ((1 << self.bit_count) - 1)
        value = float(raw) * self.scale + self.offset
        if not math.isfinite(value):
            return math.nan, bad("nonfinite")
        too_low = self.minimum is not None and value < self.minimum
        too_high = self.maximum is not None and value > self.maximum
        return (math.nan, bad("out_of_range")) if too_low or too_high else (value, GOOD)

    def raw(self, words: Sequence[int]) -> float:
        """The number that the words hold, before scale, bits and limits."""
        if self.type in ("uint16", "bool") and self.byte_order == "big":
            return words[0]
        ordered = words if self.word_order == "big" else tuple(reversed(words))
        packing = ">" if self.byte_order == "big" else "<"
        content = struct.pack(f"{packing}{len(ordered)}H", *ordered)
        (number,) = struct.unpack(f">{FORMATS[self.type]}", content)
        return float(number) if "float" in self.type else int(number)


@dataclass(frozen=True, slots=True)
class Block:
    """Registers of one table that are read at once."""

    table: Table
    address: int
    count: int
    registers: tuple[Register, ...]

    def halves(self) -> tuple[Block, ...]:
        """This block in two parts, to find out which of its registers a device refuses."""
        middle = len(self.registers) // 2
        return tuple(_block(part) for part in (self.registers[:middle], self.registers[middle:]) if part)


def blocks(
    registers: Sequence[Register], *, max_words: int = MAX_BLOCK, merge_gap: int = 0
) -> tuple[Block, ...]:
    """Join registers that stand near each other into blocks.

    Parameters
    ----------
    max_words
        Most registers that the device gives in one read.
    merge_gap
        Up to so many registers in between are read along, to save a request. With 0, addresses
        that nobody asked for are never read.
    """
    groups: list[list[Register]] = []
    end = 0
    for register in sorted(registers, key=lambda r: (r.table, r.address, r.words)):
        group = groups[-1] if groups else None
        own_end = register.address + register.words
        if (
            group is not None
            and group[0].table == register.table
            and register.address <= end + merge_gap
            and max(end, own_end) - group[0].address <= max_words
        ):
            group.append(register)
            end = max(end, own_end)
        else:
            groups.append([register])
            end = own_end
    return tuple(_block(group) for group in groups)


def _block(registers: Sequence[Register]) -> Block:
    first = min(r.address for r in registers)
    count = max(r.address + r.words for r in registers) - first
    return Block(registers[0].table, first, count, tuple(registers))
