/* How many instructions encoding and decoding take on a Cortex-M3: QEMU with -icount shift=0 makes
 * its clock run one nanosecond an instruction, so the 25 MHz timer counts 40 of them. Instructions,
 * not cycles: flash wait states and pipeline are the board's. Prints `name frames bytes ticks`.
 * SPDX-License-Identifier: Apache-2.0 */
#include "../pdm_wire.h"
#include "../ports/signal.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define UART_DATA REGISTER(0x40004000u)
#define UART_STATE REGISTER(0x40004004u)
#define UART_CTRL REGISTER(0x40004008u)
#define UART_BAUDDIV REGISTER(0x40004010u)
#define TIMER_CTRL REGISTER(0x40000000u)
#define TIMER_VALUE REGISTER(0x40000004u)

enum { FRAMES = 100, LONGEST = 768 };

extern uint32_t stack_top, bss_start, bss_end;
void reset(void);

typedef struct {
    uint32_t *stack;
    void (*handlers[15])(void);
} vectors_t;

__attribute__((section(".vectors"), used)) static const vectors_t vectors = {&stack_top, {reset}};

static int16_t samples[LONGEST];
static uint8_t wire[PDM_DATA_WIRE_BYTES(LONGEST * 2)];
static uint8_t content[PDM_MAX_BODY + PDM_CRC_BYTES];

static void print(const char *text)
{
    while (*text != '\0') {
        while ((UART_STATE & 1u) != 0u) {
        }
        UART_DATA = (uint8_t)*text++;
    }
}

static void print_number(uint32_t value)
{
    char digits[12];
    char *at = digits + sizeof digits - 1;

    *at = '\0';
    do {
        *--at = (char)('0' + value % 10u);
        value /= 10u;
    } while (value != 0u);
    print(" ");
    print(at);
}

static void report(const char *name, uint32_t bytes, uint32_t ticks)
{
    print(name);
    print_number(FRAMES);
    print_number(bytes);
    print_number(ticks);
    print("\n");
}

/* n values, as many for each axis, in one frame. */
static void count(const char *encode, const char *decode, uint32_t n)
{
    pdm_link_t link = {0, 1, 0};
    pdm_decoder_t decoder;
    pdm_frame_t frame;
    uint32_t start, ticks = 0u, found = 0u;
    size_t length = 0u;

    for (uint32_t i = 0u; i < FRAMES; i++) {
        const pdm_data_t head = {0, 0, (uint16_t)(n / 3u), (uint64_t)i * n};
        for (uint32_t j = 0u; j < n; j++) {
            samples[j] = (int16_t)signal_at(i * n + j, j % 3u);
        }
        start = TIMER_VALUE;
        length = pdm_encode_data(&link, wire, sizeof wire, i, &head, samples, n * 2u);
        ticks += start - TIMER_VALUE;
    }
    report(encode, n * 2u, ticks);
    pdm_decoder_init(&decoder, content, sizeof content);
    start = TIMER_VALUE;
    for (uint32_t i = 0u; i < FRAMES; i++) {
        for (size_t j = 0u; j < length; j++) {
            found += pdm_decode(&decoder, wire[j], &frame) ? 1u : 0u;
        }
    }
    report(found == FRAMES ? decode : "FAILED", n * 2u, start - TIMER_VALUE);
}

void reset(void)
{
    for (uint32_t *to = &bss_start; to < &bss_end; to++) {
        *to = 0u;
    }
    UART_BAUDDIV = 25u;
    UART_CTRL = 1u;
    TIMER_VALUE = 0xFFFFFFFFu;
    TIMER_CTRL = 1u;
    count("encode", "decode", 768u);
    count("encode", "decode", 192u);
    print("state");
    print_number((uint32_t)sizeof(pdm_link_t));
    print_number((uint32_t)sizeof(pdm_decoder_t));
    print("\nend\n");
    for (;;) {
    }
}
