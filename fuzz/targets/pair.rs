#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mesh_fuzz::pair::try_input(input));
