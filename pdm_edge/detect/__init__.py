"""State detection (ISO 13374 SD): a score from a TFLite model, limits, thresholds."""
