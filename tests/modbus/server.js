// A Modbus TCP server on the npm package modbus-serial: `node server.js PORT`. Prints its port.
// Device 1: holding register n holds 1000 + n, 20 and above are refused; 4 and 5 hold int32 -70000.
const ModbusRTU = require("modbus-serial");

const vector = {
    getHoldingRegister: (address, unit, callback) => {
        if (unit !== 1) return; // a device that is not there does not answer
        if (address >= 20) return callback({ modbusErrorCode: 2, msg: "" });
        const int32 = { 4: 0xfffe, 5: 0xee90 };
        callback(null, int32[address] ?? 1000 + address);
    },
};
const server = new ModbusRTU.ServerTCP(vector, { host: "127.0.0.1", port: Number(process.argv[2]), unitID: 0 });
server.on("initialized", () => console.log("ready"));
server.on("socketError", () => {});
