/* Host tests of pdm_wire; tests/test_firmware.py builds and runs this with sanitizers.
 *
 * roundtrip: bytes from stdin are decoded, every message is encoded again to stdout, and what was
 *            counted goes to stderr as `name count` lines.
 * exhaust:   stdin holds sound frames. Each is cut at every length, has every bit flipped, and is
 *            encoded again into every output size from 0 to its own; ends with 0 if all held.
 * With -DPDM_FUZZ it is a libFuzzer target instead. */
#include "../pdm_wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 255 };

/* Encode what a frame holds. *known: whether it could be read; 0 is returned if it could not. */
static size_t again(const pdm_frame_t *frame, uint8_t *out, size_t capacity, bool *known)
{
    static pdm_sensor_t sensors[MOST];
    static pdm_scalar_t scalars[MOST];
    static pdm_sensor_status_t entries[MOST];
    pdm_link_t link = {0, 0, 0};
    pdm_descriptor_t descriptor;
    pdm_data_t head;
    pdm_status_t status;
    pdm_command_t command;
    pdm_reply_t reply;
    pdm_text_t text;
    const uint8_t *samples;
    size_t sample_bytes;
    uint8_t level, n;

    link.sequence = frame->sequence;
    *known = true;
    if (pdm_parse_descriptor(frame, &descriptor, &link.boot, &link.revision, sensors, MOST)) {
        return pdm_encode_descriptor(&link, out, capacity, frame->tick, &descriptor, sensors);
    }
    if (pdm_parse_data(frame, &head, &link.boot, &link.revision, &samples, &sample_bytes)) {
        return pdm_encode_data(&link, out, capacity, frame->tick, &head, samples, sample_bytes);
    }
    if (pdm_parse_scalars(frame, scalars, MOST, &n)) {
        return pdm_encode_scalars(&link, out, capacity, frame->tick, scalars, n);
    }
    if (pdm_parse_status(frame, &status, entries, MOST)) {
        return pdm_encode_status(&link, out, capacity, frame->tick, &status, entries);
    }
    if (pdm_parse_log(frame, &level, &text)) {
        return pdm_encode_log(&link, out, capacity, frame->tick, level, text);
    }
    if (pdm_parse_reply(frame, &reply)) {
        return pdm_encode_reply(&link, out, capacity, frame->tick, &reply);
    }
    if (pdm_parse_command(frame, &command)) {
        return pdm_encode_command(&link, out, capacity, frame->tick, &command);
    }
    *known = false;
    return 0u;
}

#ifdef PDM_FUZZ

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static const size_t sizes[3] = {0u, PDM_COMMAND_BUFFER, PDM_MAX_BODY + PDM_CRC_BYTES};

    /* The bytes as they come from a line; then as the payload of a sound frame of any type. */
    for (int i = 0; i < 3; i++) {
        uint8_t *const buffer = malloc(sizes[i] + 1u);
        pdm_decoder_t decoder;
        pdm_frame_t frame;
        uint8_t out[PDM_WIRE_BYTES(PDM_MAX_BODY)];
        bool known;

        pdm_decoder_init(&decoder, buffer, sizes[i]);
        for (size_t j = 0u; j < n; j++) {
            if (pdm_decode(&decoder, bytes[j], &frame)) {
                (void)again(&frame, out, sizeof out, &known);
            }
        }
        free(buffer);
    }
    if (n > 0u) {
        uint8_t *const payload = malloc(n);
        uint8_t out[PDM_WIRE_BYTES(PDM_MAX_BODY)];
        pdm_frame_t frame = {bytes[0], 1u, 2u, payload, n - 1u};
        bool known;

        memcpy(payload, bytes + 1, n - 1u);
        (void)again(&frame, out, sizeof out, &known);
        free(payload);
    }
    return 0;
}

#else

static uint8_t *read_all(size_t *n)
{
    uint8_t *bytes = NULL;
    size_t room = 0u, got;

    *n = 0u;
    do {
        room += 65536u;
        bytes = realloc(bytes, room);
        if (bytes == NULL) {
            exit(2);
        }
        got = fread(bytes + *n, 1u, room - *n, stdin);
        *n += got;
    } while (got != 0u);
    return bytes;
}

static int roundtrip(const uint8_t *bytes, size_t n)
{
    static uint8_t buffer[PDM_MAX_BODY + PDM_CRC_BYTES];
    static uint8_t out[PDM_WIRE_BYTES(PDM_MAX_BODY)];
    pdm_decoder_t decoder;
    pdm_frame_t frame;
    unsigned long good = 0u, unreadable = 0u;

    pdm_decoder_init(&decoder, buffer, sizeof buffer);
    for (size_t i = 0u; i < n; i++) {
        if (pdm_decode(&decoder, bytes[i], &frame)) {
            bool known;
            const size_t length = again(&frame, out, sizeof out, &known);
            good += known ? 1u : 0u;
            unreadable += known ? 0u : 1u;
            if (fwrite(out, 1u, length, stdout) != length) {
                return 2;
            }
        }
    }
    fprintf(stderr, "frames %lu\nunreadable %lu\nbad_cobs %lu\nbad_crc %lu\nbad_length %lu\n", good, unreadable,
            (unsigned long)decoder.bad_cobs, (unsigned long)decoder.bad_crc,
            (unsigned long)decoder.bad_length);
    fprintf(stderr, "bad_payload %lu\nnewer_version %lu\n", (unsigned long)decoder.bad_payload,
            (unsigned long)decoder.newer_version);
    return 0;
}

/* Decode bytes from memory of exactly their length, into a buffer of exactly what they need. */
static int decodes(const uint8_t *wire, size_t n, pdm_frame_t *frame, uint8_t *buffer, size_t size)
{
    pdm_decoder_t decoder;
    int found = 0;

    pdm_decoder_init(&decoder, buffer, size);
    for (size_t i = 0u; i < n; i++) {
        found += pdm_decode(&decoder, wire[i], frame) ? 1 : 0;
    }
    return found;
}

static void must(bool holds, const char *what, size_t at)
{
    if (!holds) {
        fprintf(stderr, "FAILED: %s at %lu\n", what, (unsigned long)at);
        exit(1);
    }
}

static void exhaust_one(const uint8_t *wire, size_t n)
{
    uint8_t *const buffer = malloc(PDM_MAX_BODY + PDM_CRC_BYTES);
    uint8_t *const copy = malloc(n + 1u);
    pdm_frame_t frame;
    bool known;

    if (buffer == NULL || copy == NULL) {
        exit(2);
    }
    for (size_t cut = 0u; cut + 1u < n; cut++) {
        memcpy(copy, wire, cut);
        copy[cut] = 0u;
        must(decodes(copy, cut + 1u, &frame, buffer, PDM_MAX_BODY + PDM_CRC_BYTES) == 0, "truncation", cut);
    }
    for (size_t bit = 0u; bit < 8u * n; bit++) {
        memcpy(copy, wire, n);
        copy[bit / 8u] = (uint8_t)(copy[bit / 8u] ^ (1u << (bit % 8u)));
        copy[n] = 0u;
        must(decodes(copy, n + 1u, &frame, buffer, PDM_MAX_BODY + PDM_CRC_BYTES) == 0, "bit flip", bit);
    }
    for (size_t size = 0u; size + 2u < n; size++) {
        uint8_t *const small = malloc(size + 1u);
        if (small == NULL) {
            exit(2);
        }
        (void)decodes(wire, n, &frame, small, size); /* the sanitizer watches */
        free(small);
    }
    must(decodes(wire, n, &frame, buffer, PDM_MAX_BODY + PDM_CRC_BYTES) == 1, "sound frame", 0u);
    for (size_t size = 0u; size <= n; size++) {
        uint8_t *const out = malloc(size + 1u);
        size_t length;
        if (out == NULL) {
            exit(2);
        }
        out[size] = 0xA5u;
        length = again(&frame, out, size, &known);
        must(known, "readable", size);
        must(length == (size == n ? n : 0u), "output size", size);
        must(out[size] == 0xA5u, "byte behind the output", size);
        must(length == 0u || memcmp(out, wire, n) == 0, "same bytes", size);
        free(out);
    }
    free(copy);
    free(buffer);
}

int main(int argc, char **argv)
{
    size_t n, start = 0u;
    uint8_t *const bytes = read_all(&n);
    int status = 2;

    if (argc == 2 && strcmp(argv[1], "roundtrip") == 0) {
        status = roundtrip(bytes, n);
    } else if (argc == 2 && strcmp(argv[1], "exhaust") == 0) {
        must(pdm_crc32("123456789", 9u) == 0xCBF43926u, "check value of the CRC", 0u);
        for (size_t i = 0u; i < n; i++) {
            if (bytes[i] == 0u) {
                exhaust_one(bytes + start, i + 1u - start);
                start = i + 1u;
            }
        }
        status = 0;
    }
    free(bytes);
    return status;
}

#endif
