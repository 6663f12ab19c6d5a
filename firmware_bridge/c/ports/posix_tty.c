/* The device on a POSIX terminal: a serial port, or a pseudo terminal that it makes itself.
 *
 *     posix_tty                 prints the terminal to connect to, e.g. /dev/pts/3
 *     posix_tty /dev/ttyUSB0    plays the sensor at the far end of a cable
 *
 * SPDX-License-Identifier: Apache-2.0 */
#define _XOPEN_SOURCE 600
#define _DEFAULT_SOURCE /* cfmakeraw */

#include "device.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static uint32_t now_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)((uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u);
}

static int open_line(const char *name)
{
    struct termios settings;
    const int line = name != NULL ? open(name, O_RDWR | O_NOCTTY) : posix_openpt(O_RDWR | O_NOCTTY);

    if (line < 0) {
        return -1;
    }
    if (name == NULL) {
        if (grantpt(line) != 0 || unlockpt(line) != 0) {
            return -1;
        }
        name = ptsname(line);
        /* Kept open, so that the line lives while nobody is connected. */
        if (name == NULL || open(name, O_RDWR | O_NOCTTY) < 0) {
            return -1;
        }
        puts(name);
        (void)fflush(stdout);
    }
    if (tcgetattr(line, &settings) == 0) {
        cfmakeraw(&settings);
        (void)cfsetspeed(&settings, B921600);
        (void)tcsetattr(line, TCSANOW, &settings);
    }
    (void)fcntl(line, F_SETFL, O_NONBLOCK);
    return line;
}

int main(int argc, char **argv)
{
    static device_t device;
    const int line = open_line(argc > 1 ? argv[1] : NULL);
    bool more = false;

    if (line < 0) {
        perror(argc > 1 ? argv[1] : "pseudo terminal");
        return 2;
    }
    device_start(&device, (uint16_t)(now_us() ^ (uint32_t)getpid()), 1000000u, now_us());
    for (;;) {
        struct pollfd event = {line, POLLIN, 0};
        const uint8_t *out;
        uint8_t in[64];
        ssize_t n;
        size_t pending;

        (void)poll(&event, 1u, more ? 0 : 1);
        n = read(line, in, sizeof in);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            return 0; /* the line is gone */
        }
        for (ssize_t i = 0; i < n; i++) {
            device_receive(&device, in[i], now_us());
        }
        more = device_step(&device, now_us());
        pending = device_pending(&device, &out);
        if (pending != 0u) {
            n = write(line, out, pending);
            if (n > 0) {
                device_sent(&device, (size_t)n);
            }
        }
    }
}
