//! What a config asks of the machine around it: environment, host name, files with secrets.
//!
//! Behind a trait, so that reading a config stays a function of its arguments. `${ENV}` is filled in
//! after TOML has been parsed: a password full of quotes stays one string.

use std::io;
use std::num::NonZeroUsize;
use std::path::Path;

/// The machine around a config. A closure from variable names to values is one, without a host name
/// and without files.
pub trait World {
    /// An environment variable.
    fn variable(&self, name: &str) -> Option<String>;

    /// The host's name.
    fn host_name(&self) -> Option<String> {
        None
    }

    /// The board to suppose, whatever the config names.
    fn board(&self) -> Option<&str> {
        None
    }

    /// Cores that threads may run on.
    fn cores(&self) -> NonZeroUsize {
        std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
    }

    /// The text of a small file.
    fn read(&self, path: &Path) -> io::Result<String> {
        let _ = path;
        Err(io::Error::new(io::ErrorKind::Unsupported, "no files here"))
    }
}

impl<F: Fn(&str) -> Option<String>> World for F {
    fn variable(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// The machine that we run on.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThisMachine;

impl World for ThisMachine {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn host_name(&self) -> Option<String> {
        // The kernel's own word first; the others serve systems without /proc.
        ["/proc/sys/kernel/hostname", "/etc/hostname"]
            .iter()
            .filter_map(|path| std::fs::read_to_string(path).ok())
            .chain(["HOSTNAME", "COMPUTERNAME"].iter().filter_map(|name| std::env::var(name).ok()))
            .map(|name| name.trim().to_owned())
            .find(|name| !name.is_empty())
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        // A secret is short; whoever names a device or a log file by mistake gets an error, not a full
        // memory.
        const LIMIT_BYTES: u64 = 65_536;
        let mut text = String::new();
        io::Read::read_to_string(
            &mut io::Read::take(std::fs::File::open(path)?, LIMIT_BYTES + 1),
            &mut text,
        )?;
        if text.len() as u64 > LIMIT_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "longer than 65536 bytes"));
        }
        Ok(text)
    }
}

/// `text` with each `${NAME}` replaced by that variable and each `$$` by a dollar sign; a `$` before
/// anything else stands for itself. The error says what is wrong and what would do.
pub(crate) fn expand(text: &str, world: &dyn World) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let Some(end) = after.find('}') else {
                return Err("`${` has no `}`; write `$$` for a plain dollar sign".into());
            };
            let name = &after[..end];
            let valid = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            if !valid {
                // What stands there is no name, so it may be a piece of a password.
                return Err("what stands in `${…}` names no environment variable (letters, digits and `_`); write `$$` \
                            for a plain dollar sign"
                    .into());
            }
            let Some(value) = world.variable(name) else {
                return Err(format!(
                    "the environment variable {name} is not set; set it where lineside is \
                         started, or write the value itself"
                ));
            };
            out.push_str(&value);
            rest = &after[end + 1..];
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(name: &str) -> Option<String> {
        match name {
            "PASS" => Some(r#"a"b'c${X}$$"#.into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn values_are_put_in_as_they_are_and_not_expanded_again() {
        assert_eq!(expand("x-${PASS}-${EMPTY}y", &world), Ok(r#"x-a"b'c${X}$$-y"#.into()));
    }

    #[test]
    fn two_dollars_are_one_and_a_lone_one_stays() {
        assert_eq!(expand("$$", &world), Ok("$".into()));
        assert_eq!(expand("a$$${EMPTY}b$", &world), Ok("a$b$".into()));
        assert_eq!(expand("$${PASS}", &world), Ok("${PASS}".into()));
        assert_eq!(expand("$SYS/broker", &world), Ok("$SYS/broker".into()));
    }

    #[test]
    fn what_cannot_be_filled_in_is_named() {
        assert!(expand("${NOPE}", &world).unwrap_err().contains("NOPE is not set"));
        assert!(expand("${PASS", &world).unwrap_err().contains("has no `}`"));
        assert!(expand("${}", &world).unwrap_err().contains("names no environment variable"));
        assert!(expand("${A-B}", &world).unwrap_err().contains("names no environment variable"));
    }

    #[test]
    fn a_piece_of_a_password_that_looks_like_a_variable_is_not_shown() {
        assert!(!expand("pa${hush!}word", &world).unwrap_err().contains("hush"));
        assert!(!expand("pa${hush", &world).unwrap_err().contains("hush"));
    }

    #[test]
    fn this_machine_has_a_name() {
        let name = ThisMachine.host_name().expect("every host of ours has one");
        assert_eq!(name, name.trim());
        assert!(!name.is_empty());
    }
}
