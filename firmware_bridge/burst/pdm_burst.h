/* Waveforms over Modbus: the sensor's side of BURST.md, as a Modbus RTU slave of its own.
 *
 * The caller owns all memory, the time, the samples and the UART: feed samples with
 * pdm_burst_sample, hand each received frame to pdm_burst_answer, send what comes back. A frame ends
 * with 3.5 characters of silence, which the caller's UART or timer detects. No heap, no globals.
 * Cost: a CRC-16 over the request and a CRC-16 and a CRC-32 over the reply, about 500 bytes, bitwise;
 * and for each sample of a capture the CRC-32 of its two bytes an axis.
 */
#ifndef PDM_BURST_H
#define PDM_BURST_H

#include <stddef.h>
#include <stdint.h>

#define PDM_BURST_VERSION 1u
#define PDM_BURST_BASE 4096u
#define PDM_BURST_PAGE_DATA 121u
#define PDM_BURST_REPLY_MAX 256u

typedef struct {
    uint8_t device;           /* Modbus id, 1 to 247 */
    uint16_t base;            /* B of BURST.md */
    uint8_t n_axes;           /* 1 to 4 */
    uint16_t unit;            /* 1 g, 2 m/s2, 3 mm/s */
    uint32_t rate_numerator;  /* sample rate in Hz, as a fraction */
    uint32_t rate_denominator;
    float scale;              /* value of one count */
    uint32_t n_samples;       /* of each axis in a burst */
    uint16_t clip_count;      /* count at which the sensor clips, 0 if unknown */
    char axes[4];             /* a letter for each axis */
} pdm_burst_config_t;

typedef struct {
    pdm_burst_config_t config;
    int16_t *store;     /* n_axes * n_samples words of the caller's */
    uint32_t filled;    /* words captured */
    uint32_t total;     /* words of a burst */
    uint64_t sample;    /* number of the next sample since the start */
    uint64_t first;     /* number of the first sample of the burst */
    uint32_t crc;       /* of the data words so far; of all, when ready */
    uint32_t ended_ms;  /* when the last sample came */
    uint32_t fifo;      /* next chunk of the FIFO queue */
    uint16_t number;    /* of the burst */
    uint16_t state;     /* 0 nothing, 1 capturing, 2 ready */
    uint16_t clipped;
} pdm_burst_t;

/* Prepare. `store` holds `capacity` words. Returns 0, or -1 if the configuration cannot be. */
int pdm_burst_init(pdm_burst_t *burst, const pdm_burst_config_t *config, int16_t *store, uint32_t capacity);

/* One sample of each axis, as it comes; kept if a capture runs. May be called from an interrupt as
 * long as pdm_burst_answer is not running. */
void pdm_burst_sample(pdm_burst_t *burst, const int16_t *axes, uint32_t now_ms);

/* The reply to a received frame; 0 if it is damaged, cut, or meant for another device. `reply` has
 * room for PDM_BURST_REPLY_MAX bytes. */
size_t pdm_burst_answer(pdm_burst_t *burst, const uint8_t *frame, size_t length, uint8_t *reply, uint32_t now_ms);

#endif
