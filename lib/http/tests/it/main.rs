//! What holds for every input, shown on whole connections through the public
//! interface.

#[cfg(test)]
mod allocations;
#[cfg(test)]
mod chain;
#[cfg(test)]
mod differential;
#[cfg(test)]
mod h2spec;
#[cfg(test)]
mod interop;
#[cfg(test)]
mod long_path;
#[cfg(test)]
mod mutations;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod side;
#[cfg(test)]
mod splits;
#[cfg(test)]
mod windows;
