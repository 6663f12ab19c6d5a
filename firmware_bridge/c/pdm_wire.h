/* pdm_wire: the wire protocol of pdm-edge for firmware. C99, no heap, no globals, no I/O.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * ../PROTOCOL.md is the specification. Copy this header and pdm_wire.c into your firmware; a whole
 * main loop that uses them is in ports/.
 *
 *     static pdm_link_t link;                      // zeroed; then set link.boot
 *     uint8_t out[PDM_DATA_WIRE_BYTES(256 * 2)];   // 256 samples of one axis, int16
 *     size_t n = pdm_encode_data(&link, out, sizeof out, tick, &head, samples, 256 * 2);
 *     if (n != 0) uart_write(out, n);              // 0: it did not fit; the sequence went on
 *
 * Ownership: every pointer stays the caller's. An encoder reads its arguments and writes `out`
 * before it returns, and keeps nothing. What a parser hands back points into the decoder's buffer
 * and holds until the next byte is decoded.
 *
 * Re-entrancy: a function touches only what it is given. Two contexts (an interrupt and a main
 * loop) may encode at the same time if each has its own link and buffer; one device has one
 * sequence, so let one context encode all that goes out on a line.
 *
 * Failure: encoders return the number of bytes to send, or 0 if `capacity` was too small or an
 * argument is not by the protocol; `out` then holds nothing to be sent. The sequence counts such a
 * frame all the same, so that the gateway learns of it. Decoder and parsers return false and count;
 * no byte from the line can make them write outside of the decoder's buffer.
 *
 * Cost, measured by `make firmware-size` and tests/: see docs/firmware.md. Encoding takes one pass
 * over the bytes (COBS and CRC together) and no memory but the stack; decoding the same, a byte at
 * a time, so it may run in the receive interrupt.
 *
 * Byte order: all is little endian on the wire. On a little-endian controller an array of int16_t
 * or float is the sample bytes as they stand; pdm_pack_int24 packs 24-bit counts on any.
 */
#ifndef PDM_WIRE_H
#define PDM_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PDM_MUST_USE __attribute__((warn_unused_result))
#else
#define PDM_MUST_USE
#endif

#define PDM_PROTOCOL_VERSION 1
#define PDM_MAX_BODY 4096u
#define PDM_CRC_BYTES 4u
#define PDM_HEADER_BYTES 8u
#define PDM_DATA_HEAD_BYTES 16u
#define PDM_MAX_TEXT 63u
#define PDM_MAX_LOG 255u
#define PDM_ALL_SENSORS 255u

/* Longest wire form of a body of so many bytes, closing zero included. */
#define PDM_WIRE_BYTES(body) ((body) + PDM_CRC_BYTES + ((body) + PDM_CRC_BYTES + 253u) / 254u + 1u)
/* Longest wire form of DATA with so many sample bytes. */
#define PDM_DATA_WIRE_BYTES(sample_bytes) \
    PDM_WIRE_BYTES(PDM_HEADER_BYTES + PDM_DATA_HEAD_BYTES + (sample_bytes))
/* A device needs no larger buffer to decode any command of this version. */
#define PDM_COMMAND_BUFFER 32u

typedef enum {
    PDM_DESCRIPTOR = 0x01,
    PDM_DATA = 0x02,
    PDM_SCALARS = 0x03,
    PDM_STATUS = 0x04,
    PDM_LOG = 0x05,
    PDM_REPLY = 0x06,
    PDM_COMMAND = 0x10
} pdm_type_t;

enum { PDM_UNIT_G = 1, PDM_UNIT_M_S2 = 2, PDM_UNIT_MM_S = 3 };
enum { PDM_INT16 = 1, PDM_INT24 = 2, PDM_FLOAT32 = 3 };
enum { PDM_TEMPERATURE_DEGC = 1, PDM_SUPPLY_V = 2, PDM_SPEED_RPM = 3, PDM_HUMIDITY_PERCENT = 4 };
enum { PDM_FLAG_CLIPPED = 1, PDM_FLAG_INVALID = 2, PDM_FLAG_BURST_END = 4 };
enum { PDM_TEST_NOT_RUN = 0, PDM_TEST_PASSED = 1, PDM_TEST_FAILED = 2, PDM_TEST_RUNNING = 3 };
enum { PDM_STOPPED = 0, PDM_STREAMING = 1, PDM_FAULT = 2 };
enum { PDM_LOG_DEBUG = 1, PDM_LOG_INFO = 2, PDM_LOG_WARNING = 3, PDM_LOG_ERROR = 4 };
enum {
    PDM_IDENTIFY = 1,
    PDM_START = 2,
    PDM_STOP = 3,
    PDM_SET_RATE = 4,
    PDM_SET_RANGE = 5,
    PDM_TIME_SYNC = 6,
    PDM_BURST = 7,
    PDM_SELF_TEST = 8,
    PDM_REBOOT_TO_BOOTLOADER = 9 /* must be answered with PDM_REFUSED */
};
enum { PDM_OK = 0, PDM_UNKNOWN = 1, PDM_REFUSED = 2, PDM_ARGUMENT = 3, PDM_BUSY = 4, PDM_FAILED = 5 };

/* Text with its length; no zero at its end is needed. */
typedef struct {
    const char *bytes;
    uint8_t length;
} pdm_text_t;

/* A literal as text, e.g. PDM_TEXT("drive end"). */
#define PDM_TEXT(literal) {(literal), (uint8_t)(sizeof(literal) - 1u)}

/* What one side of a line remembers of what it sent. Start it with zeros, then set `boot`. */
typedef struct {
    uint16_t sequence;
    uint16_t boot;
    uint8_t revision; /* raise it whenever the descriptor changes, and send the descriptor */
} pdm_link_t;

typedef struct {
    uint8_t number;
    uint8_t unit;
    uint8_t format;
    bool rate_measured;
    uint32_t rate_numerator; /* sample rate in Hz = numerator / denominator */
    uint32_t rate_denominator;
    float scale;         /* value of one count, in the unit */
    float range_max;     /* end of the measuring range, in the unit; 0 if not known */
    uint32_t calibrated; /* YYYYMMDD; 0 if not known */
    pdm_text_t axes;     /* one ASCII letter each */
    pdm_text_t label;
} pdm_sensor_t;

typedef struct {
    uint32_t tick_hz;
    pdm_text_t device_id;
    pdm_text_t firmware;
    uint8_t n_sensors;
} pdm_descriptor_t;

typedef struct {
    uint8_t sensor;
    uint8_t flags;
    uint16_t n_samples;    /* of each axis */
    uint64_t first_sample; /* samples of each axis taken before, sent or not */
} pdm_data_t;

typedef struct {
    uint8_t sensor;
    uint8_t quantity;
    float value;
} pdm_scalar_t;

typedef struct {
    uint8_t sensor;
    uint8_t state;
    uint32_t dropped_samples;
    uint32_t clipped_samples;
} pdm_sensor_status_t;

typedef struct {
    uint32_t uptime_s;
    uint32_t dropped_frames;
    uint32_t damaged_frames;
    uint8_t self_test;
    uint8_t n_sensors;
} pdm_status_t;

typedef struct {
    uint16_t token; /* 0: no reply is wanted */
    uint8_t command;
    uint8_t sensor;       /* start, stop, set_rate, set_range, burst */
    uint32_t numerator;   /* set_rate */
    uint32_t denominator; /* set_rate */
    float range_max;      /* set_range */
    uint32_t n_samples;   /* burst */
    uint64_t utc_ns;      /* time_sync */
} pdm_command_t;

typedef struct {
    uint16_t token;
    uint8_t command;
    uint8_t result;
    uint32_t tick; /* only of time_sync with PDM_OK: when the command had come */
} pdm_reply_t;

/* --- sending: each returns the bytes to send, 0 if it does not fit or is not by the protocol --- */

PDM_MUST_USE size_t pdm_encode_descriptor(pdm_link_t *link, uint8_t *out, size_t capacity, uint32_t tick,
                                          const pdm_descriptor_t *descriptor, const pdm_sensor_t *sensors);
/* `samples`: n_samples x axes in the sensor's format, axes interleaved, little endian. */
PDM_MUST_USE size_t pdm_encode_data(pdm_link_t *link, uint8_t *out, size_t capacity, uint32_t tick,
                                    const pdm_data_t *head, const void *samples, size_t sample_bytes);
PDM_MUST_USE size_t pdm_encode_scalars(pdm_link_t *link, uint8_t *out, size_t capacity, uint32_t tick,
                                       const pdm_scalar_t *scalars, uint8_t n_scalars);
PDM_MUST_USE size_t pdm_encode_status(pdm_link_t *link, uint8_t *out, size_t capacity, uint32_t tick,
                                      const pdm_status_t *status, const pdm_sensor_status_t *sensors);
PDM_MUST_USE size_t pdm_encode_log(pdm_link_t *link, uint8_t *out, size_t capacity, uint32_t tick,
                                   uint8_t level, pdm_text_t text);
PDM_MUST_USE size_t pdm_encode_reply(pdm_link_t *link, uint8_t *out, size_t capacity, uint32_t tick,
                                     const pdm_reply_t *reply);
/* What a gateway sends; a device does not need it. */
PDM_MUST_USE size_t pdm_encode_command(pdm_link_t *link, uint8_t *out, size_t capacity, uint32_t tick,
                                       const pdm_command_t *command);

/* 24-bit counts to their three bytes each; `out` has room for 3 * n. Bits above 24 are lost. */
void pdm_pack_int24(uint8_t *out, const int32_t *counts, size_t n);

/* --- receiving --- */

/* State of a decoder: give it a buffer with pdm_decoder_init. A frame that does not fit the buffer
 * (body and CRC) is counted as bad_length and skipped. */
typedef struct {
    uint8_t *buffer;
    size_t size;
    size_t length;      /* content bytes, kept or not */
    size_t wire_length; /* bytes since the last zero */
    uint32_t crc;
    uint8_t left;    /* bytes until the next code */
    bool full_block; /* the block that ends had no zero thought behind it */
    uint32_t frames;
    uint32_t bad_cobs;
    uint32_t bad_crc;
    uint32_t bad_length;
    uint32_t bad_payload; /* bodies too short for a header */
    uint32_t newer_version;
} pdm_decoder_t;

typedef struct {
    uint8_t type;
    uint16_t sequence;
    uint32_t tick;
    const uint8_t *payload;
    size_t length;
} pdm_frame_t;

void pdm_decoder_init(pdm_decoder_t *decoder, uint8_t *buffer, size_t size);

/* Take one byte from the line; true if it completes an undamaged frame of this version, which is
 * then in `frame`. Types that you do not know are yours to skip. */
PDM_MUST_USE bool pdm_decode(pdm_decoder_t *decoder, uint8_t byte, pdm_frame_t *frame);

/* Each returns false if the payload is not by the protocol; the output is then not to be used. */
PDM_MUST_USE bool pdm_parse_command(const pdm_frame_t *frame, pdm_command_t *command);
PDM_MUST_USE bool pdm_parse_reply(const pdm_frame_t *frame, pdm_reply_t *reply);
PDM_MUST_USE bool pdm_parse_data(const pdm_frame_t *frame, pdm_data_t *head, uint16_t *boot,
                                 uint8_t *revision, const uint8_t **samples, size_t *sample_bytes);
PDM_MUST_USE bool pdm_parse_log(const pdm_frame_t *frame, uint8_t *level, pdm_text_t *text);
/* `sensors`, `scalars`: room for `room` of them; false as well if there are more. */
PDM_MUST_USE bool pdm_parse_descriptor(const pdm_frame_t *frame, pdm_descriptor_t *descriptor,
                                       uint16_t *boot, uint8_t *revision, pdm_sensor_t *sensors,
                                       uint8_t room);
PDM_MUST_USE bool pdm_parse_scalars(const pdm_frame_t *frame, pdm_scalar_t *scalars, uint8_t room,
                                    uint8_t *n_scalars);
PDM_MUST_USE bool pdm_parse_status(const pdm_frame_t *frame, pdm_status_t *status,
                                   pdm_sensor_status_t *sensors, uint8_t room);

/* CRC-32/ISO-HDLC of bytes; pdm_crc32("123456789", 9) is 0xCBF43926. */
uint32_t pdm_crc32(const void *bytes, size_t n);

#ifdef __cplusplus
}
#endif
#endif
