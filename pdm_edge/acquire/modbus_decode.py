"""The words of a block as readings, all at once.

What can be known from the map is worked out once. What a register means is said by `Register.decode`;
here only those values are made that are plainly good, and all others are left to it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from operator import add, mul
from typing import Final

from pdm_edge.acquire.reading_plan import ReadingPlan
from pdm_edge.acquire.registers import FORMATS, Block, Register
from pdm_edge.records import Reading, Stamp

_INFINITE: Final = math.inf


class BlockReader:
    """Decodes one block again and again.

    Attributes
    ----------
    block
        What to ask the device for.
    """

    def __init__(self, block: Block) -> None:
        self.block = block
        registers = block.registers
        self._plan = ReadingPlan([(r.sensor, r.quantity, r.unit) for r in registers])
        self._layouts = _layouts(block)
        order = [index for layout in self._layouts for index in layout.indices]
        places = sorted(range(len(order)), key=order.__getitem__)
        self._places = None if order == sorted(order) else places
        self._scales = [float(r.scale) for r in registers]
        self._offsets = [float(r.offset) for r in registers]
        self._limits: list[tuple[int, float, float]] = [
            (
                n,
                -_INFINITE if r.minimum is None else r.minimum,
                _INFINITE if r.maximum is None else r.maximum,
            )
            for n, r in enumerate(registers)
            if r.minimum is not None or r.maximum is not None
        ]
        self._invalid = [(n, frozenset(r.invalid)) for n, r in enumerate(registers) if r.invalid]
        self._bits = [n for n, r in enumerate(registers) if r.bit is not None]

    def readings(self, words: Sequence[int], stamp: Stamp) -> tuple[list[Reading], int]:
        """The readings in the order of the block's registers, and how many of them are bad.

        `words` are the `block.count` words (or bits) that the device gave.
        """
        raws: list[float] = []
        for layout in self._layouts:
            raws += layout.unpack(words)
        if self._places is not None:
            raws = [raws[place] for place in self._places]
        values = list(map(add, map(mul, raws, self._scales), self._offsets))
        odd = [n for n, low, high in self._limits if not low <= values[n] <= high]
        odd += [n for n, invalid in self._invalid if raws[n] in invalid]
        odd += self._bits
        if not math.isfinite(sum(values)):
            odd += [n for n, value in enumerate(values) if not math.isfinite(value)]
        if not odd:
            return self._plan.good(values, stamp), 0
        for n in odd:
            values[n] = 0.0
        readings = self._plan.good(values, stamp)
        for n in odd:
            readings[n] = self._single(self.block.registers[n], words, stamp)
        return readings, sum(readings[n].quality.level == "bad" for n in set(odd))

    def _single(self, register: Register, words: Sequence[int], stamp: Stamp) -> Reading:
        at = register.address - self.block.address
        value, quality = register.decode(words[at : at + register.words])
        return Reading(register.sensor, register.quantity, value, register.unit, stamp, quality)


class _Layout:
    """Registers that one `struct` format reads: of the same orders, none over another.

    Little word order is the reverse of big, but for the bytes in each word. So where both orders
    are the same, the words are packed as they came, else with their bytes swapped, and the word
    order says from which end a number is read.
    """

    def __init__(self, count: int, word_order: str, byte_order: str) -> None:
        self.indices: list[int] = []
        self._pack = struct.Struct(f"{'>' if word_order == byte_order else '<'}{count}H").pack
        self._format = ">" if word_order == "big" else "<"
        self._end = 0

    def take(self, index: int, at: int, register: Register) -> bool:
        """Append a register that stands `at` words from the start; False if it overlaps the last."""
        if at < self._end:
            return False
        self._format += f"{2 * (at - self._end)}x{FORMATS.get(register.type, 'H')}"
        self._end = at + register.words
        self.indices.append(index)
        self._unpack = struct.Struct(self._format).unpack_from
        return True

    def unpack(self, words: Sequence[int]) -> tuple[float, ...]:
        return self._unpack(self._pack(*words))


def _layouts(block: Block) -> list[_Layout]:
    layouts: list[tuple[tuple[str, str], _Layout]] = []
    for index, register in enumerate(block.registers):
        key, at = (register.word_order, register.byte_order), register.address - block.address
        if not any(known == key and layout.take(index, at, register) for known, layout in layouts):
            layout = _Layout(block.count, *key)
            layout.take(index, at, register)
            layouts.append((key, layout))
    return [layout for _, layout in layouts]
