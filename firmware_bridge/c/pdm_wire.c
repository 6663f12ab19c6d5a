/* See pdm_wire.h. SPDX-License-Identifier: Apache-2.0 */
#include "pdm_wire.h"

#define CRC_RESIDUE 0xDEBB20E3u /* state of the CRC behind bytes and their own CRC */
#define MAX_WIRE 4117u          /* longest frame without its zero */

/* A float and its bits; needs no memcpy of a C library. */
typedef union {
    float value;
    uint32_t bits;
} f32_t;

static uint32_t bits_of(float value)
{
    f32_t both;
    both.value = value;
    return both.bits;
}

/* --- CRC: half a byte at a time, a table of 64 bytes --- */

static const uint32_t crc_table[16] = {
    0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u,
    0x4DB26158u, 0x5005713Cu, 0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu,
    0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu};

static inline uint32_t crc_step(uint32_t crc, uint8_t byte)
{
    crc ^= byte;
    crc = (crc >> 4) ^ crc_table[crc & 15u];
    return (crc >> 4) ^ crc_table[crc & 15u];
}

uint32_t pdm_crc32(const void *bytes, size_t n)
{
    const uint8_t *at = bytes;
    uint32_t crc = 0xFFFFFFFFu;
    while (n-- != 0u) {
        crc = crc_step(crc, *at++);
    }
    return ~crc;
}

/* --- writing a frame: COBS and CRC in one pass --- */

typedef struct {
    uint8_t *out;
    size_t capacity;
    size_t at;   /* where the next byte goes */
    size_t code; /* where the length of the block goes */
    size_t body;
    uint32_t crc;
    bool after_full; /* the block before was full, and nothing is in this one yet */
    bool good;
} writer_t;

static void put_bytes(writer_t *writer, const void *bytes, size_t n)
{
    const uint8_t *from = bytes;
    uint8_t *const out = writer->out;
    const size_t capacity = writer->capacity;
    size_t at = writer->at;
    size_t code = writer->code;
    uint32_t crc = writer->crc;
    size_t i;

    writer->body += n;
    for (i = 0u; i < n && at < capacity; i++) {
        const uint8_t byte = from[i];
        crc = crc_step(crc, byte);
        out[at] = byte;
        if (byte == 0u) { /* the block ends here; the zero's place takes the next length */
            out[code] = (uint8_t)(at - code);
            code = at;
        } else if (at - code == 254u) { /* the block is full; the next length takes a place more */
            at++;
            out[code] = 255u;
            code = at;
        }
        at++;
    }
    if (i < n) {
        writer->good = false;
    } else if (n != 0u) {
        writer->after_full = at - code == 1u && from[n - 1u] != 0u;
    }
    writer->at = at;
    writer->code = code;
    writer->crc = crc;
}

static uint8_t *set_u16(uint8_t *at, uint16_t value)
{
    *at++ = (uint8_t)value;
    *at++ = (uint8_t)(value >> 8);
    return at;
}

static uint8_t *set_u32(uint8_t *at, uint32_t value)
{
    return set_u16(set_u16(at, (uint16_t)value), (uint16_t)(value >> 16));
}

static void put_u8(writer_t *writer, uint8_t value)
{
    put_bytes(writer, &value, 1u);
}

static void put_u16(writer_t *writer, uint16_t value)
{
    uint8_t bytes[2];
    (void)set_u16(bytes, value);
    put_bytes(writer, bytes, sizeof bytes);
}

static void put_u32(writer_t *writer, uint32_t value)
{
    uint8_t bytes[4];
    (void)set_u32(bytes, value);
    put_bytes(writer, bytes, sizeof bytes);
}

static void put_f32(writer_t *writer, float value)
{
    put_u32(writer, bits_of(value));
}

static void put_text(writer_t *writer, pdm_text_t text, size_t longest)
{
    if (text.length > longest) {
        writer->good = false;
        return;
    }
    put_u8(writer, text.length);
    put_bytes(writer, text.bytes, text.length);
}

static void begin(writer_t *writer, pdm_link_t *link, uint8_t *out, size_t capacity, pdm_type_t type,
                  uint32_t tick)
{
    uint8_t head[PDM_HEADER_BYTES];

    writer->out = out;
    writer->capacity = capacity;
    writer->at = 1u;
    writer->code = 0u;
    writer->body = 0u;
    writer->after_full = false;
    writer->crc = 0xFFFFFFFFu;
    writer->good = true;
    head[0] = PDM_PROTOCOL_VERSION;
    head[1] = (uint8_t)type;
    (void)set_u32(set_u16(head + 2, link->sequence), tick);
    put_bytes(writer, head, sizeof head);
    link->sequence = (uint16_t)(link->sequence + 1u);
}

static size_t finish(writer_t *writer)
{
    if (writer->body > PDM_MAX_BODY) {
        return 0u;
    }
    put_u32(writer, ~writer->crc);
    if (writer->after_full) {
        writer->at = writer->code; /* a full block at the very end needs none after it */
    }
    if (!writer->good || writer->at >= writer->capacity) {
        return 0u;
    }
    if (!writer->after_full) {
        writer->out[writer->code] = (uint8_t)(writer->at - writer->code);
    }
    writer->out[writer->at] = 0u;
    return writer->at + 1u;
}

/* --- messages out --- */

static bool sensor_is_sound(const pdm_sensor_t *sensor);

size_t pdm_encode_descriptor(pdm_link_t *link, uint8_t *out, size_t capacity, uint32_t tick,
                             const pdm_descriptor_t *descriptor, const pdm_sensor_t *sensors)
{
    writer_t writer;
    bool sound = descriptor->tick_hz != 0u;

    begin(&writer, link, out, capacity, PDM_DESCRIPTOR, tick);
    put_u32(&writer, descriptor->tick_hz);
    put_u16(&writer, link->boot);
    put_u8(&writer, link->revision);
    put_u8(&writer, descriptor->n_sensors);
    put_text(&writer, descriptor->device_id, PDM_MAX_TEXT);
    put_text(&writer, descriptor->firmware, PDM_MAX_TEXT);
    for (uint8_t i = 0u; i < descriptor->n_sensors; i++) {
        const pdm_sensor_t *const sensor = &sensors[i];
        const unsigned entry = 26u + sensor->axes.length + sensor->label.length;

        sound = sound && entry <= 255u && sensor_is_sound(sensor);
        put_u8(&writer, (uint8_t)entry);
        put_u8(&writer, sensor->number);
        put_u8(&writer, sensor->unit);
        put_u8(&writer, sensor->format);
        put_u8(&writer, sensor->axes.length);
        put_u32(&writer, sensor->rate_numerator);
        put_u32(&writer, sensor->rate_denominator);
        put_f32(&writer, sensor->scale);
        put_f32(&writer, sensor->range_max);
        put_u32(&writer, sensor->calibrated);
        put_u8(&writer, sensor->rate_measured ? 1u : 0u);
        put_bytes(&writer, sensor->axes.bytes, sensor->axes.length);
        put_text(&writer, sensor->label, PDM_MAX_TEXT);
    }
    return sound ? finish(&writer) : 0u;
}

size_t pdm_encode_data(pdm_link_t *link, uint8_t *out, size_t capacity, uint32_t tick,
                       const pdm_data_t *head, const void *samples, size_t sample_bytes)
{
    writer_t writer;
    uint8_t bytes[PDM_DATA_HEAD_BYTES];

    begin(&writer, link, out, capacity, PDM_DATA, tick);
    bytes[0] = head->sensor;
    bytes[1] = head->flags;
    (void)set_u16(set_u16(bytes + 2, head->n_samples), link->boot);
    bytes[6] = link->revision;
    bytes[7] = 0u; /* encoding */
    (void)set_u32(set_u32(bytes + 8, (uint32_t)head->first_sample), (uint32_t)(head->first_sample >> 32));
    put_bytes(&writer, bytes, sizeof bytes);
    if (head->n_samples == 0u || sample_bytes > PDM_MAX_BODY) {
        return 0u;
    }
    put_bytes(&writer, samples, sample_bytes);
    return finish(&writer);
}

size_t pdm_encode_scalars(pdm_link_t *link, uint8_t *out, size_t capacity, uint32_t tick,
                          const pdm_scalar_t *scalars, uint8_t n_scalars)
{
    writer_t writer;

    begin(&writer, link, out, capacity, PDM_SCALARS, tick);
    put_u8(&writer, n_scalars);
    for (uint8_t i = 0u; i < n_scalars; i++) {
        put_u8(&writer, scalars[i].sensor);
        put_u8(&writer, scalars[i].quantity);
        put_f32(&writer, scalars[i].value);
    }
    return finish(&writer);
}

size_t pdm_encode_status(pdm_link_t *link, uint8_t *out, size_t capacity, uint32_t tick,
                         const pdm_status_t *status, const pdm_sensor_status_t *sensors)
{
    writer_t writer;

    begin(&writer, link, out, capacity, PDM_STATUS, tick);
    put_u32(&writer, status->uptime_s);
    put_u32(&writer, status->dropped_frames);
    put_u32(&writer, status->damaged_frames);
    put_u8(&writer, status->self_test);
    put_u8(&writer, status->n_sensors);
    for (uint8_t i = 0u; i < status->n_sensors; i++) {
        put_u8(&writer, 10u);
        put_u8(&writer, sensors[i].sensor);
        put_u8(&writer, sensors[i].state);
        put_u32(&writer, sensors[i].dropped_samples);
        put_u32(&writer, sensors[i].clipped_samples);
    }
    return finish(&writer);
}

size_t pdm_encode_log(pdm_link_t *link, uint8_t *out, size_t capacity, uint32_t tick, uint8_t level,
                      pdm_text_t text)
{
    writer_t writer;

    begin(&writer, link, out, capacity, PDM_LOG, tick);
    put_u8(&writer, level);
    put_text(&writer, text, PDM_MAX_LOG);
    return finish(&writer);
}

size_t pdm_encode_reply(pdm_link_t *link, uint8_t *out, size_t capacity, uint32_t tick,
                        const pdm_reply_t *reply)
{
    writer_t writer;

    begin(&writer, link, out, capacity, PDM_REPLY, tick);
    put_u16(&writer, reply->token);
    put_u8(&writer, reply->command);
    put_u8(&writer, reply->result);
    if (reply->command == PDM_TIME_SYNC && reply->result == PDM_OK) {
        put_u32(&writer, reply->tick);
    }
    return finish(&writer);
}

size_t pdm_encode_command(pdm_link_t *link, uint8_t *out, size_t capacity, uint32_t tick,
                          const pdm_command_t *command)
{
    writer_t writer;
    const uint8_t code = command->command;

    begin(&writer, link, out, capacity, PDM_COMMAND, tick);
    put_u16(&writer, command->token);
    put_u8(&writer, code);
    if (code == PDM_START || code == PDM_STOP || code == PDM_SET_RATE || code == PDM_SET_RANGE ||
        code == PDM_BURST) {
        put_u8(&writer, command->sensor);
    }
    if (code == PDM_SET_RATE) {
        put_u32(&writer, command->numerator);
        put_u32(&writer, command->denominator);
    } else if (code == PDM_SET_RANGE) {
        put_f32(&writer, command->range_max);
    } else if (code == PDM_BURST) {
        put_u32(&writer, command->n_samples);
    } else if (code == PDM_TIME_SYNC) {
        put_u32(&writer, (uint32_t)command->utc_ns);
        put_u32(&writer, (uint32_t)(command->utc_ns >> 32));
    }
    return finish(&writer);
}

void pdm_pack_int24(uint8_t *out, const int32_t *counts, size_t n)
{
    for (size_t i = 0u; i < n; i++) {
        const uint32_t bits = (uint32_t)counts[i];
        *out++ = (uint8_t)bits;
        *out++ = (uint8_t)(bits >> 8);
        *out++ = (uint8_t)(bits >> 16);
    }
}

/* --- reading frames --- */

static void next_frame(pdm_decoder_t *decoder)
{
    decoder->length = 0u;
    decoder->wire_length = 0u;
    decoder->crc = 0xFFFFFFFFu;
    decoder->left = 0u;
    decoder->full_block = true; /* no zero is thought before the first block */
}

void pdm_decoder_init(pdm_decoder_t *decoder, uint8_t *buffer, size_t size)
{
    static const pdm_decoder_t zeroed;

    *decoder = zeroed;
    decoder->buffer = buffer;
    decoder->size = size;
    next_frame(decoder);
}

static void keep(pdm_decoder_t *decoder, uint8_t byte)
{
    decoder->crc = crc_step(decoder->crc, byte);
    if (decoder->length < decoder->size) {
        decoder->buffer[decoder->length] = byte;
    }
    decoder->length++;
}

static uint16_t get_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] | ((unsigned)at[1] << 8));
}

static uint32_t get_u32(const uint8_t *at)
{
    return (uint32_t)get_u16(at) | ((uint32_t)get_u16(at + 2) << 16);
}

static uint64_t get_u64(const uint8_t *at)
{
    return (uint64_t)get_u32(at) | ((uint64_t)get_u32(at + 4) << 32);
}

static float get_f32(const uint8_t *at)
{
    f32_t both;
    both.bits = get_u32(at);
    return both.value;
}

/* What stood between two zeros is whole: count what is wrong with it, or hand it out. */
static bool whole(pdm_decoder_t *decoder, pdm_frame_t *frame)
{
    const uint8_t *const body = decoder->buffer;

    if (decoder->wire_length > MAX_WIRE) {
        decoder->bad_length++;
    } else if (decoder->left != 0u) {
        decoder->bad_cobs++;
    } else if (decoder->length <= PDM_CRC_BYTES) {
        decoder->bad_length++;
    } else if (decoder->crc != CRC_RESIDUE) {
        decoder->bad_crc++;
    } else if (decoder->length > decoder->size || decoder->length > PDM_MAX_BODY + PDM_CRC_BYTES) {
        decoder->bad_length++;
    } else if (decoder->length < PDM_HEADER_BYTES + PDM_CRC_BYTES) {
        decoder->bad_payload++;
    } else if (body[0] != PDM_PROTOCOL_VERSION) {
        decoder->newer_version++;
    } else {
        decoder->frames++;
        frame->type = body[1];
        frame->sequence = get_u16(body + 2);
        frame->tick = get_u32(body + 4);
        frame->payload = body + PDM_HEADER_BYTES;
        frame->length = decoder->length - PDM_HEADER_BYTES - PDM_CRC_BYTES;
        return true;
    }
    return false;
}

bool pdm_decode(pdm_decoder_t *decoder, uint8_t byte, pdm_frame_t *frame)
{
    if (byte == 0u) {
        const bool good = decoder->wire_length != 0u && whole(decoder, frame);
        next_frame(decoder);
        return good;
    }
    if (decoder->wire_length > MAX_WIRE) {
        return false; /* noise: counted once, when the next zero comes */
    }
    decoder->wire_length++;
    if (decoder->left != 0u) {
        decoder->left--;
        keep(decoder, byte);
        return false;
    }
    if (!decoder->full_block) {
        keep(decoder, 0u);
    }
    decoder->full_block = byte == 255u;
    decoder->left = (uint8_t)(byte - 1u);
    return false;
}

/* --- messages in --- */

/* A payload that is read from its front; `good` turns false for ever when it ends too early. */
typedef struct {
    const uint8_t *at;
    size_t left;
    bool good;
} reader_t;

static const uint8_t *take(reader_t *reader, size_t n)
{
    static const uint8_t nothing[8] = {0};
    const uint8_t *const at = reader->at;

    if (!reader->good || reader->left < n) {
        reader->good = false;
        return nothing; /* n is at most 8 wherever the bytes are read before `good` is looked at */
    }
    reader->at += n;
    reader->left -= n;
    return at;
}

static uint8_t take_u8(reader_t *reader)
{
    return *take(reader, 1u);
}

static uint16_t take_u16(reader_t *reader)
{
    return get_u16(take(reader, 2u));
}

static uint32_t take_u32(reader_t *reader)
{
    return get_u32(take(reader, 4u));
}

static pdm_text_t take_span(reader_t *reader, uint8_t length)
{
    pdm_text_t text = {NULL, 0u};
    const uint8_t *const bytes = take(reader, length);

    if (reader->good) {
        text.bytes = (const char *)bytes;
        text.length = length;
    }
    return text;
}

static pdm_text_t take_text(reader_t *reader)
{
    return take_span(reader, take_u8(reader));
}

/* An entry as a reader of its own. */
static reader_t take_entry(reader_t *reader)
{
    const pdm_text_t span = take_text(reader);
    const reader_t entry = {(const uint8_t *)span.bytes, span.length, reader->good};
    return entry;
}

static reader_t payload_of(const pdm_frame_t *frame, pdm_type_t type)
{
    const reader_t reader = {frame->payload, frame->length, frame->type == (uint8_t)type};
    return reader;
}

static bool date_is_sound(uint32_t day)
{
    static const uint8_t days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const uint32_t year = day / 10000u;
    const uint32_t month = day / 100u % 100u;
    const uint32_t leap = month == 2u && year % 4u == 0u && (year % 100u != 0u || year % 400u == 0u);

    return day == 0u || (year >= 1u && year <= 9999u && month >= 1u && month <= 12u && day % 100u >= 1u &&
                         day % 100u <= days[month - 1u] + leap);
}

/* Without float comparisons, which would bring a library to controllers without an FPU. */
static bool is_positive(float value)
{
    const uint32_t bits = bits_of(value);
    return bits != 0u && bits < 0x7F800000u; /* above are infinity, NaN and all that is negative */
}

static bool is_zero(float value)
{
    return (bits_of(value) & 0x7FFFFFFFu) == 0u;
}

static bool sensor_is_sound(const pdm_sensor_t *sensor)
{
    bool sound = sensor->number < PDM_ALL_SENSORS && sensor->unit >= PDM_UNIT_G &&
                 sensor->unit <= PDM_UNIT_MM_S && sensor->format >= PDM_INT16 &&
                 sensor->format <= PDM_FLOAT32 && sensor->rate_numerator != 0u &&
                 sensor->rate_denominator != 0u && is_positive(sensor->scale) &&
                 (is_positive(sensor->range_max) || is_zero(sensor->range_max)) && sensor->axes.length != 0u &&
                 date_is_sound(sensor->calibrated);

    for (uint8_t i = 0u; sound && i < sensor->axes.length; i++) {
        sound = (uint8_t)sensor->axes.bytes[i] < 128u;
        for (uint8_t j = 0u; sound && j < i; j++) {
            sound = sensor->axes.bytes[i] != sensor->axes.bytes[j];
        }
    }
    return sound;
}

static bool take_sensor(reader_t *reader, pdm_sensor_t *sensor)
{
    reader_t entry = take_entry(reader);
    uint8_t n_axes;

    sensor->number = take_u8(&entry);
    sensor->unit = take_u8(&entry);
    sensor->format = take_u8(&entry);
    n_axes = take_u8(&entry);
    sensor->rate_numerator = take_u32(&entry);
    sensor->rate_denominator = take_u32(&entry);
    sensor->scale = get_f32(take(&entry, 4u));
    sensor->range_max = get_f32(take(&entry, 4u));
    sensor->calibrated = take_u32(&entry);
    sensor->rate_measured = take_u8(&entry) == 1u;
    sensor->axes = take_span(&entry, n_axes);
    sensor->label = take_text(&entry);
    return entry.good && sensor_is_sound(sensor);
}

bool pdm_parse_descriptor(const pdm_frame_t *frame, pdm_descriptor_t *descriptor, uint16_t *boot,
                          uint8_t *revision, pdm_sensor_t *sensors, uint8_t room)
{
    reader_t reader = payload_of(frame, PDM_DESCRIPTOR);

    descriptor->tick_hz = take_u32(&reader);
    *boot = take_u16(&reader);
    *revision = take_u8(&reader);
    descriptor->n_sensors = take_u8(&reader);
    descriptor->device_id = take_text(&reader);
    descriptor->firmware = take_text(&reader);
    if (!reader.good || descriptor->tick_hz == 0u || descriptor->n_sensors > room) {
        return false;
    }
    for (uint8_t i = 0u; i < descriptor->n_sensors; i++) {
        if (!take_sensor(&reader, &sensors[i])) {
            return false;
        }
        for (uint8_t j = 0u; j < i; j++) {
            if (sensors[j].number == sensors[i].number) {
                return false;
            }
        }
    }
    return true;
}

bool pdm_parse_data(const pdm_frame_t *frame, pdm_data_t *head, uint16_t *boot, uint8_t *revision,
                    const uint8_t **samples, size_t *sample_bytes)
{
    reader_t reader = payload_of(frame, PDM_DATA);
    uint8_t encoding;

    head->sensor = take_u8(&reader);
    head->flags = take_u8(&reader);
    head->n_samples = take_u16(&reader);
    *boot = take_u16(&reader);
    *revision = take_u8(&reader);
    encoding = take_u8(&reader);
    head->first_sample = get_u64(take(&reader, 8u));
    *samples = reader.at;
    *sample_bytes = reader.left;
    return reader.good && head->n_samples != 0u && encoding == 0u;
}

bool pdm_parse_scalars(const pdm_frame_t *frame, pdm_scalar_t *scalars, uint8_t room, uint8_t *n_scalars)
{
    reader_t reader = payload_of(frame, PDM_SCALARS);
    const uint8_t count = take_u8(&reader);

    *n_scalars = 0u;
    for (uint8_t i = 0u; i < count && reader.good; i++) {
        pdm_scalar_t scalar;
        scalar.sensor = take_u8(&reader);
        scalar.quantity = take_u8(&reader);
        scalar.value = get_f32(take(&reader, 4u));
        if (scalar.quantity < PDM_TEMPERATURE_DEGC || scalar.quantity > PDM_HUMIDITY_PERCENT) {
            continue; /* of a later edition */
        }
        if (*n_scalars == room) {
            return false;
        }
        scalars[(*n_scalars)++] = scalar;
    }
    return reader.good;
}

bool pdm_parse_status(const pdm_frame_t *frame, pdm_status_t *status, pdm_sensor_status_t *sensors,
                      uint8_t room)
{
    reader_t reader = payload_of(frame, PDM_STATUS);

    status->uptime_s = take_u32(&reader);
    status->dropped_frames = take_u32(&reader);
    status->damaged_frames = take_u32(&reader);
    status->self_test = take_u8(&reader);
    status->n_sensors = take_u8(&reader);
    if (!reader.good || status->self_test > PDM_TEST_RUNNING || status->n_sensors > room) {
        return false;
    }
    for (uint8_t i = 0u; i < status->n_sensors; i++) {
        reader_t entry = take_entry(&reader);
        sensors[i].sensor = take_u8(&entry);
        sensors[i].state = take_u8(&entry);
        sensors[i].dropped_samples = take_u32(&entry);
        sensors[i].clipped_samples = take_u32(&entry);
        if (!entry.good || sensors[i].state > PDM_FAULT) {
            return false;
        }
    }
    return true;
}

bool pdm_parse_log(const pdm_frame_t *frame, uint8_t *level, pdm_text_t *text)
{
    reader_t reader = payload_of(frame, PDM_LOG);

    *level = take_u8(&reader);
    *text = take_text(&reader);
    return reader.good && *level >= PDM_LOG_DEBUG && *level <= PDM_LOG_ERROR;
}

bool pdm_parse_reply(const pdm_frame_t *frame, pdm_reply_t *reply)
{
    reader_t reader = payload_of(frame, PDM_REPLY);

    reply->token = take_u16(&reader);
    reply->command = take_u8(&reader);
    reply->result = take_u8(&reader);
    reply->tick = 0u;
    if (reply->command == PDM_TIME_SYNC && reply->result == PDM_OK) {
        reply->tick = take_u32(&reader);
    }
    return reader.good && reply->result <= PDM_FAILED;
}

bool pdm_parse_command(const pdm_frame_t *frame, pdm_command_t *command)
{
    static const pdm_command_t zeroed;
    reader_t reader = payload_of(frame, PDM_COMMAND);
    uint8_t code;

    *command = zeroed;
    command->token = take_u16(&reader);
    code = command->command = take_u8(&reader);
    if (code == PDM_START || code == PDM_STOP || code == PDM_SET_RATE || code == PDM_SET_RANGE ||
        code == PDM_BURST) {
        command->sensor = take_u8(&reader);
    }
    if (code == PDM_SET_RATE) {
        command->numerator = take_u32(&reader);
        command->denominator = take_u32(&reader);
    } else if (code == PDM_SET_RANGE) {
        command->range_max = get_f32(take(&reader, 4u));
    } else if (code == PDM_BURST) {
        command->n_samples = take_u32(&reader);
    } else if (code == PDM_TIME_SYNC) {
        command->utc_ns = get_u64(take(&reader, 8u));
    }
    return reader.good;
}
