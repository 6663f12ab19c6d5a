"""Data manipulation (ISO 13374 DM): arrays in, numbers out.

Pure functions on arrays of shape ``(..., n_samples)``, and `FeatureExtractor`, which computes the
whole set from one transform. Nothing here imports scipy.signal or scipy.stats.
"""

from pdm_edge.features.bearing import CATALOGUE, BearingFrequencies, BearingGeometry, line_amplitudes
from pdm_edge.features.envelope import envelope_spectrum
from pdm_edge.features.iso20816 import iso20816_zone, velocity_limits_mm_s
from pdm_edge.features.plan import FeatureExtractor, FeaturePlan, windows_matrix
from pdm_edge.features.spectrum import amplitude_spectrum, band_rms, psd, velocity_rms
from pdm_edge.features.time_domain import crest_factor, kurtosis, peak, peak_to_peak, rms, skewness

__all__ = [
    "CATALOGUE",
    "BearingFrequencies",
    "BearingGeometry",
    "FeatureExtractor",
    "FeaturePlan",
    "amplitude_spectrum",
    "band_rms",
    "crest_factor",
    "envelope_spectrum",
    "iso20816_zone",
    "kurtosis",
    "line_amplitudes",
    "peak",
    "peak_to_peak",
    "psd",
    "rms",
    "skewness",
    "velocity_limits_mm_s",
    "velocity_rms",
    "windows_matrix",
]
