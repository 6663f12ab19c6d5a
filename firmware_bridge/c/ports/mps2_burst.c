/* A sensor with only RS-485 on a bare Cortex-M3: its main loop, around burst/pdm_burst.
 *
 * It samples ports/signal.h by the timer, ends a frame by silence as Modbus RTU asks, and answers.
 * SPDX-License-Identifier: Apache-2.0 */
#include "../../burst/pdm_burst.h"
#include "mps2_board.h"
#include "signal.h"

#ifndef BURST_RATE_HZ
#define BURST_RATE_HZ 6400
#endif
#ifndef BURST_SAMPLES
#define BURST_SAMPLES 2048
#endif

enum { BAUD = 115200, AXES = 3, DEVICE = 3, LONGEST_FRAME = 256 };
/* 3.5 characters are 0.3 ms at this rate. Modbus asks for 1.75 ms at least; an emulator gets its bytes
 * in fits and starts, so it is given more. */
enum { SILENCE = BOARD_HZ / 1000 * 15 };

int main(void);

int main(void)
{
    static int16_t store[AXES * BURST_SAMPLES];
    static uint8_t frame[LONGEST_FRAME + 1], reply[PDM_BURST_REPLY_MAX];
    static pdm_burst_t burst;
    const pdm_burst_config_t config = {
        .device = DEVICE,
        .base = PDM_BURST_BASE,
        .n_axes = AXES,
        .unit = 1,
        .rate_numerator = BURST_RATE_HZ,
        .rate_denominator = 1,
        .scale = 1.0f / 2048.0f,
        .n_samples = BURST_SAMPLES,
        .clip_count = 32767,
        .axes = {'x', 'y', 'z', 0},
    };
    size_t length = 0u, queued = 0u, sent = 0u;
    uint64_t ticks = 0u, sample = 0u; /* since the start */
    uint32_t last = 0u, heard = 0u;

    board_start(BAUD);
    if (pdm_burst_init(&burst, &config, store, AXES * BURST_SAMPLES) != 0) {
        return 1;
    }
    last = board_ticks();
    for (;;) {
        const uint32_t now = board_ticks();
        uint32_t now_ms;

        ticks += (uint32_t)(now - last);
        last = now;
        now_ms = (uint32_t)(ticks * 1000u / BOARD_HZ);
        while (sample * BOARD_HZ <= ticks * BURST_RATE_HZ) {
            int16_t axes[AXES];
            for (uint32_t axis = 0u; axis < AXES; axis++) {
                axes[axis] = (int16_t)signal_at((uint32_t)sample, axis);
            }
            pdm_burst_sample(&burst, axes, now_ms);
            sample++;
        }
        while (board_receive(&frame[length])) {
            length += length < LONGEST_FRAME ? 1u : 0u; /* too long a frame fails its CRC */
            heard = now;
        }
        if (length != 0u && now - heard > SILENCE) {
            queued = pdm_burst_answer(&burst, frame, length, reply, now_ms);
            sent = length = 0u;
        }
        sent += board_send(reply + sent, queued - sent);
        if (length == 0u && sent == queued) {
            board_sleep();
        }
    }
}
