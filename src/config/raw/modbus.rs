//! The keys of `[pipeline.source.modbus]`.

use crate::config::ModbusRole;
use crate::config::document::{List, Number, Text, Whole, keys, words};
use crate::modbus::{Order, Table, Type};

keys! {
    /// `[pipeline.source.modbus]`: with `framing = "modbus_rtu"`
    RawModbus {
        /// Ask the units ourselves, or overhear another master on the same bus.
        role: ModbusRoleWord = ModbusRole::Master,
        /// Milliseconds from the start of one round over all registers to the start of the next. As a
        /// listener: the longest that a round may take; what was not heard by then is missing.
        period_ms: Whole<10, 86_400_000> = 1_000,
        /// Milliseconds that a unit may think before it answers; the time that the bytes take at this
        /// baud rate is added.
        reply_timeout_ms: Whole<5, 60_000> = 500,
        /// How often a request without a good answer is repeated within a round.
        retries: Whole<0, 10> = 1,
        /// What is read, a field of the frame each; those of one unit that lie side by side share a
        /// request.
        register: List<RawModbusRegister>,
    }
}

keys! {
    /// `[[pipeline.source.modbus.register]]`
    RawModbusRegister {
        /// Name of the value: the frame's field, as the model's card calls it.
        name: Text [required],
        /// Whose register it is.
        unit: Whole<1, 247> [required],
        /// In which of the unit's tables.
        table: ModbusTableWord = Table::HoldingRegisters,
        /// Address as on the wire, from 0: a manual's 40001 is `holding` 0, its 30001 `input` 0.
        address: Whole<0, 65_535> [required],
        /// What stands there; 32 bits are two registers, 64 bits four. Default: `u16`; coils and
        /// discrete inputs are single bits, 0 or 1.
        r#type: ModbusTypeWord,
        /// Order of a value's bytes, `a` the highest: `abcd` is highest register first, `cdab` lowest
        /// register first, `badc` and `dcba` the same with the bytes of each register swapped.
        order: ModbusOrderWord = Order::Abcd,
        /// Value = number × scale + offset.
        scale: Number = 1.0,
        /// Value = number × scale + offset.
        offset: Number = 0.0,
    }
}

words! {
    ModbusRoleWord: ModbusRole {
        "master" => ModbusRole::Master,
        "listener" => ModbusRole::Listener,
    }
}

words! {
    ModbusTableWord: Table {
        "holding" => Table::HoldingRegisters,
        "input" => Table::InputRegisters,
        "coil" => Table::Coils,
        "discrete" => Table::DiscreteInputs,
    }
}

words! {
    ModbusTypeWord: Type {
        "u16" => Type::U16,
        "i16" => Type::I16,
        "u32" => Type::U32,
        "i32" => Type::I32,
        "f32" => Type::F32,
        "f64" => Type::F64,
    }
}

words! {
    ModbusOrderWord: Order {
        "abcd" => Order::Abcd,
        "cdab" => Order::Cdab,
        "badc" => Order::Badc,
        "dcba" => Order::Dcba,
    }
}
