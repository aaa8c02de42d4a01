//! QUIC endpoints that follow no rule of ours but the identities: any ALPN, any frames, any time.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use xvault::crypto::sign::KeyPair;
use xvault::types::PublicKey;

/// The protocol that honest peers speak.
pub(crate) const ALPN: &[u8] = b"xvault/1";

/// DER around an Ed25519 public key and a secret one (RFC 8410).
const SPKI: &str = "302a300506032b6570032100";
const PKCS8: &str = "302e020100300506032b657004220420";

/// An endpoint that listens on loopback with this identity.
pub(crate) fn server(key: &KeyPair, alpn: &[u8]) -> quinn::Endpoint {
    let provider = Arc::new(ring::default_provider());
    let identity = Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified(key, &provider)));
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(Anybody))
        .with_cert_resolver(identity);
    config.alpn_protocols = vec![alpn.to_vec()];
    let crypto = Arc::new(QuicServerConfig::try_from(config).unwrap());
    quinn::Endpoint::server(quinn::ServerConfig::with_crypto(crypto), loopback()).unwrap()
}

/// A connection with this identity to whoever is at the address.
pub(crate) async fn connect(
    key: &KeyPair,
    address: SocketAddr,
    alpn: &[u8],
) -> Result<quinn::Connection, quinn::ConnectionError> {
    let provider = Arc::new(ring::default_provider());
    let identity = Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified(key, &provider)));
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_client_cert_resolver(identity);
    config.alpn_protocols = vec![alpn.to_vec()];
    let crypto = Arc::new(QuicClientConfig::try_from(config).unwrap());
    let mut endpoint = quinn::Endpoint::client(loopback()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(crypto));
    endpoint.connect(address, "anybody").unwrap().await
}

/// The key that the other end proved to have.
pub(crate) fn peer_key(connection: &quinn::Connection) -> PublicKey {
    let identity = connection.peer_identity().unwrap().downcast::<Vec<CertificateDer<'static>>>().unwrap();
    PublicKey::from_slice(&identity[0][SPKI.len() / 2..]).unwrap()
}

fn loopback() -> SocketAddr {
    (std::net::Ipv4Addr::LOCALHOST, 0).into()
}

fn der(prefix: &str, key: &[u8; 32]) -> Vec<u8> {
    let mut bytes = data_encoding::HEXLOWER.decode(prefix.as_bytes()).unwrap();
    bytes.extend(key);
    bytes
}

fn certified(key: &KeyPair, provider: &CryptoProvider) -> Arc<CertifiedKey> {
    let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der(PKCS8, &key.secret())));
    let signing = provider.key_provider.load_private_key(secret).unwrap();
    Arc::new(CertifiedKey::new(vec![der(SPKI, key.public().as_bytes()).into()], signing))
}

/// Believes every identity.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Anybody {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
