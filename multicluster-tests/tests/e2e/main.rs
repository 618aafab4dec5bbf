//! Tests on real clusters: they need root, and run one at a time:
//!
//!     cargo test --profile quick -p mesh-lab --features lab --test e2e -- --test-threads=1
//!
//! They start `west` and `east` from nothing and share them. Tests run in the
//! order of their names, and `teardown` is the last module: its tests break the
//! clusters and remove them.

mod evidence;
mod lab;
mod mesh;
mod shapes;
mod shared;
mod teardown;
