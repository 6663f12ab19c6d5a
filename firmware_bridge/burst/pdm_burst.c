#include "pdm_burst.h"

/* A float and its bits; needs no memcpy of a C library. */
typedef union {
    float value;
    uint32_t bits;
} float_bits_t;

enum { READ_HOLDING = 3, READ_INPUT = 4, WRITE_ONE = 6, READ_FIFO = 24 };
enum { ILLEGAL_FUNCTION = 1, ILLEGAL_ADDRESS = 2, ILLEGAL_VALUE = 3, BUSY = 6 };
enum { COMMAND = 32, STATE_END = 47, FIFO = 48, PAGES = 256, PAGE_WORDS = 125, CHUNK_DATA = 29 };
enum { NOTHING = 0, CAPTURING = 1, READY = 2 };

static uint16_t crc16(const uint8_t *bytes, size_t length)
{
    uint16_t crc = 0xFFFFu;
    for (size_t i = 0; i < length; i++) {
        crc = (uint16_t)(crc ^ bytes[i]);
        for (int bit = 0; bit < 8; bit++) {
            crc = (uint16_t)((crc & 1u) ? (crc >> 1) ^ 0xA001u : crc >> 1);
        }
    }
    return crc;
}

static uint32_t crc32_word(uint32_t crc, uint16_t word)
{
    const uint8_t bytes[2] = {(uint8_t)(word >> 8), (uint8_t)(word & 0xFFu)};
    for (int i = 0; i < 2; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc & 1u) ? (crc >> 1) ^ 0xEDB88320u : crc >> 1;
        }
    }
    return crc;
}

static uint16_t high(uint32_t value) { return (uint16_t)(value >> 16); }
static uint16_t low(uint32_t value) { return (uint16_t)(value & 0xFFFFu); }

int pdm_burst_init(pdm_burst_t *burst, const pdm_burst_config_t *config, int16_t *store, uint32_t capacity)
{
    const uint32_t room = (65536u - config->base - (uint32_t)PAGES) / PAGE_WORDS * PDM_BURST_PAGE_DATA;
    if (store == NULL || config->n_axes < 1 || config->n_axes > 4 || config->n_samples == 0 ||
        config->rate_numerator == 0 || config->rate_denominator == 0 || config->base > 65000u ||
        config->n_samples > room || config->device < 1 || config->device > 247) {
        return -1;
    }
    burst->config = *config;
    burst->store = store;
    burst->filled = 0;
    burst->total = config->n_samples * config->n_axes;
    burst->sample = 0;
    burst->first = 0;
    burst->crc = 0;
    burst->ended_ms = 0;
    burst->fifo = 0;
    burst->number = 0;
    burst->state = NOTHING;
    burst->clipped = 0;
    return (burst->total > capacity || burst->total > room) ? -1 : 0;
}

void pdm_burst_sample(pdm_burst_t *burst, const int16_t *axes, uint32_t now_ms)
{
    if (burst->state == CAPTURING) {
        if (burst->filled == 0) {
            burst->first = burst->sample;
        }
        for (uint8_t axis = 0; axis < burst->config.n_axes; axis++) {
            const int32_t size = axes[axis] < 0 ? -(int32_t)axes[axis] : axes[axis];
            if (burst->config.clip_count != 0 && size >= (int32_t)burst->config.clip_count) {
                burst->clipped = 1;
            }
            /* A word at a time: at the end of a long burst an interrupt would hold up many samples. */
            burst->crc = crc32_word(burst->crc, (uint16_t)axes[axis]);
            burst->store[burst->filled++] = axes[axis];
        }
        burst->ended_ms = now_ms;
        if (burst->filled >= burst->total) {
            burst->crc ^= 0xFFFFFFFFu;
            burst->fifo = 0;
            burst->state = READY;
        }
    }
    burst->sample++;
}

static uint16_t described(const pdm_burst_config_t *config, uint16_t at)
{
    const float_bits_t scale = {config->scale};
    switch (at) {
    case 0: return 0x5057u;
    case 1: return PDM_BURST_VERSION;
    case 2: return 1u;
    case 3: return config->n_axes;
    case 4: return config->unit;
    case 5: return 1u;
    case 6: return high(config->rate_numerator);
    case 7: return low(config->rate_numerator);
    case 8: return high(config->rate_denominator);
    case 9: return low(config->rate_denominator);
    case 10: return high(scale.bits);
    case 11: return low(scale.bits);
    case 12: return high(config->n_samples);
    case 13: return low(config->n_samples);
    case 14: return config->clip_count;
    case 15: return (uint16_t)((uint8_t)config->axes[0] << 8 | (uint8_t)config->axes[1]);
    case 16: return (uint16_t)((uint8_t)config->axes[2] << 8 | (uint8_t)config->axes[3]);
    default: return 0;
    }
}

static uint16_t state_word(const pdm_burst_t *burst, uint16_t at, uint32_t now_ms)
{
    const uint32_t age_ms = burst->state == NOTHING ? 0 : now_ms - burst->ended_ms;
    const uint32_t crc = burst->state == READY ? burst->crc : 0;
    switch (at) {
    case 33: return burst->state;
    case 34: return burst->number;
    case 35: return (uint16_t)((uint64_t)burst->filled * 100u / burst->total);
    case 36: return (uint16_t)(burst->first >> 48);
    case 37: return (uint16_t)(burst->first >> 32 & 0xFFFFu);
    case 38: return (uint16_t)(burst->first >> 16 & 0xFFFFu);
    case 39: return (uint16_t)(burst->first & 0xFFFFu);
    case 40: return high(crc);
    case 41: return low(crc);
    case 42: return high(burst->total);
    case 43: return low(burst->total);
    case 44: return burst->clipped;
    case 45: return high(age_ms);
    case 46: return low(age_ms);
    default: return 0;
    }
}

static uint16_t page_word(const pdm_burst_t *burst, uint32_t page, uint32_t at)
{
    const uint32_t index = page * PDM_BURST_PAGE_DATA + at - 2u;
    if (at == 0) {
        return burst->number;
    }
    if (at == 1) {
        return (uint16_t)page;
    }
    return index < burst->total ? (uint16_t)burst->store[index] : 0;
}

static uint32_t page_crc(const pdm_burst_t *burst, uint32_t page)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (uint32_t at = 0; at < PAGE_WORDS - 2u; at++) {
        crc = crc32_word(crc, page_word(burst, page, at));
    }
    return crc ^ 0xFFFFFFFFu;
}

/* Put the register at `at` (counted from the base) into `word`; returns 0, or -1 if there is none. */
static int register_at(const pdm_burst_t *burst, uint32_t at, uint32_t now_ms, uint32_t *crc, uint16_t *word)
{
    const uint32_t n_pages = (burst->total + PDM_BURST_PAGE_DATA - 1u) / PDM_BURST_PAGE_DATA;
    if (at < COMMAND) {
        *word = described(&burst->config, (uint16_t)at);
        return 0;
    }
    if (at < STATE_END) {
        *word = state_word(burst, (uint16_t)at, now_ms);
        return 0;
    }
    if (at < PAGES || burst->state != READY || (at - PAGES) / PAGE_WORDS >= n_pages) {
        return -1;
    }
    const uint32_t page = (at - PAGES) / PAGE_WORDS;
    const uint32_t inside = (at - PAGES) % PAGE_WORDS;
    if (inside == PAGE_WORDS - 2u) {
        *crc = page_crc(burst, page);
        *word = high(*crc);
    } else if (inside == PAGE_WORDS - 1u) {
        *word = low(page_crc(burst, page));
    } else {
        *word = page_word(burst, page, inside);
    }
    return 0;
}

static size_t refuse(uint8_t *reply, uint8_t function, uint8_t code)
{
    reply[1] = (uint8_t)(function | 0x80u);
    reply[2] = code;
    return 3;
}

static void put(uint8_t *at, uint16_t word)
{
    at[0] = (uint8_t)(word >> 8);
    at[1] = (uint8_t)(word & 0xFFu);
}

static size_t answer_read(pdm_burst_t *burst, const uint8_t *frame, uint8_t *reply, uint32_t now_ms)
{
    const uint32_t address = (uint32_t)frame[2] << 8 | frame[3];
    const uint32_t count = (uint32_t)frame[4] << 8 | frame[5];
    uint32_t crc = 0;
    if (count < 1 || count > 125) {
        return refuse(reply, frame[1], ILLEGAL_VALUE);
    }
    if (address < burst->config.base) {
        return refuse(reply, frame[1], ILLEGAL_ADDRESS);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint16_t word;
        if (register_at(burst, address - burst->config.base + i, now_ms, &crc, &word) != 0) {
            return refuse(reply, frame[1], ILLEGAL_ADDRESS);
        }
        put(reply + 3 + 2 * i, word);
    }
    reply[2] = (uint8_t)(2 * count);
    return 3 + 2 * (size_t)count;
}

static size_t answer_write(pdm_burst_t *burst, const uint8_t *frame, uint8_t *reply)
{
    const uint32_t address = (uint32_t)frame[2] << 8 | frame[3];
    if (address != burst->config.base + (uint32_t)COMMAND) {
        return refuse(reply, frame[1], ILLEGAL_ADDRESS);
    }
    if (frame[4] != 0 || frame[5] != 1) {
        return refuse(reply, frame[1], ILLEGAL_VALUE);
    }
    if (burst->state == CAPTURING) {
        return refuse(reply, frame[1], BUSY);
    }
    burst->number++;
    burst->filled = 0;
    burst->crc = 0xFFFFFFFFu;
    burst->clipped = 0;
    burst->state = CAPTURING;
    for (int i = 2; i < 6; i++) {
        reply[i] = frame[i];
    }
    return 6;
}

static size_t answer_fifo(pdm_burst_t *burst, const uint8_t *frame, uint8_t *reply)
{
    const uint32_t address = (uint32_t)frame[2] << 8 | frame[3];
    const uint32_t begin = burst->fifo * (uint32_t)CHUNK_DATA;
    uint16_t count = 0;
    if (address != burst->config.base + (uint32_t)FIFO) {
        return refuse(reply, frame[1], ILLEGAL_ADDRESS);
    }
    if (burst->state == READY && begin < burst->total) {
        const uint32_t left = burst->total - begin;
        const uint32_t data = left < (uint32_t)CHUNK_DATA ? left : (uint32_t)CHUNK_DATA;
        put(reply + 6, burst->number);
        put(reply + 8, (uint16_t)burst->fifo);
        for (uint32_t i = 0; i < data; i++) {
            put(reply + 10 + 2 * i, (uint16_t)burst->store[begin + i]);
        }
        count = (uint16_t)(data + 2u);
        burst->fifo++;
    }
    put(reply + 2, (uint16_t)(2u * count + 2u));
    put(reply + 4, count);
    return 6 + 2 * (size_t)count;
}

size_t pdm_burst_answer(pdm_burst_t *burst, const uint8_t *frame, size_t length, uint8_t *reply, uint32_t now_ms)
{
    size_t done;
    if (length < 4 || length > 256 || frame[0] != burst->config.device) {
        return 0;
    }
    const uint16_t crc = crc16(frame, length - 2);
    if (frame[length - 2] != (crc & 0xFFu) || frame[length - 1] != crc >> 8) {
        return 0;
    }
    reply[0] = frame[0];
    reply[1] = frame[1];
    if ((frame[1] == READ_HOLDING || frame[1] == READ_INPUT) && length == 8) {
        done = answer_read(burst, frame, reply, now_ms);
    } else if (frame[1] == WRITE_ONE && length == 8) {
        done = answer_write(burst, frame, reply);
    } else if (frame[1] == READ_FIFO && length == 6) {
        done = answer_fifo(burst, frame, reply);
    } else {
        done = refuse(reply, frame[1], ILLEGAL_FUNCTION);
    }
    const uint16_t end = crc16(reply, done);
    reply[done] = (uint8_t)(end & 0xFFu);
    reply[done + 1] = (uint8_t)(end >> 8);
    return done + 2;
}
