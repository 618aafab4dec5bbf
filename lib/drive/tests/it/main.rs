//! Drivers on loopback sockets: what goes in at one end of a proxy comes out at
//! the other, whichever versions they speak, and what breaks off breaks off.

#[cfg(test)]
mod chain;
#[cfg(test)]
mod ends;
#[cfg(test)]
mod findings;
#[cfg(test)]
mod footprint;
#[cfg(test)]
mod patience;
#[cfg(test)]
mod pieces;
#[cfg(test)]
mod place;
#[cfg(test)]
mod stalled;
#[cfg(test)]
mod threads;
#[cfg(test)]
mod tunnels;
#[cfg(test)]
mod turns;
#[cfg(test)]
mod windows;
