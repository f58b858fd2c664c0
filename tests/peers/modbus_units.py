"""Modbus RTU units of pymodbus on a serial port: two of them, which do as they are told on stdin.

    modbus_units.py PORT

Says `ready`, then a line `{"unit", "function", "address", "values"}` for each write. Commands, one a line:
`good`; `silent`; `flip` a bit of each reply; answer as unit 7 (`other`); `garbage` instead of replies;
`set UNIT ADDRESS VALUE` of a holding register.
"""

import asyncio
import json
import sys

from pymodbus.framer.rtu import FramerRTU
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

mode = "good"


def say(what):
    print(what if isinstance(what, str) else json.dumps(what), flush=True)


def trace(sending, packet):
    """Bytes on their way out, as the mode wants them."""
    if not sending:
        return packet
    if packet[0] > 2:
        return b""  # pymodbus answers for units that are not there
    if mode == "good":
        return packet
    if mode == "silent":
        return b""
    if mode == "flip":
        return packet[:3] + bytes([packet[3] ^ 0x10]) + packet[4:]
    if mode == "other":
        body = b"\x07" + packet[1:-2]
        return body + FramerRTU.compute_CRC(body).to_bytes(2, "big")
    return b"\x55" * 40


def device(unit):
    words = lambda address, values: SimData(address, values=values, datatype=DataType.REGISTERS)
    bits = lambda values: [SimData(0, values=values, datatype=DataType.BITS)]
    holding = [1000 * unit + address for address in range(50)]
    inputs = [60000 + address for address in range(50)]

    async def action(function, start, address, count, registers, values):
        if values is not None:
            say({"unit": unit, "function": function, "address": address, "values": [int(value) for value in values]})

    return SimDevice(
        unit,
        (
            bits([address % 3 == 0 for address in range(48)]),
            bits([address % 2 == 0 for address in range(48)]),
            [words(0, holding)],
            [words(0, inputs)],
        ),
        action=action,
    )


async def obey(server):
    global mode
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        word, *rest = line.split()
        if word == "set":
            unit, address, value = map(int, rest)
            await server.context.async_setValues(unit, 6, address, [value])
        else:
            mode = word
        say("done")


async def main():
    server = ModbusSerialServer(
        [device(1), device(2)],
        port=sys.argv[1],
        baudrate=19200,
        ignore_missing_devices=True,
        broadcast_enable=True,
        trace_packet=trace,
        trace_connect=lambda up: say("ready") if up else None,
    )
    await asyncio.gather(server.serve_forever(), obey(server))


asyncio.run(main())
