"""Data acquisition (ISO 13374 DA): bytes, registers and files become waveforms and readings."""

from pdm_edge.acquire.open import open_modbus, open_serial, open_source
from pdm_edge.acquire.registers import Register

__all__ = ["Register", "open_modbus", "open_serial", "open_source"]
