//! Shell scripts that start a daemon: which commands they run, and with which words.
//!
//! Nothing is run. The language is read as far as scripts that start services use it: variables, quotes, files that are
//! read with `.`, and the places where one command ends and the next begins. All branches are read, in the order of
//! their lines, because nobody knows which one will be taken.
//!
//! Source: POSIX.1-2017, "Shell Command Language".

mod expansion;
mod lexer;
mod reading;

pub(super) use expansion::Value;
pub(super) use reading::{Script, Shell};
