// A Modbus TCP server on the npm package jsmodbus: `node jsmodbus.js PORT`. Any unit answers.
// Holding register n holds 2000 + n, input register n 3000 + n, coil n is set for odd n.
const net = require("net");
const modbus = require("jsmodbus");

const listener = new net.Server();
const holding = Buffer.alloc(400);
const input = Buffer.alloc(400);
for (let n = 0; n < 200; n++) {
    holding.writeUInt16BE(2000 + n, 2 * n);
    input.writeUInt16BE(3000 + n, 2 * n);
}
new modbus.server.TCP(listener, { holding, input, coils: Buffer.alloc(8, 0xaa), discrete: Buffer.alloc(8, 0x0f) });
listener.listen(Number(process.argv[2]), "127.0.0.1", () => console.log("ready"));
