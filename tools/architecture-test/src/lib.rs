//! Tests that hold the workspace to its architecture: which crate may depend
//! on which (`arrows`), and rules about files (`files`). There is no code here
//! to use.

#[cfg(test)]
mod arrows;
#[cfg(test)]
mod files;
