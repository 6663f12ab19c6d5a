/* A bare Cortex-M3: Arm MPS2 board with image AN385, as QEMU emulates it. Vectors, start-up, a
 * free-running timer as tick, UART 0 polled. To port it, replace the registers.
 * SPDX-License-Identifier: Apache-2.0 */
#include "mps2_board.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define UART_DATA REGISTER(0x40004000u)
#define UART_STATE REGISTER(0x40004004u)
#define UART_CTRL REGISTER(0x40004008u)
#define UART_INTCLEAR REGISTER(0x4000400Cu)
#define UART_BAUDDIV REGISTER(0x40004010u)
#define TIMER_CTRL REGISTER(0x40000000u)
#define TIMER_VALUE REGISTER(0x40000004u)
#define TIMER_RELOAD REGISTER(0x40000008u)
#define SYSTICK_CTRL REGISTER(0xE000E010u)
#define SYSTICK_RELOAD REGISTER(0xE000E014u)
#define SYSTICK_VALUE REGISTER(0xE000E018u)
#define NVIC_ENABLE REGISTER(0xE000E100u)
#define NVIC_UNPEND REGISTER(0xE000E280u)
#define SCB_ICSR REGISTER(0xE000ED04u)

enum { TX_FULL = 1, RX_FULL = 2, TX_ENABLE = 1, RX_ENABLE = 2, RX_INTERRUPT = 8 };

/* Set by the linker script. */
extern uint32_t stack_top, data_load, data_start, data_end, bss_start, bss_end;

int main(void);
void reset(void);
void halt(void);
void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);

/* What the compiler may call without a C library. */
void *memcpy(void *to, const void *from, size_t n)
{
    uint8_t *out = to;
    const uint8_t *in = from;
    while (n-- != 0u) {
        *out++ = *in++;
    }
    return to;
}

void *memset(void *to, int value, size_t n)
{
    uint8_t *out = to;
    while (n-- != 0u) {
        *out++ = (uint8_t)value;
    }
    return to;
}

void halt(void)
{
    for (;;) {
    }
}

void reset(void)
{
    const uint32_t *from = &data_load;
    for (uint32_t *to = &data_start; to < &data_end; to++) {
        *to = *from++;
    }
    for (uint32_t *to = &bss_start; to < &bss_end; to++) {
        *to = 0u;
    }
    (void)main();
    halt();
}

typedef struct {
    uint32_t *stack;
    void (*handlers[15])(void);
} vectors_t;

__attribute__((section(".vectors"), used)) static const vectors_t vectors = {
    &stack_top,
    {reset, halt, halt, halt, halt, halt, 0, 0, 0, 0, halt, halt, 0, halt, halt}};

uint32_t board_ticks(void)
{
    return 0xFFFFFFFFu - TIMER_VALUE; /* it counts down, and wraps after 172 s */
}

void board_start(uint32_t baud)
{
    UART_BAUDDIV = BOARD_HZ / baud;
    UART_CTRL = TX_ENABLE | RX_ENABLE | RX_INTERRUPT;
    TIMER_RELOAD = 0xFFFFFFFFu;
    TIMER_VALUE = 0xFFFFFFFFu;
    TIMER_CTRL = 1u;
    SYSTICK_RELOAD = BOARD_HZ / 1000 - 1;
    SYSTICK_VALUE = 0u;
    SYSTICK_CTRL = 7u;
    NVIC_ENABLE = 1u;
    /* Interrupts end a sleep but run no handler: all is done in the loop below. */
    __asm__ volatile("cpsid i" ::: "memory");
}

void board_sleep(void)
{
    __asm__ volatile("wfi" ::: "memory");
    SCB_ICSR = 1u << 25; /* SysTick is not pending any more */
    UART_INTCLEAR = 2u;
    NVIC_UNPEND = 1u;
}

bool board_receive(uint8_t *byte)
{
    if ((UART_STATE & RX_FULL) == 0u) {
        return false;
    }
    *byte = (uint8_t)UART_DATA;
    return true;
}

size_t board_send(const uint8_t *bytes, size_t length)
{
    size_t n = 0u;
    while (n < length && (UART_STATE & TX_FULL) == 0u) {
        UART_DATA = bytes[n++];
    }
    return n;
}
