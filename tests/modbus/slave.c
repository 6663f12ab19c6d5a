/* A Modbus RTU slave on libmodbus: `slave PORT ID`. Input registers 0-9 are 100, 101, ... ;
 * registers 10 and 11 hold the float32 1.5 in big-endian words. Other addresses are refused. */
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    if (argc != 3) {
        return 2;
    }
    modbus_t *line = modbus_new_rtu(argv[1], 19200, 'N', 8, 1);
    modbus_mapping_t *map = modbus_mapping_new(0, 0, 0, 12);
    uint8_t query[MODBUS_RTU_MAX_ADU_LENGTH];
    if (line == NULL || map == NULL || modbus_set_slave(line, atoi(argv[2])) || modbus_connect(line)) {
        return 1;
    }
    for (int i = 0; i < 10; i++) {
        map->tab_input_registers[i] = (uint16_t)(100 + i);
    }
    map->tab_input_registers[10] = 0x3FC0;
    map->tab_input_registers[11] = 0x0000;
    puts("ready");
    fflush(stdout);
    for (;;) {
        int length = modbus_receive(line, query);
        if (length > 0) {
            modbus_reply(line, query, length, map);
        }
    }
}
