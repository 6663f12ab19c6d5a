"""A simulated machine: a motor-driven pump with a rolling bearing that can be made to fail.

It is a stand-in for hardware on the desk, made from the usual model of bearing vibration
(McFadden and Smith 1984; Antoni and Randall 2003): shaft orders, machine noise, and for a fault
a train of strikes at the ball pass frequency, each ringing a resonance, with the jitter of
slipping balls. It says nothing about how well faults of a real machine are found.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pdm_edge.records import Float32Array

_RESONANCE_HZ = 3200.0
_DECAY_S = 0.0012
_RING_S = 0.008
_SLIP_JITTER = 0.01


class VibrationSimulator:
    """Endless acceleration in g, block after block.

    Parameters
    ----------
    sample_rate_hz
        Samples a second; at least 8 kHz, to hold the simulated resonance.
    shaft_hz
        Turns of the shaft a second.
    strike_hz
        Ball pass frequency of the race that fails.
    seed
        Same seed, same samples.

    Attributes
    ----------
    severity
        0 is healthy; 1 is a clear fault, strikes of about 2 g.
    """

    def __init__(
        self, *, sample_rate_hz: float = 25600.0, shaft_hz: float = 24.67, strike_hz: float, seed: int
    ) -> None:
        if sample_rate_hz < 2.5 * _RESONANCE_HZ:
            raise ValueError(
                f"sample_rate_hz {sample_rate_hz:g} cannot hold a {_RESONANCE_HZ:g} Hz resonance"
            )
        self.sample_rate_hz = sample_rate_hz
        self.severity = 0.0
        self._shaft_hz = shaft_hz
        self._strike_hz = strike_hz
        self._random = np.random.default_rng(seed)
        self._sample = 0
        self._next_strike = 0.0
        self._load = 0.0
        self._noise_tail = np.zeros(2)
        ring = np.arange(round(_RING_S * sample_rate_hz)) / sample_rate_hz
        self._ring = np.exp(-ring / _DECAY_S) * np.sin(2 * np.pi * _RESONANCE_HZ * ring)
        self._carry = np.zeros(self._ring.size)

    def block(self, n_samples: int) -> Float32Array:
        """The next `n_samples` samples, shape ``(n_samples,)``, in g."""
        # The load wanders slowly, as it does on a real line: about 3 % around its mean.
        self._load = 0.98 * self._load + 0.2 * 0.03 * float(self._random.standard_normal())
        time_s = (self._sample + np.arange(n_samples)) / self.sample_rate_hz
        turn = 2 * np.pi * self._shaft_hz * time_s
        x = (1 + self._load) * (0.05 * np.sin(turn) + 0.03 * np.sin(2 * turn + 0.6))
        x += 0.02 * np.sin(7 * turn + 1.1)  # blade pass of a seven-blade wheel
        x += self._machine_noise(n_samples)
        x += self._strikes(n_samples)
        self._sample += n_samples
        return x.astype(np.float32)

    def _machine_noise(self, n_samples: int) -> npt.NDArray[np.float64]:
        white = self._random.standard_normal(n_samples + 2)
        white[:2] = self._noise_tail
        self._noise_tail = white[-2:].copy()
        coloured: npt.NDArray[np.float64] = 0.5 * white[2:] + 0.35 * white[1:-1] + 0.15 * white[:-2]
        return 0.06 * (1 + self._load) * coloured

    def _strikes(self, n_samples: int) -> npt.NDArray[np.float64]:
        out = np.zeros(n_samples + self._ring.size)
        out[: self._carry.size] += self._carry
        period = self.sample_rate_hz / self._strike_hz
        while self._next_strike < n_samples:
            at = math.floor(self._next_strike)
            strength = 2.0 * self.severity * (1 + 0.2 * float(self._random.standard_normal()))
            out[at : at + self._ring.size] += strength * self._ring
            self._next_strike += period * (1 + _SLIP_JITTER * float(self._random.standard_normal()))
        self._next_strike -= n_samples
        self._carry = out[n_samples:].copy()
        return out[:n_samples]
