/* See device.h. SPDX-License-Identifier: Apache-2.0 */
#include "device.h"

#include "signal.h"

static const uint32_t rates_hz[] = {25600u, 12800u, 6400u};
#ifndef DEVICE_FIRST_RATE
#define DEVICE_FIRST_RATE 0 /* index of the sample rate at the start */
#endif
static const float ranges_g[] = {16.0f, 8.0f, 4.0f};
enum { N_RATES = 3, N_RANGES = 3, LONGEST_BURST = 1000000 };
enum { MOST_AT_ONCE = 256 }; /* samples a step: what was late goes out before more is made */

/* --- out: frames are encoded into a queue; what finds no room is dropped and counted --- */

static uint8_t *queue_end(device_t *device, size_t *capacity)
{
    if (device->sent != 0u) {
        const size_t left = device->queued - device->sent;
        for (size_t i = 0u; i < left; i++) {
            device->queue[i] = device->queue[device->sent + i];
        }
        device->queued = left;
        device->sent = 0u;
    }
    *capacity = DEVICE_QUEUE - device->queued;
    return device->queue + device->queued;
}

static bool enqueue(device_t *device, size_t length)
{
    device->queued += length;
    if (length == 0u) {
        device->dropped_frames++;
    }
    return length != 0u;
}

size_t device_pending(const device_t *device, const uint8_t **bytes)
{
    *bytes = device->queue + device->sent;
    return device->queued - device->sent;
}

void device_sent(device_t *device, size_t n)
{
    device->sent += n;
    if (device->sent == device->queued) {
        device->sent = device->queued = 0u;
    }
}

static void send_descriptor(device_t *device, uint32_t tick)
{
    const pdm_descriptor_t descriptor = {
        device->tick_hz, PDM_TEXT("demo-vibration-3"), PDM_TEXT("pdm_wire demo 1.0"), 1u};
    const pdm_sensor_t sensor = {.number = 0u,
                                 .unit = PDM_UNIT_G,
                                 .format = PDM_INT16,
                                 .rate_measured = true,
                                 .rate_numerator = rates_hz[device->rate],
                                 .rate_denominator = 1u,
                                 .scale = ranges_g[device->range] / 32768.0f,
                                 .range_max = ranges_g[device->range],
                                 .calibrated = 20260228u,
                                 .axes = PDM_TEXT("xyz"),
                                 .label = PDM_TEXT("drive end")};
    size_t capacity;
    uint8_t *const out = queue_end(device, &capacity);

    (void)enqueue(device,
                  pdm_encode_descriptor(&device->link, out, capacity, tick, &descriptor, &sensor));
}

static void send_status(device_t *device, uint32_t tick)
{
    const bool streams = device->streaming || device->burst_left != 0u;
    const pdm_sensor_status_t sensor = {0u, streams ? PDM_STREAMING : PDM_STOPPED,
                                        device->dropped_samples, device->clipped_samples};
    const pdm_status_t status = {
        device->uptime_s, device->dropped_frames,
        device->decoder.bad_cobs + device->decoder.bad_crc + device->decoder.bad_length,
        device->self_test, 1u};
    size_t capacity;
    uint8_t *const out = queue_end(device, &capacity);

    (void)enqueue(device, pdm_encode_status(&device->link, out, capacity, tick, &status, &sensor));
}

static void send_scalars(device_t *device, uint32_t tick)
{
    const pdm_scalar_t scalars[2] = {{0u, PDM_TEMPERATURE_DEGC, 41.5f}, {0u, PDM_SUPPLY_V, 3.3f}};
    size_t capacity;
    uint8_t *const out = queue_end(device, &capacity);

    (void)enqueue(device, pdm_encode_scalars(&device->link, out, capacity, tick, scalars, 2u));
}

static void send_log(device_t *device, uint32_t tick, pdm_text_t text)
{
    size_t capacity;
    uint8_t *const out = queue_end(device, &capacity);

    (void)enqueue(device, pdm_encode_log(&device->link, out, capacity, tick, PDM_LOG_INFO, text));
}

static void send_block(device_t *device, bool last_of_burst)
{
    pdm_data_t head = {0u, 0u, device->filled, device->taken - device->filled};
    size_t capacity;
    uint8_t *const out = queue_end(device, &capacity);
    const size_t sample_bytes = (size_t)device->filled * DEVICE_AXES * sizeof device->block[0];

    head.flags = (uint8_t)((device->clipped ? PDM_FLAG_CLIPPED : 0) |
                           (device->self_test == PDM_TEST_RUNNING ? PDM_FLAG_INVALID : 0) |
                           (last_of_burst ? PDM_FLAG_BURST_END : 0));
    if (!enqueue(device, pdm_encode_data(&device->link, out, capacity, device->block_tick, &head,
                                         device->block, sample_bytes))) {
        device->dropped_samples += device->filled;
    }
    device->filled = 0u;
    device->clipped = false;
}

/* --- sampling --- */

static void take_sample(device_t *device)
{
    if (device->filled == 0u) {
        device->block_tick = device->due;
    }
    for (uint32_t axis = 0u; axis < DEVICE_AXES; axis++) {
        int32_t count = signal_at((uint32_t)device->taken, axis) * (1 << device->range);
        if (count >= 32767 || count <= -32768) {
            count = count > 0 ? 32767 : -32768;
            device->clipped = true;
            device->clipped_samples++;
        }
        device->block[(uint32_t)device->filled * DEVICE_AXES + axis] = (int16_t)count;
    }
    device->taken++;
    device->filled++;
    if (device->burst_left != 0u && --device->burst_left == 0u) {
        send_block(device, true);
    } else if (device->filled == DEVICE_BLOCK) {
        send_block(device, false);
    }
}

static void restart_sampling(device_t *device, uint32_t tick)
{
    device->due = tick;
    device->due_fraction = 0u;
}

static bool is_over(uint32_t tick, uint32_t end)
{
    return tick - end < 0x80000000u;
}

static bool sample_is_due(const device_t *device, uint32_t tick)
{
    return (device->streaming || device->burst_left != 0u) && is_over(tick, device->due);
}

/* A converter does not wait: what was not fetched for a quarter of a second is lost, and counted. */
static void skip_what_was_missed(device_t *device, uint32_t tick)
{
    const uint32_t rate_hz = rates_hz[device->rate];
    const uint32_t late = tick - device->due;
    uint64_t ticks;
    uint32_t missed;

    if (!device->streaming || !sample_is_due(device, tick) || late < device->tick_hz / 4u) {
        return;
    }
    if (device->filled != 0u) {
        send_block(device, false);
    }
    missed = (uint32_t)((uint64_t)late * rate_hz / device->tick_hz);
    ticks = (uint64_t)missed * device->tick_hz + device->due_fraction;
    device->taken += missed;
    device->dropped_samples += missed;
    device->due += (uint32_t)(ticks / rate_hz);
    device->due_fraction = (uint32_t)(ticks % rate_hz);
}

bool device_step(device_t *device, uint32_t tick)
{
    const uint32_t rate_hz = rates_hz[device->rate];
    uint32_t left = MOST_AT_ONCE;

    skip_what_was_missed(device, tick);
    while (left-- != 0u && sample_is_due(device, tick)) {
        take_sample(device);
        device->due += device->tick_hz / rate_hz;
        device->due_fraction += device->tick_hz % rate_hz;
        if (device->due_fraction >= rate_hz) {
            device->due_fraction -= rate_hz;
            device->due++;
        }
    }
    if (device->self_test == PDM_TEST_RUNNING && is_over(tick, device->self_test_end)) {
        if (device->filled != 0u) {
            send_block(device, false); /* what was taken during the test is marked so */
        }
        device->self_test = PDM_TEST_PASSED;
        send_status(device, tick);
    }
    if (is_over(tick, device->second)) {
        device->second += device->tick_hz;
        device->uptime_s++;
        send_status(device, tick);
        send_scalars(device, tick);
    }
    return sample_is_due(device, tick);
}

/* --- commands --- */

static void change(device_t *device, uint8_t *setting, uint8_t value, uint32_t tick)
{
    if (*setting == value) {
        return;
    }
    if (device->filled != 0u) {
        send_block(device, false); /* these are by the old descriptor */
    }
    *setting = value;
    device->link.revision++;
    restart_sampling(device, tick);
    send_descriptor(device, tick);
}

static uint8_t set_rate(device_t *device, const pdm_command_t *command, uint32_t tick)
{
    for (uint8_t i = 0u; i < N_RATES; i++) {
        if (command->denominator != 0u &&
            (uint64_t)rates_hz[i] * command->denominator == command->numerator) {
            change(device, &device->rate, i, tick);
            return PDM_OK;
        }
    }
    return PDM_ARGUMENT;
}

static uint8_t set_range(device_t *device, const pdm_command_t *command, uint32_t tick)
{
    for (uint8_t i = 0u; i < N_RANGES; i++) {
        const float low = ranges_g[i];
        if (command->range_max >= low && command->range_max <= low) {
            change(device, &device->range, i, tick);
            return PDM_OK;
        }
    }
    return PDM_ARGUMENT;
}

static void stop(device_t *device)
{
    if (device->filled != 0u) {
        send_block(device, false);
    }
    device->streaming = false;
    device->burst_left = 0u;
}

static uint8_t obey(device_t *device, const pdm_command_t *command, uint32_t tick)
{
    switch (command->command) {
    case PDM_IDENTIFY:
        send_descriptor(device, tick);
        return PDM_OK;
    case PDM_TIME_SYNC:
        return PDM_OK; /* this device has no use for the time of day; the reply has its tick */
    case PDM_SELF_TEST:
        if (device->filled != 0u) {
            send_block(device, false);
        }
        device->self_test = PDM_TEST_RUNNING;
        device->self_test_end = tick + device->tick_hz / 5u;
        return PDM_OK;
    case PDM_REBOOT_TO_BOOTLOADER:
        return PDM_REFUSED;
    case PDM_START:
    case PDM_STOP:
    case PDM_SET_RATE:
    case PDM_SET_RANGE:
    case PDM_BURST:
        break;
    default:
        return PDM_UNKNOWN;
    }
    if (command->sensor != 0u && command->sensor != PDM_ALL_SENSORS) {
        return PDM_ARGUMENT;
    }
    switch (command->command) {
    case PDM_START:
        if (!device->streaming) {
            restart_sampling(device, tick);
            device->streaming = true;
        }
        return PDM_OK;
    case PDM_STOP:
        stop(device);
        return PDM_OK;
    case PDM_SET_RATE:
        return set_rate(device, command, tick);
    case PDM_SET_RANGE:
        return set_range(device, command, tick);
    default: /* PDM_BURST */
        if (device->streaming || device->burst_left != 0u) {
            return PDM_BUSY;
        }
        if (command->n_samples == 0u || command->n_samples > LONGEST_BURST) {
            return PDM_ARGUMENT;
        }
        restart_sampling(device, tick);
        device->burst_left = command->n_samples;
        return PDM_OK;
    }
}

void device_receive(device_t *device, uint8_t byte, uint32_t tick)
{
    pdm_frame_t frame;
    pdm_command_t command;
    pdm_reply_t reply;
    size_t capacity;
    uint8_t *out;

    if (!pdm_decode(&device->decoder, byte, &frame) || !pdm_parse_command(&frame, &command)) {
        return;
    }
    reply = device->last;
    if (command.token == 0u || command.token != reply.token || command.command != reply.command) {
        reply.token = command.token;
        reply.command = command.command;
        reply.result = obey(device, &command, tick);
        reply.tick = tick;
    }
    if (command.token != 0u) { /* one that came twice is answered twice and done once */
        device->last = reply;
        out = queue_end(device, &capacity);
        (void)enqueue(device, pdm_encode_reply(&device->link, out, capacity, tick, &reply));
    }
}

void device_start(device_t *device, uint16_t boot, uint32_t tick_hz, uint32_t tick)
{
    static const device_t zeroed;

    *device = zeroed;
    device->link.boot = boot;
    device->tick_hz = tick_hz;
    device->rate = DEVICE_FIRST_RATE;
    device->second = tick + tick_hz;
    pdm_decoder_init(&device->decoder, device->received, sizeof device->received);
    send_descriptor(device, tick);
    send_log(device, tick, (pdm_text_t)PDM_TEXT("started"));
    restart_sampling(device, tick);
    device->streaming = true;
}
