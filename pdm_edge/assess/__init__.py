"""Health assessment (ISO 13374 HA): what is wrong with which part, from evidence."""
