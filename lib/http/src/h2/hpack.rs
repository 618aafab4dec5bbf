//! Header compression (RFC 7541): complete as it is read, plain as it is
//! written.

pub(crate) mod decode;
pub(crate) mod encode;
mod huffman;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use self::table::Entry;
