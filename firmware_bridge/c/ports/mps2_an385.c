/* The device on a bare Cortex-M3: its main loop. Nothing but this file, mps2_board.c, device.c and
 * pdm_wire.c. SPDX-License-Identifier: Apache-2.0 */
#include "device.h"
#include "mps2_board.h"

enum { BAUD = 921600, TX_BYTES_A_TURN = 4096 };

int main(void);

int main(void)
{
    static device_t device;

    board_start(BAUD);
    device_start(&device, (uint16_t)boot_count, BOARD_HZ, board_ticks());
    for (;;) {
        const uint8_t *out;
        uint8_t byte;
        size_t pending, n;
        bool more;

        while (board_receive(&byte)) {
            device_receive(&device, byte, board_ticks());
        }
        more = device_step(&device, board_ticks());
        pending = device_pending(&device, &out);
        n = board_send(out, pending < TX_BYTES_A_TURN ? pending : TX_BYTES_A_TURN);
        device_sent(&device, n);
        if (n == 0u ? pending != 0u || !more : n == pending && !more) {
            board_sleep();
        }
    }
}
