//! Every format against frozen bytes and against damage: messages, files, text, cryptography.

mod fuzz;
mod ledger_wire;
mod random;
mod vectors;
mod wire;
