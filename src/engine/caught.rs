//! A panic inside the engine, turned into its message.
//!
//! Promise: nothing is printed for a panic that is caught here, and every other thread's panics are
//! printed as before. What the closure worked on must be thrown away afterwards.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Once};

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    /// What is being worked at.
    static AT: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `work`; a panic becomes `Err` with its message and its place in the source.
///
/// The closure counts as unwind safe because every caller drops what it touched when this fails.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    install();
    let outer = CATCHING.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(outer);
    result.map_err(|payload| LAST.take().unwrap_or_else(|| words(&*payload).to_owned()))
}

/// Runs `work`; a panic in it that is caught is told with `place` in front.
pub(super) fn at<T>(place: &Arc<str>, work: impl FnOnce() -> T) -> T {
    struct Back(Option<Arc<str>>);
    impl Drop for Back {
        fn drop(&mut self) {
            AT.set(self.0.take());
        }
    }
    let _back = Back(AT.replace(Some(Arc::clone(place))));
    work()
}

/// Puts a hook before the process's own, once.
fn install() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !CATCHING.get() {
                return previous(info);
            }
            // With RUST_BACKTRACE an error that was unwrapped brings all its callers along.
            let text = words(info.payload());
            let text = text.split_once("\n\nStack backtrace:").map_or(text, |(text, _)| text);
            let place = info.location().map(|at| format!(" ({}:{})", short(at.file()), at.line()));
            let at = AT.with_borrow(|at| at.as_ref().map(|at| format!("{at}: ")));
            LAST.set(Some(format!("{}{text}{}", at.unwrap_or_default(), place.unwrap_or_default())));
        }));
    });
}

fn words(payload: &(dyn Any + Send)) -> &str {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "a panic without a message",
    }
}

/// Crate and file, without the builder's home folder.
fn short(file: &str) -> &str {
    match file.split_once("/registry/src/").and_then(|(_, rest)| rest.split_once('/')) {
        Some((_, crate_and_file)) => crate_and_file,
        None => file,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unwrapped_error_comes_without_its_callers() {
        let message = caught(|| panic!("rank 3 and axis 9\n\nStack backtrace:\n   0: main")).unwrap_err();
        assert!(message.starts_with("rank 3 and axis 9 (") && !message.contains("main"), "{message}");
    }

    #[test]
    fn a_panic_becomes_its_message_and_place() {
        let message = caught(|| panic!("index {} is out of range", 7)).unwrap_err();
        assert!(message.starts_with("index 7 is out of range (src/engine/caught.rs:"), "{message}");
        assert_eq!(caught(|| 3), Ok(3));
    }

    #[test]
    fn a_panic_names_what_was_worked_at_and_the_next_one_does_not() {
        let (outer, inner) = ("node \"a\"".into(), "node \"b\"".into());
        let message = caught(|| at(&outer, || at(&inner, || panic!("no")))).unwrap_err();
        assert!(message.starts_with("node \"b\": no ("), "{message}");
        let message = caught(|| {
            at(&outer, || at(&inner, || ()));
            panic!("no")
        });
        assert!(message.unwrap_err().starts_with("no ("));
    }

    #[test]
    fn the_registrys_folder_is_not_told() {
        assert_eq!(short("/home/x/.cargo/registry/src/index-1/ndarray-0.1/src/a.rs"), "ndarray-0.1/src/a.rs");
        assert_eq!(short("src/a.rs"), "src/a.rs");
    }
}
