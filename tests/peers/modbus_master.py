"""A Modbus RTU master of pymodbus that asks two units over and over.

    modbus_master.py PORT ROUNDS

Asks for more than anybody may listen for, writes now and then, and asks unit 9, which is not there. Says
`done ROUNDS` at the end; a reply that it does not get is its failure.
"""

import sys
import time

from pymodbus.client import ModbusSerialClient

client = ModbusSerialClient(sys.argv[1], baudrate=19200, timeout=1, retries=0)
assert client.connect(), "the port does not open"
rounds = int(sys.argv[2])
for number in range(rounds):
    replies = [
        client.read_holding_registers(8, count=10, device_id=1),
        client.write_register(40, number, device_id=1),
        client.read_input_registers(0, count=4, device_id=1),
        client.read_coils(0, count=20, device_id=2),
        client.write_coils(30, [True, False, True], device_id=2),
        client.read_discrete_inputs(9, count=1, device_id=2),
        client.write_registers(41, [1, 2, 3], device_id=2),
        client.read_holding_registers(0, count=30, device_id=2),
    ]
    for reply in replies:
        assert not reply.isError(), reply
    refused = client.read_holding_registers(4000, count=1, device_id=1)
    assert refused.isError() and refused.exception_code == 2, refused
    time.sleep(0.05)
client.close()
print(f"done {rounds}", flush=True)
