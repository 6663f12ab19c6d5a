/* A sensor with pdm_burst on a serial line: `burst_sensor PORT ID N_AXES N_SAMPLES`. Sample n of axis a
 * is ((n * 7 + a * 1000) % 20001) - 10000, at 1000 samples/s by the real clock, in steps of 1/2048 g. */
#include "pdm_burst.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static uint32_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)((uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u);
}

int main(int argc, char **argv)
{
    static int16_t store[65536];
    static uint8_t frame[512];
    static uint8_t reply[PDM_BURST_REPLY_MAX];
    struct termios raw;
    pdm_burst_t burst;
    size_t length = 0;
    uint64_t sample = 0;
    if (argc != 5) {
        return 2;
    }
    const int line = open(argv[1], O_RDWR | O_NOCTTY);
    const pdm_burst_config_t config = {
        .device = (uint8_t)atoi(argv[2]),
        .base = PDM_BURST_BASE,
        .n_axes = (uint8_t)atoi(argv[3]),
        .unit = 1,
        .rate_numerator = 1000,
        .rate_denominator = 1,
        .scale = 1.0f / 2048.0f,
        .n_samples = (uint32_t)atol(argv[4]),
        .clip_count = 32767,
        .axes = {'x', 'y', 'z', 'w'},
    };
    if (line < 0 || pdm_burst_init(&burst, &config, store, 65536) != 0 || tcgetattr(line, &raw) != 0) {
        return 1;
    }
    cfmakeraw(&raw);
    tcsetattr(line, TCSANOW, &raw);
    puts("ready");
    fflush(stdout);
    const uint32_t started = now_ms();
    for (;;) {
        struct pollfd wait = {.fd = line, .events = POLLIN};
        const int ready = poll(&wait, 1, 2);
        const uint32_t now = now_ms();
        for (; sample < now - started; sample++) {
            int16_t axes[4];
            for (int a = 0; a < 4; a++) {
                axes[a] = (int16_t)((int64_t)((sample * 7 + (uint64_t)a * 1000) % 20001) - 10000);
            }
            pdm_burst_sample(&burst, axes, now);
        }
        if (ready > 0) {
            const ssize_t got = read(line, frame + length, sizeof frame - length);
            if (got <= 0) {
                return 0;
            }
            length += (size_t)got;
        } else if (length > 0) {
            const size_t n = pdm_burst_answer(&burst, frame, length, reply, now);
            if (n > 0 && write(line, reply, n) != (ssize_t)n) {
                return 1;
            }
            length = 0;
        }
        if (length == sizeof frame) {
            length = 0;
        }
    }
}
