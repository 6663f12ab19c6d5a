"""Features beyond the default set, by configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pdm_edge as pdm
from pdm_edge.errors import ConfigError
from pdm_edge.records import FeatureVector

RATE_HZ = 5120.0


def machine(features: dict[str, Any], **changes: Any) -> pdm.MachineConfig:
    sensor = {"id": "de", "source": "replay://r.npz", "features": features}
    described = {"id": "pump", "sensor": [sensor], "rated_speed_rpm": 1500.0}
    described |= {"detect": {"learn_windows": 20}, **changes}
    return pdm.parse_machine(described, where="test")


def names(config: pdm.MachineConfig, folder: Path) -> tuple[tuple[str, ...], FeatureVector]:
    running = pdm.Machine(config, models=folder)
    time_s = np.arange(round(RATE_HZ)) / RATE_HZ
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(time_s))
    samples = (0.5 * np.sqrt(2) * np.sin(2 * np.pi * 50 * time_s) + noise)[None].astype(np.float32)
    wave = pdm.Waveform("de", samples, RATE_HZ, "g", ("x",), pdm.FixedClock().stamp())
    (vector,) = (record for record in running.take(wave) if isinstance(record, FeatureVector))
    return vector.schema.names, vector


def test_what_is_asked_for_follows_the_default_set(tmp_path: Path) -> None:
    default, _ = names(machine({}), tmp_path)
    asked = {"extras": ["shape_factor"], "more_bands_hz": [[45, 55]], "orders": [1, 2]}
    more, vector = names(machine(asked), tmp_path)
    assert more[: len(default)] == default
    assert more[len(default) :] == (
        "de/x/shape_factor",
        "de/x/band_rms_45_55hz",
        "de/x/velocity_order_1x",
        "de/x/velocity_order_2x",
    )
    values = vector.as_dict()
    # A sine of 0.5 g RMS at 50 Hz, which is twice the speed: v = a / (2 pi f).
    assert values["de/x/band_rms_45_55hz"] == pytest.approx(0.5, rel=0.01)
    assert values["de/x/velocity_order_2x"] == pytest.approx(0.5 * 9806.65 / (2 * np.pi * 50), rel=0.02)
    assert values["de/x/shape_factor"] == pytest.approx(np.pi / (2 * np.sqrt(2)), rel=0.01)


@pytest.mark.parametrize(
    ("features", "changes", "says"),
    [
        ({"extras": ["entropy"]}, {}, "there is no feature 'entropy'. Extras are peak_to_peak"),
        ({"extras": ["shape_factor", "shape_factor"]}, {}, "'shape_factor' is used twice"),
        ({"orders": [0]}, {}, "Whole numbers from 1"),
        ({"orders": [1, 1]}, {}, "'1x' is used twice"),
        ({"orders": [1]}, {"rated_speed_rpm": None}, "Give the machine's rated_speed_rpm"),
        ({"more_bands_hz": [[200, 100]]}, {}, "band 200 to 100 Hz. Give the lower edge first"),
        ({"extra": []}, {}, "unknown key 'extra'"),
    ],
)
def test_what_no_window_could_give_is_refused(
    features: dict[str, Any], changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        machine(features, **changes)
    assert says in str(caught.value)
