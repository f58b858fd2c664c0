//! Code that only a start needs is given back to the system.
//!
//! Reading configuration, cards and models walks through most of the program; at rest a fraction of it runs. Pages of
//! it that were mapped meanwhile stay with the process until the kernel wants them for somebody else. Here they are
//! let go once: what is needed again is mapped again, a few pages at a time, from the page cache.
//! Not here: what the allocator keeps (`MIMALLOC_PURGE_DELAY`, which the unit sets).

use std::fs;
use std::ops::Range;

use rustix::mm::{Advice, madvise};

/// Lets go of this program's code, and tells how many bytes of address space that are; 0 where there is no `/proc`.
pub(super) fn give_back_code() -> usize {
    let (Ok(maps), Ok(program)) = (fs::read_to_string("/proc/self/maps"), fs::read_link("/proc/self/exe"))
    else {
        return 0;
    };
    let mut given = 0;
    for pages in code(&maps, &program.to_string_lossy()) {
        // SAFETY: nobody can have written to these pages: they are the file's own, and what is let go of is read from
        // there again.
        #[expect(unsafe_code, reason = "a third of the memory at rest, see docs/performance.md")]
        let done = unsafe { madvise(pages.start as *mut _, pages.len(), Advice::LinuxDontNeed) };
        given += if done.is_ok() { pages.len() } else { 0 };
    }
    given
}

/// Where the code of `program` is mapped: what can be executed, not written, and is no one else's.
fn code(maps: &str, program: &str) -> Vec<Range<usize>> {
    let range = |line: &str| {
        let mut words = line.splitn(6, ' ');
        let (start, end) = words.next()?.split_once('-')?;
        let is_code = words.next()? == "r-xp" && words.nth(3)?.trim_start() == program;
        let address = |text| usize::from_str_radix(text, 16).ok();
        is_code.then_some(address(start)?..address(end)?)
    };
    maps.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_what_the_program_maps_to_execute_alone() {
        let maps = "\
01000000-012fd000 r--p 00000000 fd:00 1183                               /usr/bin/line side
012fd000-01d7e000 r-xp 002fc000 fd:00 1183                               /usr/bin/line side
01d7e000-01e19000 rw-p 00d7c000 fd:00 1183                               /usr/bin/line side
01e19000-01e1a000 rwxp 00d7c000 fd:00 1183                               /usr/bin/line side
7f0000000000-7f0000001000 r-xp 00000000 fd:00 77                         /lib/libc.so.6
7f0000002000-7f0000003000 r-xp 00000000 00:00 0                          [vdso]
7f0000004000-7f0000005000 rw-p 00000000 00:00 0 
";
        let found: Vec<_> =
            code(maps, "/usr/bin/line side").into_iter().map(|pages| (pages.start, pages.end)).collect();
        assert_eq!(found, [(0x012f_d000, 0x01d7_e000)]);
        assert!(
            code(maps, "/usr/bin/line").is_empty()
                && code("", "x").is_empty()
                && code("1-2 r-xp", "x").is_empty()
        );
    }

    #[test]
    fn code_that_was_given_back_runs_again() {
        let sum = |numbers: &[u64]| numbers.iter().sum::<u64>();
        assert_eq!(sum(&[1, 2, 3]), 6);
        assert!(give_back_code() > 100_000);
        assert_eq!(sum(&[1, 2, 3]), 6);
    }
}
