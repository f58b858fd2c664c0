//! A board: what the daemon runs on. Data in `boards/*.toml`, inherited; no board in the code.

/// One board, with everything it inherits filled in.
#[derive(Clone, Debug)]
pub struct Board {
    /// File name without `.toml`.
    pub name: String,
    /// Inference threads; `None`: one a core.
    pub workers: Option<std::num::NonZeroUsize>,
    /// Bytes that the daemon may take; `None`: not said.
    pub memory_budget_bytes: Option<u64>,
}
