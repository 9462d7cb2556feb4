//! How Jenkins keeps its keys: `secrets/master.key` is 256 hex digits, and each `secrets/<key>` is AES-128-ECB under the first half of its
//! SHA-256, with PKCS#5 padding; the plain text ends with `::::MAGIC::::`. A key that does not open so, Jenkins silently makes anew, and all that
//! was encrypted with it is lost.

use aes::Aes128;
use aes::cipher::{BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _};
use sha2::{Digest as _, Sha256};

/// The end of every key's plain text.
const MAGIC: &[u8] = b"::::MAGIC::::";
const BLOCK: usize = 16;
/// The length of a master key, in hex digits.
const MASTER_DIGITS: usize = 256;

/// Why a key does not open.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SecretError {
    /// The master key is something else.
    #[error("the master key is not {MASTER_DIGITS} hex digits")]
    Master,
    /// The length of the file is none that a key has.
    #[error("{0} bytes are not one or more blocks of {BLOCK}")]
    Length(usize),
    /// It was encrypted under another master key, or is damaged.
    #[error("it does not open with this master key")]
    Foreign,
}

fn cipher(master: &str) -> Result<Aes128, SecretError> {
    let master = master.trim();
    if master.len() != MASTER_DIGITS || !master.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(SecretError::Master);
    }
    let hash = Sha256::digest(master.as_bytes());
    Aes128::new_from_slice(&hash[..BLOCK]).map_err(|_| SecretError::Master)
}

/// The file that keeps `plain`.
pub fn seal(master: &str, plain: &[u8]) -> Result<Vec<u8>, SecretError> {
    let cipher = cipher(master)?;
    let mut bytes = [plain, MAGIC].concat();
    let padding = BLOCK - bytes.len() % BLOCK;
    bytes.resize(bytes.len() + padding, u8::try_from(padding).unwrap_or_default());
    for block in bytes.as_chunks_mut::<BLOCK>().0 {
        cipher.encrypt_block(block.into());
    }
    Ok(bytes)
}

/// What the file `sealed` keeps.
pub fn open(master: &str, sealed: &[u8]) -> Result<Vec<u8>, SecretError> {
    let cipher = cipher(master)?;
    if sealed.is_empty() || !sealed.len().is_multiple_of(BLOCK) {
        return Err(SecretError::Length(sealed.len()));
    }
    let mut bytes = sealed.to_vec();
    for block in bytes.as_chunks_mut::<BLOCK>().0 {
        cipher.decrypt_block(block.into());
    }
    let padding = usize::from(*bytes.last().unwrap_or(&0));
    let text = bytes.len().checked_sub(padding).map(|end| &bytes[..end]);
    let plain = text.filter(|_| (1..=BLOCK).contains(&padding)).and_then(|text| text.strip_suffix(MAGIC));
    plain.map(<[u8]>::to_vec).ok_or(SecretError::Foreign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_with_its_master_and_with_no_other() {
        let master = "0123456789abcdef".repeat(16);
        for length in [0, 2, 3, 15, 16, 17, 256] {
            let plain = vec![7; length];
            let sealed = seal(&master, &plain).unwrap();
            assert_eq!(open(&format!("{master}\n"), &sealed), Ok(plain));
            assert_eq!(open(&"f".repeat(MASTER_DIGITS), &sealed), Err(SecretError::Foreign));
            assert_eq!(open(&master, &sealed[1..]), Err(SecretError::Length(sealed.len() - 1)));
        }
        assert_eq!(open(&master, &[]), Err(SecretError::Length(0)));
        assert_eq!(open(&master[1..], &[0; 16]), Err(SecretError::Master));
    }

    /// Made with `printf key::::MAGIC:::: | openssl enc -aes-128-ecb -K $(printf %s MASTER | sha256sum | head -c 32)`.
    #[test]
    fn a_key_that_another_program_made_opens() {
        let master = "ab".repeat(128);
        let hex = "48e8cff8a5ab368ab0cc0ec593829a48b27d3df1c0e7ce1d32aeefb6893c0a03";
        let sealed: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        assert_eq!(open(&master, &sealed), Ok(b"key".to_vec()));
    }
}
