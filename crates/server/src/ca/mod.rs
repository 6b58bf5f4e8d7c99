//! The daemon's own certificate authority, for PostgreSQL servers that speak TLS.

pub mod routes;

use crate::files::{self, SecretFileError};
use crate::problem::Problem;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pgdb_core::random::Entropy;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SerialNumber, date_time_ymd,
};
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use std::path::Path;
use zeroize::Zeroizing;

const CA_YEARS: i16 = 30;
/// A private CA whose servers run for years: an expiry that nobody expects would only be an outage.
const SERVER_YEARS: i16 = 10;

/// The authority. Its key comes from the provider's own random numbers, for rcgen takes no others.
pub struct Ca {
    pem: String,
    key: KeyPair,
}

/// Why the authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file could not be used.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// A file could not be written.
    #[error("could not write the CA's files")]
    Io(#[from] std::io::Error),
    /// A certificate or key makes no sense.
    #[error("could not use the CA's key or make a certificate")]
    Certificate(#[from] rcgen::Error),
}

impl From<CaError> for Problem {
    fn from(error: CaError) -> Self {
        Self::internal(crate::problem::chain(&error))
    }
}

impl Ca {
    /// Reads `data_dir/ca/`, or makes it on first use.
    pub fn open(data_dir: &Path, now: Timestamp, entropy: &dyn Entropy) -> Result<Self, CaError> {
        let folder = data_dir.join("ca");
        let (pem_path, key_path) = (folder.join("ca.pem"), folder.join("ca.key"));
        std::fs::create_dir_all(&folder)?;
        let key = match files::read_secret(&key_path)? {
            Some(text) => KeyPair::from_pem(&text)?,
            None => {
                let key = KeyPair::generate()?;
                files::write_secret(&key_path, Zeroizing::new(key.serialize_pem()).as_bytes())?;
                key
            }
        };
        let pem = match std::fs::read_to_string(&pem_path) {
            Ok(pem) => pem,
            // The certificate follows from the key, so a crash between the two is mended here.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut params = authority(&key);
                limit(&mut params, now, CA_YEARS, entropy);
                let pem = params.self_signed(&key)?.pem();
                files::replace(&pem_path, pem.as_bytes(), 0o644)?;
                pem
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self { pem, key })
    }

    /// The authority's certificate, for clients to trust.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A server's certificate for these names and addresses, and its key.
    pub fn issue(
        &self,
        hosts: &[String],
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<(String, SecretString), CaError> {
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name = DistinguishedName::new();
        // A common name has at most 64 characters; clients look at the alternative names.
        let name: String = hosts.first().map_or("pgdb", String::as_str).chars().take(64).collect();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        limit(&mut params, now, SERVER_YEARS, entropy);
        let key = KeyPair::generate()?;
        let issuer = Issuer::new(authority(&self.key), &self.key);
        let certificate = params.signed_by(&key, &issuer)?;
        Ok((certificate.pem(), SecretString::from(key.serialize_pem())))
    }
}

/// What names the authority; follows from its key alone.
fn authority(key: &KeyPair) -> CertificateParams {
    let digest = Sha256::digest(key.der_bytes());
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let name = format!("pgdb CA {:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3]);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Valid from yesterday, for clocks that differ.
fn limit(params: &mut CertificateParams, now: Timestamp, years: i16, entropy: &dyn Entropy) {
    let today = now.to_zoned(TimeZone::UTC).date();
    let from = today.yesterday().unwrap_or(today);
    let day = |year: i16, date: jiff::civil::Date| {
        // The 29th of February is not in every year.
        date_time_ymd(year.into(), date.month().unsigned_abs(), date.day().unsigned_abs().min(28))
    };
    params.not_before = day(from.year(), from);
    params.not_after = day(today.year().saturating_add(years), today);
    let mut serial = [0u8; 16];
    entropy.fill(&mut serial);
    // A serial number is positive and not zero.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::SystemEntropy;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn a_client_that_trusts_the_authority_takes_its_certificates() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let now: Timestamp = "2026-06-01T00:00:00Z".parse()?;
        let first = Ca::open(folder.path(), now, &SystemEntropy)?;
        // Opened again, it is the same.
        let ca = Ca::open(folder.path(), now, &SystemEntropy)?;
        assert_eq!(first.pem(), ca.pem());
        let hosts = ["db.example.org".to_owned(), "127.0.0.1".to_owned()];
        let (certificate, _key) = ca.issue(&hosts, now, &SystemEntropy)?;

        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())?;
        let at = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().unsigned_abs()));
        for host in hosts {
            verifier.verify_server_cert(&certificate, &[], &ServerName::try_from(host)?, &[], at)?;
        }
        assert!(verifier.verify_server_cert(&certificate, &[], &ServerName::try_from("other.org")?, &[], at).is_err());
        Ok(())
    }
}
