//! **Lineside**: inference at the edge of the production line.
//!
//! # The way of a frame
//!
//! ```text
//!  broker ──► mqtt ──► stage::acquire ──► flow (bounded queue) ──┐
//!                                                                ▼   one worker thread a core
//!                        decode ──► featurize ──► infer ──► interpret
//!                                                                │
//!  broker ◄── mqtt ◄── outbox ◄──────────── stage::publish ◄─────┘
//!     └── PUBACK ──► the prediction is settled ──► the frame is acknowledged, in receive order
//! ```
//!
//! A frame is acknowledged to its broker only when its prediction is settled; until then the broker
//! keeps it. `daemon` is the one page on which all of this is wired.
//!
//! # Layers: a module names only what stands to its left
//!
//! ```text
//! base ← modbus ← config ← {engine, flow} ← {mqtt, outbox} ← stage/* ← observe ← daemon ← {demo, listen} ← cli
//! ```
//!
//! | module | is | without the `daemon` feature |
//! |---|---|---|
//! | [`base`] | the words of the design as types: frame, features, scores, prediction, reasons, counters | `core`; most of it with the `alloc` feature |
//! | [`modbus`] | the protocol as a pure machine: a master that asks, a listener that overhears | `core`, with the `alloc` feature |
//! | `config` | TOML and cards, as written and as meant | – |
//! | `engine` | the only place that names tract: folder → verified bytes → optimised graph → session | – |
//! | `flow` | bounded queues, backoff, shutdown | – |
//! | `mqtt` | MQTT 3.1.1 and 5 as a pure machine over packets, and the thread around it | – |
//! | `outbox` | predictions on their way out, kept until they are acknowledged | – |
//! | [`stage`] | the way; alphabetical order is flow order, siblings never name each other | `stage::decode::framing`: `core` |
//! | `observe` | logs, stats, metrics, health | – |
//! | `daemon` | the wiring, signals, shutdown | – |
//! | `demo` | a whole production line on one machine | – |
//! | `listen` | what comes on a wire, told, guessed at and kept | – |
//! | `cli` | one file a verb | – |

#![cfg_attr(not(any(feature = "daemon", test)), no_std)]

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod base;

#[cfg(feature = "daemon")]
pub mod cli;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "demo")]
pub mod demo;
#[cfg(feature = "daemon")]
pub mod engine;
#[cfg(feature = "daemon")]
pub mod flow;
#[cfg(feature = "daemon")]
pub mod listen;
#[cfg(feature = "alloc")]
pub mod modbus;
#[cfg(feature = "daemon")]
pub mod mqtt;
#[cfg(feature = "daemon")]
pub mod observe;
#[cfg(feature = "daemon")]
pub mod outbox;
pub mod stage;
