//! The cryptography: aws-lc-rs, cut down to what the mesh speaks.

use std::sync::{Arc, LazyLock};

use tokio_rustls::rustls::crypto::{
    CryptoProvider,
    aws_lc_rs::{cipher_suite, default_provider, kx_group},
};

/// The one provider. It is passed to every configuration explicitly, so nothing
/// depends on a process-wide default that another crate could set.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        // The first one is the key share a client sends unasked.
        kx_groups: vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
        ],
        ..default_provider()
    })
});
