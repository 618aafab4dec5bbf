//! Tests that hold the workspace to its architecture: which crate may depend
//! on which (`arrows`), that the gateway cannot look inside (`blind`), and rules
//! about files (`files`). There is no code here to use.

#[cfg(test)]
mod arrows;
#[cfg(test)]
mod blind;
#[cfg(test)]
mod files;
