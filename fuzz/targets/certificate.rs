#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mesh_fuzz::certificate::try_input(input));
