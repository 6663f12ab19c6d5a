"""Features in the words of a mechanic, for those who read an alarm."""

from __future__ import annotations

import re
from typing import Final

from pdm_edge.records import Score

_WORDS: Final = (
    (r"rms", "overall vibration (RMS)"),
    (r"peak", "peak vibration"),
    (r"crest_factor", "crest factor (how peaky)"),
    (r"kurtosis", "kurtosis (how impulsive)"),
    (r"skewness", "skewness (lopsided vibration)"),
    (r"velocity_rms_(\d+(?:\.\d+)?)_(\d+(?:\.\d+)?)hz", "vibration velocity {0}-{1}"),
    (r"(?:band_)?rms_(\d+(?:\.\d+)?)_(\d+(?:\.\d+)?)hz", "vibration {0}-{1}"),
    (r"envelope_rms", "envelope (impacts)"),
    (r"envelope_bpfo(?:_level)?", "outer race line (BPFO)"),
    (r"envelope_bpfi(?:_level)?", "inner race line (BPFI)"),
    (r"envelope_bsf(?:_level)?", "rolling element line (2 x BSF)"),
    (r"envelope_ftf(?:_level)?", "cage line (FTF)"),
    (
        r"(?:velocity_)?order_?(\d+(?:\.\d+)?)x?|(?:velocity_)?(\d+(?:\.\d+)?)x(?:_mm_s)?",
        "{0}x (turning speed)",
    ),
)
_COMPILED: Final = tuple((re.compile(rf"(?:{pattern})\Z"), words) for pattern, words in _WORDS)


def in_words(feature: str) -> str:
    """A feature's name for a person: ``drive-end-h/x/band_rms_2000_5000hz`` becomes
    ``vibration 2-5 kHz at drive-end-h x``. A name that is not known stays as it is, with its place.
    """
    *place, name = feature.split("/")
    where = f" at {' '.join(place)}" if place else ""
    for pattern, words in _COMPILED:
        match = pattern.match(name)
        if match:
            numbers = [group for group in match.groups() if group is not None]
            if "{1}" in words:
                low, high = (float(number) for number in numbers[:2])
                return words.replace("{0}-{1}", _span(low, high)) + where
            return words.format(*numbers) + where
    return name.replace("_", " ") + where


def explained(score: Score) -> tuple[tuple[str, float], ...]:
    """What carries a score, in words, strongest first, with shares of 1; axes and level of one line
    are one finding."""
    found: dict[str, float] = {}
    for feature, share in score.contributions:
        words = in_words(feature)
        found[words] = found.get(words, 0.0) + share
    return tuple(sorted(found.items(), key=lambda item: -item[1]))


def _span(low_hz: float, high_hz: float) -> str:
    if high_hz >= 1000:
        return f"{low_hz / 1000:g}-{high_hz / 1000:g} kHz"
    return f"{low_hz:g}-{high_hz:g} Hz"
