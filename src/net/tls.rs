//! TLS 1.3 between Ed25519 identities: raw public keys both ways (RFC 7250), the server's pinned.
//!
//! There is no session resumption and no early data: each connection proves both identities afresh.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::ring::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, SignatureScheme,
};
use zeroize::Zeroizing;

use crate::crypto::sign::KeyPair;
use crate::types::PublicKey;

/// What both ends must speak (ALPN); the version is that of the framing.
pub(super) const ALPN: &[u8] = b"xvault/1";

/// The name a client must give to QUIC; nothing looks at it, the key is the identity.
pub(super) const SERVER_NAME: &str = "xvault.invalid";

/// DER before the 32 bytes of an Ed25519 public key: SubjectPublicKeyInfo of RFC 8410 section 4.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// DER before the 32 bytes of an Ed25519 secret: PKCS#8 version 1 of RFC 8410 section 7.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The server's end: any client with an Ed25519 key is let in, and known by it.
pub(super) fn server(key: &KeyPair) -> Result<QuicServerConfig, Error> {
    let provider = Arc::new(provider());
    let identity = Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified(key, &provider)?));
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(AnyKey(provider)))
        .with_cert_resolver(identity);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    QuicServerConfig::try_from(config).map_err(|error| Error::General(error.to_string()))
}

/// The client's end: only the server with the key `server` will do.
pub(super) fn client(key: &KeyPair, server: PublicKey) -> Result<QuicClientConfig, Error> {
    let provider = Arc::new(provider());
    let identity = Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified(key, &provider)?));
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedKey { key: server, provider }))
        .with_client_cert_resolver(identity);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    QuicClientConfig::try_from(config).map_err(|error| Error::General(error.to_string()))
}

/// The key a connection's peer proved to have.
pub(super) fn peer_key(connection: &quinn::Connection) -> Option<PublicKey> {
    let identity = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    public_key(identity.first()?)
}

/// AES-128-GCM first: on processors with AES it costs the least of the three by far.
fn provider() -> CryptoProvider {
    let cipher_suites =
        vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256];
    CryptoProvider { cipher_suites, ..ring::default_provider() }
}

fn certified(key: &KeyPair, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, Error> {
    let mut pkcs8 = Zeroizing::new(PKCS8_PREFIX.to_vec());
    pkcs8.reserve_exact(32);
    pkcs8.extend_from_slice(key.secret().as_slice());
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.to_vec()));
    let signing = provider.key_provider.load_private_key(der)?;
    Ok(Arc::new(CertifiedKey::new(vec![spki(&key.public())], signing)))
}

/// RFC 7250 puts a SubjectPublicKeyInfo where a certificate would be.
fn spki(key: &PublicKey) -> CertificateDer<'static> {
    [SPKI_PREFIX.as_slice(), key.as_bytes()].concat().into()
}

fn public_key(spki: &[u8]) -> Option<PublicKey> {
    PublicKey::from_slice(spki.strip_prefix(SPKI_PREFIX.as_slice())?)
}

/// Checks that the peer's signature of the handshake is by the key it showed.
fn verify_signature(
    message: &[u8],
    spki: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    provider: &CryptoProvider,
) -> Result<HandshakeSignatureValid, Error> {
    let key = SubjectPublicKeyInfoDer::from(spki.as_ref());
    verify_tls13_signature_with_raw_key(message, &key, signature, &provider.signature_verification_algorithms)
}

/// TLS 1.2 is not offered: a signature of it is a peer that does not follow the handshake.
fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
}

/// Accepts the one server it was made for.
#[derive(Debug)]
struct PinnedKey {
    key: PublicKey,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if intermediates.is_empty() && public_key(end_entity) == Some(self.key) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        spki: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(message, spki, signature, &self.provider)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Accepts every client that shows an Ed25519 key and has its secret.
#[derive(Debug)]
struct AnyKey(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if intermediates.is_empty() && public_key(end_entity).is_some() {
            return Ok(ClientCertVerified::assertion());
        }
        Err(CertificateError::BadEncoding.into())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        spki: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(message, spki, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_der_form_and_nothing_else_is_a_key() {
        let key = KeyPair::from_secret(&[5; 32]).public();
        let der = spki(&key);
        assert_eq!(public_key(&der), Some(key));
        for at in 0..SPKI_PREFIX.len() {
            let mut bad = der.to_vec();
            bad[at] ^= 1;
            assert_eq!(public_key(&bad), None);
        }
        assert_eq!(public_key(&der[..43]), None);
        assert_eq!(public_key(&[&der, &[0][..]].concat()), None);
    }

    #[test]
    fn the_tls_stack_sees_the_same_identity() {
        let key = KeyPair::from_secret(&[5; 32]);
        let certified = certified(&key, &provider()).unwrap();
        let shown = certified.key.public_key().unwrap();
        assert_eq!(public_key(&shown), Some(key.public()));
    }
}
