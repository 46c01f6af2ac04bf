//! Tokens: claims of a JSON Web Token, believed only as far as configured.
//!
//! With a key, or a set of keys (JWKS), a token whose signature does not check
//! has no claims at all. Without one, claims are read only under an explicit
//! `unverified: true`: for gateways behind something that has checked already.
//!
//! Not here: whether a token has expired. That is the upstream's to say, and there
//! is no clock in this room; what matters for a limit is who the token speaks of.

use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde_json::Value as Json;

use super::RequestFacts;

/// Tokens longer than this are not looked at.
const TOKEN_MAX_BYTES: usize = 8 << 10;

/// A shared secret is not shorter.
const SECRET_MIN_BYTES: usize = 16;

/// Where tokens are, and which are believed.
#[derive(Debug)]
pub(super) struct Tokens {
    /// The header field that holds them, lower case; `Bearer ` is taken off.
    pub(super) header: Box<str>,
    pub(super) trust: Trust,
}

/// Whose claims are believed.
#[derive(Debug)]
pub(super) enum Trust {
    /// Anybody's.
    Unverified,
    /// Theirs who have one of these keys.
    Signed(Vec<Key>),
}

/// A key that signs tokens.
pub(super) struct Key {
    id: Option<String>,
    key: DecodingKey,
    validation: Validation,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Tokens {
    /// The claims of a request's token, if it has one that is believed.
    pub(super) fn claims(&self, facts: &RequestFacts<'_>) -> Option<Json> {
        let field = facts.headers.get(&self.header)?;
        let token = match field.get(..7) {
            Some(scheme) if scheme.eq_ignore_ascii_case(b"bearer ") => &field[7..],
            _ => field,
        };
        let token = token.trim_ascii();
        if token.len() > TOKEN_MAX_BYTES {
            return None;
        }
        match &self.trust {
            Trust::Unverified => insecure_decode_claims(token).ok(),
            Trust::Signed(keys) => {
                let id = decode_header(token).ok()?.kid;
                let may_fit = |key: &&Key| key.id.is_none() || id.is_none() || key.id == id;
                let checked = |key: &Key| decode::<Json>(token, &key.key, &key.validation).ok();
                Some(keys.iter().filter(may_fit).find_map(checked)?.claims)
            }
        }
    }
}

/// Reads the keys of a file: a JWKS, a public key in PEM form, or a secret.
///
/// # Errors
/// It is none of these; the text reads on from the name of the file.
pub(super) fn keys(text: &[u8]) -> Result<Vec<Key>, String> {
    let trimmed = text.trim_ascii();
    if trimmed.starts_with(b"{") {
        let set: JwkSet = serde_json::from_slice(trimmed)
            .map_err(|error| format!("is not a set of keys (JWKS): {error}"))?;
        let known: Vec<Key> = set
            .keys
            .iter()
            .filter_map(|jwk| {
                let key = DecodingKey::from_jwk(jwk).ok()?;
                Some(Key::new(jwk.common.key_id.clone(), key))
            })
            .collect();
        if known.is_empty() {
            return Err("holds no key that can check a signature".to_owned());
        }
        return Ok(known);
    }
    if trimmed.starts_with(b"-----BEGIN") {
        let parsed = DecodingKey::from_rsa_pem(trimmed)
            .or_else(|_| DecodingKey::from_ec_pem(trimmed))
            .or_else(|_| DecodingKey::from_ed_pem(trimmed));
        let key = parsed.map_err(|_| "is not a public key of RSA, EC or Ed25519".to_owned())?;
        return Ok(vec![Key::new(None, key)]);
    }
    if trimmed.len() < SECRET_MIN_BYTES {
        return Err(format!(
            "holds no key, and is too short for a secret ({SECRET_MIN_BYTES} bytes)"
        ));
    }
    Ok(vec![Key::new(None, DecodingKey::from_secret(trimmed))])
}

impl Key {
    fn new(id: Option<String>, key: DecodingKey) -> Key {
        let mut validation = Validation::new_for_family(key.family());
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        Key { id, key, validation }
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};

    use super::*;
    use crate::policy::testing::Pairs;

    const SECRET: &[u8] = b"a secret of some length";

    fn token(secret: &[u8]) -> String {
        let claims = serde_json::json!({ "sub": "ann", "plan": { "name": "gold" } });
        let header = Header::new(Algorithm::HS256);
        encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap()
    }

    fn subject(tokens: &Tokens, authorization: &str) -> Option<String> {
        let pairs = [("authorization", authorization.as_bytes())];
        let facts = RequestFacts { headers: &Pairs(&pairs), ..RequestFacts::for_tests("/") };
        Some(tokens.claims(&facts)?["sub"].as_str()?.to_owned())
    }

    #[test]
    fn a_claim_is_believed_when_its_signature_checks() {
        let tokens =
            Tokens { header: "authorization".into(), trust: Trust::Signed(keys(SECRET).unwrap()) };
        let good = token(SECRET);
        let tampered = format!("{}x", &good[..good.len() - 1]);
        let cases = [
            (format!("Bearer {good}"), Some("ann")),
            (format!("bearer {good}"), Some("ann")),
            (good.clone(), Some("ann")),
            (format!("Bearer {}", token(b"somebody else's secret")), None),
            (format!("Bearer {tampered}"), None),
            ("Bearer".to_owned(), None),
            ("Bearer a.b.c".to_owned(), None),
            (format!("Bearer {}", "x".repeat(TOKEN_MAX_BYTES)), None),
        ];
        for (authorization, expected) in cases {
            assert_eq!(subject(&tokens, &authorization).as_deref(), expected, "{authorization}");
        }
    }

    #[test]
    fn without_a_key_claims_are_read_as_they_are_written() {
        let tokens = Tokens { header: "authorization".into(), trust: Trust::Unverified };
        assert_eq!(subject(&tokens, &token(b"anybody's secret, whatever")).as_deref(), Some("ann"));
    }

    #[test]
    fn a_file_that_holds_no_key_is_refused() {
        for (text, expected) in [
            ("{}", "is not a set of keys"),
            ("{\"keys\": []}", "holds no key"),
            ("-----BEGIN NOTHING-----", "is not a public key"),
            ("short", "too short"),
        ] {
            let told = keys(text.as_bytes()).unwrap_err();
            assert!(told.contains(expected), "{text}: {told}");
        }
    }
}
