//! Keys of the door: our own key pair on disk, and the public keys by which both sides are known.
//!
//! There are no certificates at the door (RFC 7250): a peer is its key, and whose key it is says DNS
//! or the operator. This file makes, reads and prints keys. It never decides whether one may enter.
//! Used by the profile, by `postern identity`, by whoever reads keys from DNS.

use std::fmt::{self, Write as _};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::Ed25519KeyPair;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

/// What stands before the 32 octets of an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410 section 4).
const ED25519_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What stands before the two coordinates of a P-256 key (RFC 5480 section 2), 0x04 for "uncompressed" included.
const P256_PREFIX: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];
/// Octets of an Ed25519 key's SubjectPublicKeyInfo.
const ED25519_BYTES: usize = ED25519_PREFIX.len() + 32;
/// Octets of a P-256 key's SubjectPublicKeyInfo.
const P256_BYTES: usize = P256_PREFIX.len() + 64;

/// Why a key cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file could not be read.
    #[error("{}: {error}; the user postern runs as must be able to read it", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// The file is no private key.
    #[error("{}: no usable private key ({why}); it needs one PEM block of BEGIN PRIVATE KEY (PKCS #8), Ed25519 or P-256", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The parser's words.
        why: String,
    },
    /// Everybody on this machine may read the private key.
    #[error("{}: every user may read this private key; chmod 600 it, and make a new one if others use this machine", path.display())]
    Open {
        /// Which.
        path: PathBuf,
    },
    /// The file could not be written.
    #[error("{}: {error}; make the directory writable", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// Not PKCS #8, or a kind of key that the door does not use.
    #[error("not a private key of the door: {0}")]
    Private(String),
    /// Not the SubjectPublicKeyInfo of an Ed25519 or P-256 key.
    #[error("not a public key of the door (Ed25519 or P-256, SubjectPublicKeyInfo)")]
    Public,
    /// The system has no randomness to give.
    #[error("no randomness from the system")]
    Randomness,
}

/// The public key of a peer: its SubjectPublicKeyInfo, DER, 44 octets for Ed25519 or 91 for P-256.
///
/// Written as base64 text. One key has one encoding, so keys are equal when their octets are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(Box<[u8]>);

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo strictly: these two algorithms, this length, nothing behind it. Whether the
    /// point is on its curve shows when a signature is verified.
    ///
    /// # Errors
    /// [`KeyError::Public`].
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let ed25519 = der.len() == ED25519_BYTES && der.starts_with(&ED25519_PREFIX);
        let p256 = der.len() == P256_BYTES && der.starts_with(&P256_PREFIX);
        if ed25519 || p256 { Ok(Self(der.into())) } else { Err(KeyError::Public) }
    }

    /// The SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> &[u8] {
        &self.0
    }

    /// SHA-256 over the SubjectPublicKeyInfo.
    pub fn sha256(&self) -> [u8; 32] {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.0);
        digest.as_ref().try_into().expect("SHA-256 gives 32 octets")
    }

    /// The data of a TLSA record for this key: usage 3, selector 1, matching type 1 (RFC 7671 section 5.1).
    pub fn tlsa(&self) -> String {
        let mut text = String::from("3 1 1 ");
        for octet in self.sha256() {
            let _ = write!(text, "{octet:02x}");
        }
        text
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::from_spki(&STANDARD.decode(text).map_err(|_| KeyError::Public)?)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// Our own key. Clones share it; it is never printed.
#[derive(Clone)]
pub struct KeyPair {
    certified: Arc<CertifiedKey>,
    public: PublicKey,
}

impl KeyPair {
    /// Makes an Ed25519 key. PKCS #8, DER.
    ///
    /// # Errors
    /// [`KeyError::Randomness`].
    pub fn generate() -> Result<Vec<u8>, KeyError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::Randomness)?;
        Ok(pkcs8.as_ref().to_vec())
    }

    /// Takes a private key, PKCS #8, DER, Ed25519 or P-256.
    ///
    /// # Errors
    /// [`KeyError::Private`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der.to_vec()));
        let key = rustls::crypto::ring::sign::any_supported_type(&private)
            .map_err(|error| KeyError::Private(error.to_string()))?;
        let spki = key.public_key().ok_or_else(|| KeyError::Private("it does not tell its public key".to_owned()))?;
        let public =
            PublicKey::from_spki(&spki).map_err(|_| KeyError::Private("neither Ed25519 nor P-256".to_owned()))?;
        let shown = vec![CertificateDer::from(public.spki().to_vec())];
        Ok(Self { certified: Arc::new(CertifiedKey::new(shown, key)), public })
    }

    /// Reads a PEM file with one PKCS #8 key.
    ///
    /// # Errors
    /// [`KeyError`] names file and cure. A key that every user may read is refused.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let unread = |error| KeyError::Read { path: path.into(), error };
        let mode = fs::metadata(path).map_err(unread)?.permissions().mode();
        if mode & 0o007 != 0 {
            return Err(KeyError::Open { path: path.into() });
        }
        let pem = fs::read(path).map_err(unread)?;
        let unusable = |why: String| KeyError::File { path: path.into(), why };
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|error| unusable(error.to_string()))?;
        Self::from_pkcs8(der.secret_pkcs8_der()).map_err(|error| unusable(error.to_string()))
    }

    /// Reads the file, or makes it with a new key (0600, its directory 0700) when there is none.
    ///
    /// Whole or not at all, and never over a key that is there: of two processes that start at once
    /// both use the key that came first. A file that is there and cannot be used is an error, not a
    /// reason for a new key: the old one may be published.
    ///
    /// # Errors
    /// [`KeyError`] names file and cure.
    pub fn load_or_make(path: &Path) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let pem = pem(&Self::generate()?);
        write_new(path, &pem).map_err(|error| KeyError::Write { path: path.into(), error })?;
        Self::load(path)
    }

    /// What others know us by.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair(of {:?})", self.public)
    }
}

/// One PEM block (RFC 7468 section 10).
fn pem(pkcs8: &[u8]) -> String {
    let mut text = String::from("-----BEGIN PRIVATE KEY-----\n");
    let body = STANDARD.encode(pkcs8);
    for line in body.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        text.push('\n');
    }
    text.push_str("-----END PRIVATE KEY-----\n");
    text
}

/// Written beside, synced, linked to its name: a link, unlike a rename, does not replace what is there.
fn write_new(path: &Path, content: &str) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mut unique = [0; 8];
    SystemRandom::new().fill(&mut unique).map_err(|_| io::Error::other("no randomness"))?;
    let beside = path.with_extension(format!("{:016x}.new", u64::from_be_bytes(unique)));
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        match fs::hard_link(&beside, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    })();
    let _ = fs::remove_file(&beside);
    written?;
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests;
