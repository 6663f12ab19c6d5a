/* The vibration that the ports play: a function of the sample's number alone, in whole numbers, so
 * that whoever reads the stream can check every sample. firmware_bridge/emulator.py has the same.
 *
 * A shaft tone, a train of decaying impacts every 240 samples as a damaged bearing makes them, and
 * noise. One unit is 2^-11 g. SPDX-License-Identifier: Apache-2.0 */
#ifndef PDM_PORT_SIGNAL_H
#define PDM_PORT_SIGNAL_H

#include <stdint.h>

static inline int32_t signal_wave(uint32_t phase)
{
    /* A parabola on each half of the turn; within 6 % of a sine. Result is -8192 to 8192. */
    const int32_t p = (int32_t)(phase & 0x7FFFu) - 0x4000;
    const int32_t half = 8192 - ((p * p) >> 15);
    return (phase & 0x8000u) != 0u ? -half : half;
}

static inline int32_t signal_at(uint32_t sample, uint32_t axis)
{
    uint32_t noise = (sample * 3u + axis) * 2654435761u;
    const uint32_t since = sample % 240u;
    int32_t value = signal_wave(sample * (63u + axis)) >> 4;

    noise ^= noise >> 15;
    noise *= 2246822519u;
    noise ^= noise >> 13;
    value += (int32_t)(noise & 255u) - 128;
    if (since < 32u) {
        value += (signal_wave(since * 9000u) * (int32_t)(32u - since)) >> (6u + axis);
    }
    return value;
}

#endif
