//! The first instructions on 32-bit ARM, before the C library's: does the processor have what the rest was compiled for?
//!
//! Promise: one that has not gets a sentence and exit 78 in place of SIGILL. The kernel's word for it is AT_HWCAP, which
//! lies behind the environment on the stack; `build.rs` makes this the entry. Nothing here is newer than ARMv4, or needs
//! to know where it lies.

#![expect(unsafe_code, reason = "before the C library there is nothing but instructions")]

macro_rules! entry {
    ($needed:literal, $refusal:literal) => {
        core::arch::global_asm!(
            ".pushsection .text.lineside_entry, \"ax\", %progbits",
            ".arm",
            ".balign 4",
            ".global lineside_entry",
            ".type lineside_entry, %function",
            "lineside_entry:",
            // The stack: argc, argv, 0, environment, 0, pairs of the auxiliary vector.
            "ldr r5, [sp]",
            "add r4, sp, r5, lsl #2",
            "add r4, r4, #8",
            "20: ldr r5, [r4], #4",
            "cmp r5, #0",
            "bne 20b",
            "21: ldr r5, [r4], #4",
            "ldr r6, [r4], #4",
            // AT_NULL: a kernel that says nothing is believed to have it.
            "cmp r5, #0",
            "beq 22f",
            // AT_HWCAP.
            "cmp r5, #16",
            "bne 21b",
            "tst r6, #{needed}",
            "bne 22f",
            // write(2, …), exit(78).
            "mov r0, #2",
            "adr r1, 24f",
            "ldr r2, 26f",
            "mov r7, #4",
            "svc #0",
            "mov r0, #78",
            "mov r7, #1",
            "svc #0",
            // The C library's entry, in whichever instruction set it is.
            "22: ldr r5, 23f",
            "add r5, pc, r5",
            "bx r5",
            "23: .word _start - (22b + 12)",
            concat!("24: .ascii \"lineside: ", $refusal, "\\n\""),
            "25: .balign 4",
            "26: .word 25b - 24b",
            ".popsection",
            needed = const $needed,
        );
    };
}

// HWCAP_NEON: with it comes everything else that the ARMv7 targets are compiled for.
#[cfg(needs_armv7)]
entry!(0x1000, "this processor is no ARMv7 with NEON, for which this file was built; take the one for ARMv6");
// HWCAP_VFP.
#[cfg(not(needs_armv7))]
entry!(0x40, "this processor has no floating point unit (VFP), for which this file was built");
