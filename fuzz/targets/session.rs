#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mesh_fuzz::session::try_input(input));
