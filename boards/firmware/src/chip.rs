//! The chip: where the program begins, its serial ports, its clock. Registers are those of the
//! LM3S6965's data sheet, chapters 2, 5 and 12; another chip needs another file like this.

use core::ptr::{addr_of_mut, copy_nonoverlapping, read_volatile, write_bytes, write_volatile};

unsafe extern "C" {
    static mut data_start: u8;
    static mut data_end: u8;
    static data_load: u8;
    static mut bss_start: u8;
    static mut bss_end: u8;
}

/// What the core calls at power-on: entry 1 of the vector table.
#[unsafe(link_section = ".vectors")]
#[used]
static RESET: unsafe extern "C" fn() -> ! = reset;

/// Gives variables their first values, then the program the word.
#[unsafe(no_mangle)]
unsafe extern "C" fn reset() -> ! {
    // Safety: the linker script says where these are, and nothing runs yet that could use them.
    unsafe {
        let (start, end) = (addr_of_mut!(data_start), addr_of_mut!(data_end));
        copy_nonoverlapping(&raw const data_load, start, end as usize - start as usize);
        let (start, end) = (addr_of_mut!(bss_start), addr_of_mut!(bss_end));
        write_bytes(start, 0, end as usize - start as usize);
    }
    crate::main()
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // A watchdog would start it anew; there is nobody to tell.
    loop {}
}

/// A serial port. Ports are memory: a copy of one is the same port.
#[derive(Clone, Copy)]
pub struct Uart(usize);

/// The wire to the daemon.
pub const WIRE: Uart = Uart(0x4000_c000);
/// The lamp over the machine: it gets a letter for each verdict.
pub const LAMP: Uart = Uart(0x4000_d000);

const DATA: usize = 0x00;
const FLAGS: usize = 0x18;
const LINE_CONTROL: usize = 0x2c;
const CONTROL: usize = 0x30;
const RECEIVE_EMPTY: u32 = 1 << 4;
const TRANSMIT_FULL: u32 = 1 << 5;

impl Uart {
    fn read(self, register: usize) -> u32 {
        // Safety: a register of a port that this chip has; reading it has no effect on memory.
        unsafe { read_volatile((self.0 + register) as *const u32) }
    }

    fn write(self, register: usize, value: u32) {
        // Safety: as above.
        unsafe { write_volatile((self.0 + register) as *mut u32, value) }
    }

    /// 8 data bits, no parity, one stop bit, with its queues of 16 bytes. The baud rate stays as qemu has
    /// it, which takes none; a chip of copper wants its divisors here.
    pub fn open(self) {
        self.write(LINE_CONTROL, 0x70);
        self.write(CONTROL, 0x301);
    }

    /// Sends, waiting for room.
    pub fn send(self, bytes: &[u8]) {
        for byte in bytes {
            while self.read(FLAGS) & TRANSMIT_FULL != 0 {}
            self.write(DATA, u32::from(*byte));
        }
    }

    /// The next byte that came, if one did.
    pub fn received(self) -> Option<u8> {
        (self.read(FLAGS) & RECEIVE_EMPTY == 0).then(|| self.read(DATA) as u8)
    }
}

const SYSTICK_CONTROL: *mut u32 = 0xe000_e010 as *mut u32;
const SYSTICK_RELOAD: *mut u32 = 0xe000_e014 as *mut u32;
const COUNTED_DOWN: u32 = 1 << 16;
/// 12.5 MHz: the clock after power-on, and qemu's.
const TICKS_PER_MS: u32 = 12_500;

/// Counts milliseconds from here on.
pub fn start_clock() {
    // Safety: registers of every Cortex-M, used here only.
    unsafe {
        write_volatile(SYSTICK_RELOAD, TICKS_PER_MS - 1);
        write_volatile(SYSTICK_CONTROL, 0b101);
    }
}

/// Whether a millisecond has gone by since this was asked last.
pub fn millisecond_is_over() -> bool {
    // Safety: as above; reading clears the flag.
    unsafe { read_volatile(SYSTICK_CONTROL) & COUNTED_DOWN != 0 }
}
