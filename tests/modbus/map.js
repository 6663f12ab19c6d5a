// A Modbus TCP server on the npm package modbus-serial whose registers are given as JSON:
// `node map.js PORT '{"holding": {"5": 240}, "input": {}}'`. Others are refused, any unit answers.
const ModbusRTU = require("modbus-serial");

const map = JSON.parse(process.argv[3]);
const get = (table) => (address, _unit, callback) => {
    const value = (map[table] ?? {})[address];
    if (value === undefined) callback({ modbusErrorCode: 2, msg: "" });
    else callback(null, value);
};
const vector = { getHoldingRegister: get("holding"), getInputRegister: get("input") };
const server = new ModbusRTU.ServerTCP(vector, { host: "127.0.0.1", port: Number(process.argv[2]), unitID: 0 });
server.on("initialized", () => console.log("ready"));
server.on("socketError", () => {});
