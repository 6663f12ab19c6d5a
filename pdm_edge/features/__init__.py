"""Data manipulation (ISO 13374 DM): arrays in, numbers out."""
