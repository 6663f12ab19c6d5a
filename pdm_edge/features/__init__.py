"""Data manipulation (ISO 13374 DM): arrays in, numbers out.

Pure functions on arrays of shape ``(..., n_samples)``, and `FeatureExtractor`, which computes the
whole set from one transform. Nothing here imports scipy.signal or scipy.stats.
"""

from pdm_edge.features.bearing import BearingFrequencies, BearingGeometry, geometry_from_orders
from pdm_edge.features.catalogue import (
    CATALOGUE,
    CATALOGUE_SOURCES,
    catalogued,
    estimated_geometry,
    makers_rows,
)
from pdm_edge.features.envelope import envelope_spectrum
from pdm_edge.features.extractor import FeatureExtractor, windows_matrix
from pdm_edge.features.integration import displacement_rms, integrate
from pdm_edge.features.iso20816 import (
    ZoneGrade,
    alarm_proposal_mm_s,
    iso20816_grade,
    iso20816_zone,
    significant_change,
    velocity_limits_mm_s,
)
from pdm_edge.features.kinematics import belt, blade_pass, gear_mesh, induction_motor
from pdm_edge.features.kurtogram import BandChoice, Kurtogram, choose_band, kurtogram
from pdm_edge.features.lines import LinePlan, LineTrace, line_amplitudes, trace_lines
from pdm_edge.features.operating import OperatingState, OperatingTracker
from pdm_edge.features.plan import EXTRAS, FeaturePlan
from pdm_edge.features.self_check import SelfCheck, SensorFinding, self_check
from pdm_edge.features.spectral_shape import (
    cepstrum,
    octave_bands_hz,
    spectral_centroid,
    spectral_entropy,
    spectral_flatness,
    spectral_kurtosis,
)
from pdm_edge.features.spectrum import amplitude_spectrum, band_rms, psd, velocity_rms
from pdm_edge.features.speed import (
    SpeedEstimate,
    estimate_speed,
    order_resample,
    tacho_pulses,
    time_synchronous_average,
)
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
    "CATALOGUE_SOURCES",
    "EXTRAS",
    "BandChoice",
    "BearingFrequencies",
    "BearingGeometry",
    "FeatureExtractor",
    "FeaturePlan",
    "Kurtogram",
    "LinePlan",
    "LineTrace",
    "OperatingState",
    "OperatingTracker",
    "SelfCheck",
    "SensorFinding",
    "SpeedEstimate",
    "ZoneGrade",
    "alarm_proposal_mm_s",
    "amplitude_spectrum",
    "band_rms",
    "belt",
    "blade_pass",
    "catalogued",
    "cepstrum",
    "choose_band",
    "clearance_factor",
    "crest_factor",
    "displacement_rms",
    "envelope_spectrum",
    "estimate_speed",
    "estimated_geometry",
    "gear_mesh",
    "geometry_from_orders",
    "impulse_factor",
    "induction_motor",
    "integrate",
    "iso20816_grade",
    "iso20816_zone",
    "kurtogram",
    "kurtosis",
    "line_amplitudes",
    "makers_rows",
    "octave_bands_hz",
    "order_resample",
    "peak",
    "peak_to_peak",
    "psd",
    "rms",
    "self_check",
    "shape_factor",
    "significant_change",
    "skewness",
    "spectral_centroid",
    "spectral_entropy",
    "spectral_flatness",
    "spectral_kurtosis",
    "tacho_pulses",
    "time_synchronous_average",
    "trace_lines",
    "velocity_limits_mm_s",
    "velocity_rms",
    "windows_matrix",
]
