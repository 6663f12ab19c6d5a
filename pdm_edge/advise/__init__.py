"""Advisory generation (ISO 13374 AG): the alarm life cycle, and what to check."""
