/* The board that the programs for the emulated Cortex-M3 share. SPDX-License-Identifier: Apache-2.0 */
#ifndef PDM_PORT_MPS2_BOARD_H
#define PDM_PORT_MPS2_BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BOARD_HZ = 25000000 };

/* Stands for a battery-backed register that counts the starts; whoever starts the emulator sets it. */
extern volatile uint32_t boot_count;

/* Set up the UART, the timer, and a wake-up every millisecond. */
void board_start(uint32_t baud);

/* Ticks of BOARD_HZ since the start; wraps after 172 s. */
uint32_t board_ticks(void);

/* A byte that came, if there is one. */
bool board_receive(uint8_t *byte);

/* Hand as many bytes to the UART as it takes now; returns how many. */
size_t board_send(const uint8_t *bytes, size_t length);

/* Sleep until a byte comes or a millisecond is over. */
void board_sleep(void);

#endif
