#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| mesh_fuzz::http2::try_input(input));
