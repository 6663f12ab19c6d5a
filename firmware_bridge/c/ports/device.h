/* A vibration sensor of three axes that plays ports/signal.h: what the ports share.
 *
 * Give it time and bytes, take bytes from it; it does no I/O and never waits.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef PDM_PORT_DEVICE_H
#define PDM_PORT_DEVICE_H

#include "../pdm_wire.h"

enum { DEVICE_AXES = 3, DEVICE_BLOCK = 256, DEVICE_QUEUE = 16384 };

typedef struct {
    pdm_link_t link;
    pdm_decoder_t decoder;
    uint8_t received[PDM_COMMAND_BUFFER];

    uint32_t tick_hz;
    uint8_t rate;  /* index of the sample rate */
    uint8_t range; /* index of the measuring range */
    bool streaming;
    uint32_t burst_left;
    uint32_t due; /* tick at which the next sample is taken, and the fraction of a tick beyond */
    uint32_t due_fraction;

    uint64_t taken;
    int16_t block[DEVICE_BLOCK * DEVICE_AXES];
    uint16_t filled;
    uint32_t block_tick;
    bool clipped;

    uint32_t dropped_frames;
    uint32_t dropped_samples;
    uint32_t clipped_samples;
    uint32_t uptime_s;
    uint32_t second; /* tick at which the next second is over */
    uint8_t self_test;
    uint32_t self_test_end;
    pdm_reply_t last;

    uint8_t queue[DEVICE_QUEUE]; /* encoded frames on their way out */
    size_t sent;
    size_t queued;
} device_t;

/* Start; `boot` differs from that of the start before. */
void device_start(device_t *device, uint16_t boot, uint32_t tick_hz, uint32_t tick);

/* Take samples that are due, and queue what is to be sent. Call it at least every millisecond, and
 * at once, after sending, if it returns true: then more samples are due. */
bool device_step(device_t *device, uint32_t tick);

/* A byte came from the gateway. */
void device_receive(device_t *device, uint8_t byte, uint32_t tick);

/* Bytes that wait to be sent; tell with device_sent how many of them went. */
size_t device_pending(const device_t *device, const uint8_t **bytes);
void device_sent(device_t *device, size_t n);

#endif
