//! The mesh's vocabulary and its decisions: names, identities, addresses,
//! destinations, links, and which of several choices to take.
//!
//! Nothing here does I/O, reads a clock or keeps a lock: values and `now` come
//! in, decisions go out. Conversions from wire formats are in `mesh-proto` and
//! `mesh-api`.
//!
//! Main types: [`identity::SpiffeId`], [`endpoint::EndpointId`] with
//! [`endpoint::LinkPrefix`], [`destination::Destination`], [`link::Links`].

pub mod authorization;
pub mod balance;
pub mod cluster;
pub mod destination;
pub mod endpoint;
pub mod identities;
pub mod identity;
pub mod inbound;
pub mod limits;
pub mod link;
pub mod ports;
pub mod route;
