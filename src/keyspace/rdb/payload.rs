//! What `DUMP` gives and `RESTORE` takes: one value, able to travel.
//!
//! ```text
//! kind byte · value · u16 version · u64 CRC64 of all before it
//! ```

use super::decode::{self, Input};
use super::encode::{self, Encoding};
use super::{LIBRARY, VERSION, crc64};
use crate::keyspace::Value;

/// Why a payload was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It was made by a later version, or its bytes do not fit its checksum.
    VersionOrChecksum,
    /// It does not hold one value of a kind that we hold, and nothing else.
    Format,
}

/// A value as a payload.
pub fn dump(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let encoding = Encoding::of(value);
    out.push(encoding.kind());
    encoding.write(&mut out);
    seal(&mut out);
    out
}

/// The value in a payload.
///
/// # Errors
/// See [`Refused`].
pub fn restore(payload: &[u8]) -> Result<Value, Refused> {
    let body = open(payload).ok_or(Refused::VersionOrChecksum)?;
    let (&kind, rest) = body.split_first().ok_or(Refused::Format)?;
    let mut rest = Bytes(rest);
    let value = decode::value(kind, &mut rest).map_err(|Malformed| Refused::Format)?;
    // Redis does not look whether anything is left. It would be lost.
    if rest.0.is_empty() { Ok(value) } else { Err(Refused::Format) }
}

/// Libraries as the payload that `FUNCTION DUMP` gives: each is its whole code,
/// the shebang line included.
pub fn dump_libraries<'a>(codes: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let mut out = Vec::new();
    for code in codes {
        out.push(LIBRARY);
        encode::string(&mut out, code.as_bytes());
    }
    seal(&mut out);
    out
}

/// The code of each library in a payload of `FUNCTION DUMP`.
///
/// # Errors
/// See [`Refused`].
pub fn restore_libraries(payload: &[u8]) -> Result<Vec<String>, Refused> {
    let mut rest = Bytes(open(payload).ok_or(Refused::VersionOrChecksum)?);
    let mut codes = Vec::new();
    while let [opcode, ..] = *rest.0 {
        if opcode != LIBRARY {
            return Err(Refused::Format);
        }
        rest.0 = &rest.0[1..];
        let code = decode::string(&mut rest).map_err(|Malformed| Refused::Format)?;
        codes.push(String::from_utf8(code).map_err(|_| Refused::Format)?);
    }
    Ok(codes)
}

/// Appends the trailer.
pub fn seal(out: &mut Vec<u8>) {
    out.extend_from_slice(&VERSION.to_le_bytes());
    let crc = crc64(0, out);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// What stands before the trailer; `None` if the trailer does not fit.
pub fn open(payload: &[u8]) -> Option<&[u8]> {
    let (summed, crc) = payload.split_last_chunk::<8>()?;
    let (body, version) = summed.split_last_chunk::<2>()?;
    let readable = u16::from_le_bytes(*version) <= VERSION;
    (readable && crc64(0, summed) == u64::from_le_bytes(*crc)).then_some(body)
}

/// Bytes of a payload that were not read yet.
struct Bytes<'a>(&'a [u8]);

/// Bytes that are no value.
struct Malformed;

impl Input for Bytes<'_> {
    type Error = Malformed;

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*array)
    }

    fn bytes(&mut self, len: u64, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let len = usize::try_from(len).map_err(|_| Malformed)?;
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        out.clear();
        out.extend_from_slice(bytes);
        Ok(())
    }

    fn malformed(&self, _expected: &'static str) -> Malformed {
        Malformed
    }
}
