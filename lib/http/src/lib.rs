//! The data path's HTTP/1 and HTTP/2, without I/O.
#![allow(dead_code)]
pub mod event;
pub mod fault;
mod h1;
pub mod head;
pub mod limits;
mod output;
