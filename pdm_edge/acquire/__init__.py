"""Data acquisition (ISO 13374 DA): bytes, registers and files become waveforms and readings."""
