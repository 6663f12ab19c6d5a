"""Data manipulation (ISO 13374 DM): arrays in, numbers out.

Pure functions on arrays of shape ``(..., n_samples)``, and `FeatureExtractor`, which computes the
whole set from one transform. Nothing here imports scipy.signal or scipy.stats.
"""

from pdm_edge.features.bearing import CATALOGUE, BearingFrequencies, BearingGeometry
from pdm_edge.features.envelope import envelope_spectrum
from pdm_edge.features.extractor import FeatureExtractor, windows_matrix
from pdm_edge.features.integration import displacement_rms, integrate
from pdm_edge.features.iso20816 import iso20816_zone, velocity_limits_mm_s
from pdm_edge.features.lines import LinePlan, LineTrace, line_amplitudes, trace_lines
from pdm_edge.features.plan import EXTRAS, FeaturePlan
from pdm_edge.features.spectral_shape import (
    cepstrum,
    octave_bands_hz,
    spectral_centroid,
    spectral_entropy,
    spectral_flatness,
    spectral_kurtosis,
)
from pdm_edge.features.spectrum import amplitude_spectrum, band_rms, psd, velocity_rms
from pdm_edge.features.time_domain import (
    clearance_factor,
    crest_factor,
    impulse_factor,
    kurtosis,
    peak,
    peak_to_peak,
    rms,
    shape_factor,
    skewness,
)

__all__ = [
    "CATALOGUE",
    "EXTRAS",
    "BearingFrequencies",
    "BearingGeometry",
    "FeatureExtractor",
    "FeaturePlan",
    "LinePlan",
    "LineTrace",
    "amplitude_spectrum",
    "band_rms",
    "cepstrum",
    "clearance_factor",
    "crest_factor",
    "displacement_rms",
    "envelope_spectrum",
    "impulse_factor",
    "integrate",
    "iso20816_zone",
    "kurtosis",
    "line_amplitudes",
    "octave_bands_hz",
    "peak",
    "peak_to_peak",
    "psd",
    "rms",
    "shape_factor",
    "skewness",
    "spectral_centroid",
    "spectral_entropy",
    "spectral_flatness",
    "spectral_kurtosis",
    "trace_lines",
    "velocity_limits_mm_s",
    "velocity_rms",
    "windows_matrix",
]
