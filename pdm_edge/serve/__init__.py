"""The answer goes back: what is known of the machines, for a PLC or a controller on site."""

from pdm_edge.serve.modbus_server import ModbusServer

__all__ = ["ModbusServer"]
