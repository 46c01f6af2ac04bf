//! Tokens: claims of a JSON Web Token, believed only as far as configured.
//!
//! With a key, or a set of keys (JWKS), a token whose signature does not check
//! has no claims at all. Without one, claims are read only under an explicit
//! `unverified: true`: for gateways behind something that has checked already.
//!
//! # Invariants
//!
//! 1. The key says which algorithms may be used with it, never the token: a public
//!    key is no secret for HMAC, and `none` is no algorithm.
//! 2. A signed token that has expired, or is not valid yet, has no claims. What is
//!    unverified is not judged: whoever checked it has.
//! 3. Where an issuer or an audience is asked for, a token without one has no claims
//!    either. Where none is, a token may be from whoever has a key, and for anybody.

use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::Value as Json;

use crate::base::clock::Timestamp;

use super::RequestFacts;

/// Tokens longer than this are not looked at.
const TOKEN_MAX_BYTES: usize = 8 << 10;

/// A shared secret is not shorter.
const SECRET_MIN_BYTES: usize = 16;

/// What a key in PEM form begins with.
const PEM_BEGIN: &[u8] = b"-----BEGIN ";

/// By how much clocks may differ, in seconds.
const LEEWAY_S: f64 = 60.0;

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

/// What a token must say of itself, beside being signed; empty is anything.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// `iss` is one of these.
    pub(super) issuers: Vec<String>,
    /// One of `aud` is one of these.
    pub(super) audiences: Vec<String>,
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
    /// The claims of a request's token, if it has one that is believed at the moment
    /// `now`; without a moment, whenever it may be used.
    pub(super) fn claims(&self, facts: &RequestFacts<'_>, now: Option<Timestamp>) -> Option<Json> {
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
                let header = decode_header(token).ok()?;
                // Names extensions that must be understood, and we know of none.
                if header.crit.is_some() {
                    return None;
                }
                let id = header.kid;
                let may_fit = |key: &&Key| key.id.is_none() || id.is_none() || key.id == id;
                let checked = |key: &Key| decode::<Json>(token, &key.key, &key.validation).ok();
                let claims = keys.iter().filter(may_fit).find_map(checked)?.claims;
                now.is_none_or(|now| is_in_time(&claims, now)).then_some(claims)
            }
        }
    }
}

/// Whether a token may be used now, by its `exp` and `nbf`. One that cannot be read is
/// as good as passed.
fn is_in_time(claims: &Json, now: Timestamp) -> bool {
    let now = now.seconds() as f64;
    let holds = |claim: &str, holds: fn(f64, f64) -> bool| match claims.get(claim) {
        None => true,
        Some(date) => date.as_f64().is_some_and(|date| holds(date, now)),
    };
    holds("exp", |exp, now| now < exp + LEEWAY_S) && holds("nbf", |nbf, now| now >= nbf - LEEWAY_S)
}

/// A set of keys. One of a kind that is not known is left out, and not an error of the
/// set, as RFC 7517 asks (5).
#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Json>,
}

/// Reads the keys of a file: a JWKS, a public key in PEM form, or a secret. They check
/// tokens that say what is `asked`.
///
/// # Errors
/// It is none of these; the text reads on from the name of the file.
pub(super) fn keys(text: &[u8], asked: &Asked) -> Result<Vec<Key>, String> {
    // Some editors begin a file with a byte order mark.
    let trimmed = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text).trim_ascii();
    if trimmed.starts_with(b"{") {
        let set: Jwks = serde_json::from_slice(trimmed)
            .map_err(|error| format!("is not a set of keys (JWKS): {error}"))?;
        return of_set(set, asked);
    }
    // Words may stand before it. As a secret a public key would let all sign.
    if trimmed.windows(PEM_BEGIN.len()).any(|it| it == PEM_BEGIN) {
        let parsed = DecodingKey::from_rsa_pem(trimmed)
            .or_else(|_| DecodingKey::from_ec_pem(trimmed))
            .or_else(|_| DecodingKey::from_ed_pem(trimmed));
        let key = parsed.map_err(|_| "is not a public key of RSA, EC or Ed25519".to_owned())?;
        return Ok(vec![Key::new(key, asked)]);
    }
    if is_der(text) {
        return Err(
            "is a key in DER form; its PEM form is wanted (openssl pkey -inform DER)".into()
        );
    }
    if trimmed.starts_with(b"ssh-") {
        return Err("is a key for SSH; its PEM form is wanted (ssh-keygen -e -m PKCS8)".into());
    }
    if trimmed.len() < SECRET_MIN_BYTES {
        return Err(format!(
            "holds no key, and is too short for a secret ({SECRET_MIN_BYTES} bytes)"
        ));
    }
    Ok(vec![Key::new(DecodingKey::from_secret(trimmed), asked)])
}

/// The keys of a set that check signatures. A secret that is too short is an error of the
/// set: to leave it out would leave its tokens without claims, and nobody would know why.
fn of_set(set: Jwks, asked: &Asked) -> Result<Vec<Key>, String> {
    let mut known = Vec::new();
    let mut left_out = Vec::new();
    for jwk in set.keys {
        let name = match jwk.get("kid").and_then(Json::as_str) {
            Some(id) => format!("`{id}`"),
            None => "one without `kid`".to_owned(),
        };
        match Key::of(jwk, asked) {
            Ok(key) => known.push(key),
            Err(unfit @ Unfit::Short { .. }) => {
                return Err(format!("holds a key that is too weak: {name} {unfit}"));
            }
            Err(unfit) => left_out.push(format!("{name} {unfit}")),
        }
    }
    match (known.is_empty(), left_out.is_empty()) {
        (false, _) => Ok(known),
        (true, true) => Err("holds no key that can check a signature".to_owned()),
        (true, false) => {
            Err(format!("holds no key that can check a signature: {}", left_out.join(", ")))
        }
    }
}

/// Why a key of a set checks no signature. Reads on from its name.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("is of no kind that is known")]
    Unknown,
    #[error("is not for signatures, by its `use`")]
    Use,
    #[error("may not verify, by its `key_ops`")]
    Operations,
    #[error("has {len} bytes, and {algorithm:?} wants {wanted} (RFC 7518, 3.2)")]
    Short { len: usize, algorithm: Algorithm, wanted: usize },
}

/// Bytes that a secret must have, at least: what the hash makes (RFC 7518, 3.2).
fn secret_min_bytes(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::HS256 => 32,
        Algorithm::HS384 => 48,
        Algorithm::HS512 => 64,
        _ => 0,
    }
}

/// True for one ASN.1 sequence and nothing else, which is how keys look in binary.
fn is_der(bytes: &[u8]) -> bool {
    match *bytes {
        [0x30, len, ref content @ ..] if len < 0x80 => content.len() == usize::from(len),
        [0x30, 0x81, len, ref content @ ..] => content.len() == usize::from(len),
        [0x30, 0x82, high, low, ref content @ ..] => {
            content.len() == usize::from(u16::from_be_bytes([high, low]))
        }
        _ => false,
    }
}

impl Key {
    fn new(key: DecodingKey, asked: &Asked) -> Key {
        let mut validation = Validation::new_for_family(key.family());
        validation.required_spec_claims.clear();
        // By our clock, not the library's.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        if !asked.issuers.is_empty() {
            validation.set_issuer(&asked.issuers);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        validation.validate_aud = !asked.audiences.is_empty();
        if validation.validate_aud {
            validation.set_audience(&asked.audiences);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        Key { id: None, key, validation }
    }

    /// A key of a set, if it is one that checks signatures in a way that is known.
    fn of(jwk: Json, asked: &Asked) -> Result<Key, Unfit> {
        let jwk: Jwk = serde_json::from_value(jwk).map_err(|_| Unfit::Unknown)?;
        if jwk.common.public_key_use.as_ref().is_some_and(|it| *it != PublicKeyUse::Signature) {
            return Err(Unfit::Use);
        }
        if jwk.common.key_operations.as_ref().is_some_and(|it| !it.contains(&KeyOperations::Verify))
        {
            return Err(Unfit::Operations);
        }
        let decoding = DecodingKey::from_jwk(&jwk).map_err(|_| Unfit::Unknown)?;
        let mut key = Key::new(decoding, asked);
        if let Some(only) = jwk.common.key_algorithm {
            let only = only.to_string().parse().map_err(|_| Unfit::Unknown)?;
            key.validation.algorithms = vec![only];
        }
        if matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_)) {
            key.limit_to_its_length()?;
        }
        key.id = jwk.common.key_id;
        Ok(key)
    }

    /// A secret is used with the algorithms that it is long enough for.
    fn limit_to_its_length(&mut self) -> Result<(), Unfit> {
        let len = self.key.try_get_as_bytes().map_err(|_| Unfit::Unknown)?.len();
        let asked = &mut self.validation.algorithms;
        let least = asked.iter().copied().min_by_key(|it| secret_min_bytes(*it));
        asked.retain(|it| secret_min_bytes(*it) <= len);
        match least {
            Some(algorithm) if asked.is_empty() => {
                Err(Unfit::Short { len, algorithm, wanted: secret_min_bytes(algorithm) })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;
    use crate::policy::testing::Pairs;

    /// As long as the longest hash of HMAC is.
    const SECRET: &[u8] = b"a secret of a length that is enough for a hash of 512 bits, so 64";
    const RSA: &[u8] = include_bytes!("../../tests/fixtures/jwt/rsa.pem");
    const RSA_PUBLIC: &[u8] = include_bytes!("../../tests/fixtures/jwt/rsa.pub.pem");
    const EC: &[u8] = include_bytes!("../../tests/fixtures/jwt/ec.pem");
    const EC_PUBLIC: &[u8] = include_bytes!("../../tests/fixtures/jwt/ec.pub.pem");
    const EC384: &[u8] = include_bytes!("../../tests/fixtures/jwt/ec384.pem");
    const EC384_PUBLIC: &[u8] = include_bytes!("../../tests/fixtures/jwt/ec384.pub.pem");
    const ED25519: &[u8] = include_bytes!("../../tests/fixtures/jwt/ed25519.pem");
    const ED25519_PUBLIC: &[u8] = include_bytes!("../../tests/fixtures/jwt/ed25519.pub.pem");
    const OTHER_ED25519: &[u8] = include_bytes!("../../tests/fixtures/jwt/other-ed25519.pem");

    fn signer(algorithm: Algorithm) -> EncodingKey {
        match algorithm {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
                EncodingKey::from_secret(SECRET)
            }
            Algorithm::ES256 => EncodingKey::from_ec_pem(EC).unwrap(),
            Algorithm::ES384 => EncodingKey::from_ec_pem(EC384).unwrap(),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(ED25519).unwrap(),
            _ => EncodingKey::from_rsa_pem(RSA).unwrap(),
        }
    }

    /// A token of ann's.
    fn token(algorithm: Algorithm, key: &EncodingKey, kid: Option<&str>) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
        let claims = json!({ "sub": "ann", "plan": { "name": "gold" } });
        encode(&header, &claims, key).unwrap()
    }

    fn signed(keys_file: &[u8]) -> Tokens {
        asking(keys_file, &Asked::default())
    }

    fn asking(keys_file: &[u8], asked: &Asked) -> Tokens {
        let trust = Trust::Signed(keys(keys_file, asked).unwrap());
        Tokens { header: "authorization".into(), trust }
    }

    /// A set of one key for each signer, under these names.
    fn jwks(keys: &[(&str, Algorithm)]) -> Vec<u8> {
        let named = |(kid, algorithm): &(&str, Algorithm)| {
            let mut jwk = Jwk::from_encoding_key(&signer(*algorithm), *algorithm).unwrap();
            jwk.common.key_id = Some((*kid).to_owned());
            jwk
        };
        let keys: Vec<Jwk> = keys.iter().map(named).collect();
        serde_json::to_vec(&json!({ "keys": keys })).unwrap()
    }

    fn subject_at(tokens: &Tokens, authorization: &str, now: Option<u64>) -> Option<String> {
        let pairs = [("authorization", authorization.as_bytes())];
        let facts = RequestFacts { headers: &Pairs(&pairs), ..RequestFacts::for_tests("/") };
        let now = now.map(|seconds| Timestamp::from_millis(seconds * 1_000));
        Some(tokens.claims(&facts, now)?["sub"].as_str()?.to_owned())
    }

    fn subject(tokens: &Tokens, authorization: &str) -> Option<String> {
        subject_at(tokens, authorization, Some(1_700_000_000))
    }

    #[test]
    fn a_claim_is_believed_when_its_signature_checks() {
        let tokens = signed(SECRET);
        let good = token(Algorithm::HS256, &signer(Algorithm::HS256), None);
        let forger = EncodingKey::from_secret(b"somebody else's secret");
        let tampered = format!("{}x", &good[..good.len() - 1]);
        let cases = [
            (format!("Bearer {good}"), Some("ann")),
            (format!("bearer {good}"), Some("ann")),
            (good.clone(), Some("ann")),
            (format!("Bearer {}", token(Algorithm::HS256, &forger, None)), None),
            (format!("Bearer {tampered}"), None),
            ("Bearer".to_owned(), None),
            ("Bearer a.b.c".to_owned(), None),
        ];
        for (authorization, expected) in cases {
            assert_eq!(subject(&tokens, &authorization).as_deref(), expected, "{authorization}");
        }
    }

    #[test]
    fn a_token_that_is_too_long_to_be_one_is_not_looked_at() {
        let of_size = |padding: usize| {
            let claims = json!({ "sub": "ann", "padding": "x".repeat(padding) });
            encode(&Header::new(Algorithm::HS256), &claims, &signer(Algorithm::HS256)).unwrap()
        };
        let overhead = of_size(0).len();
        let fits = of_size((TOKEN_MAX_BYTES - overhead) / 4 * 3);
        let too_long = of_size((TOKEN_MAX_BYTES - overhead) / 4 * 3 + 4);
        assert!(fits.len() <= TOKEN_MAX_BYTES && too_long.len() > TOKEN_MAX_BYTES);
        let unverified = Tokens { header: "authorization".into(), trust: Trust::Unverified };
        for tokens in [signed(SECRET), unverified] {
            assert_eq!(subject(&tokens, &fits).as_deref(), Some("ann"));
            assert_eq!(subject(&tokens, &too_long), None);
        }
    }

    #[test]
    fn a_token_must_be_from_and_for_whom_the_file_says() {
        let words =
            |words: &[&str]| -> Vec<String> { words.iter().map(|it| (*it).to_owned()).collect() };
        let (any, issuers) = (Asked::default(), words(&["https://id", "b"]));
        let from = Asked { issuers, audiences: Vec::new() };
        let one = Asked { issuers: words(&["https://id"]), audiences: words(&["api"]) };
        let some = Asked { issuers: words(&["https://id", "b"]), audiences: words(&["api", "c"]) };
        for (claims, fit) in [
            // Asked for: nothing, an issuer, an issuer and an audience, one of several each.
            (json!({}), [true, false, false, false]),
            (json!({ "iss": "https://id" }), [true, true, false, false]),
            (json!({ "aud": "api" }), [true, false, false, false]),
            (json!({ "iss": "https://id", "aud": "api" }), [true; 4]),
            (json!({ "iss": "b", "aud": ["x", "c"] }), [true, true, false, true]),
            (json!({ "iss": "https://id", "aud": ["x", "api"] }), [true; 4]),
            (json!({ "iss": "https://id", "aud": ["x"] }), [true, true, false, false]),
            (json!({ "iss": "https://id", "aud": [] }), [true, true, false, false]),
            (json!({ "iss": "https://id/", "aud": "api" }), [true, false, false, false]),
            (json!({ "iss": "https://ID", "aud": "api" }), [true, false, false, false]),
            (json!({ "iss": null, "aud": null }), [true, false, false, false]),
            (json!({ "iss": 7, "aud": { "api": "api" } }), [true, false, false, false]),
        ] {
            let mut with_subject = claims.clone();
            with_subject["sub"] = "ann".into();
            let key = signer(Algorithm::HS256);
            let token = encode(&Header::new(Algorithm::HS256), &with_subject, &key).unwrap();
            for (asked, fits) in [&any, &from, &one, &some].into_iter().zip(fit) {
                let told = subject(&asking(SECRET, asked), &token);
                assert_eq!(told.is_some(), fits, "{claims} where {asked:?}");
            }
        }
    }

    #[test]
    fn every_kind_of_key_checks_its_own_signatures_and_no_other() {
        use Algorithm::{
            ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512,
        };
        let algorithms =
            [HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA];
        let files = [
            (SECRET, &[HS256, HS384, HS512][..]),
            (RSA_PUBLIC, &[RS256, RS384, RS512, PS256, PS384, PS512]),
            (EC_PUBLIC, &[ES256]),
            (EC384_PUBLIC, &[ES384]),
            (ED25519_PUBLIC, &[EdDSA]),
        ];
        for (file, own) in files {
            for algorithm in algorithms {
                let told = subject(&signed(file), &token(algorithm, &signer(algorithm), None));
                let expected = own.contains(&algorithm).then_some("ann");
                assert_eq!(told.as_deref(), expected, "{algorithm:?}, {}", file.escape_ascii());
            }
        }
        let other = EncodingKey::from_ed_pem(OTHER_ED25519).unwrap();
        assert_eq!(subject(&signed(ED25519_PUBLIC), &token(EdDSA, &other, None)), None);
    }

    #[test]
    fn a_set_of_keys_is_gone_by_the_name_that_the_token_gives() {
        use Algorithm::{ES256, ES384, EdDSA, HS256, PS256, RS256};
        let set = [("h", HS256), ("r", RS256), ("e", ES256), ("e384", ES384), ("d", EdDSA)];
        let tokens = signed(&jwks(&set));
        for (kid, algorithm) in set {
            let (key, other) = (signer(algorithm), if kid == "h" { "r" } else { "h" });
            let told = |kid| subject(&tokens, &token(algorithm, &key, kid));
            assert_eq!(told(Some(kid)).as_deref(), Some("ann"), "{kid}");
            assert_eq!(told(None).as_deref(), Some("ann"), "{kid}: without a name all are tried");
            assert_eq!(told(Some(other)), None, "{kid} under another's name");
            assert_eq!(told(Some("unknown")), None, "{kid}");
        }
        // The set says that `r` signs with RS256 and nothing else.
        assert_eq!(subject(&tokens, &token(PS256, &signer(PS256), Some("r"))), None);
    }

    /// The same set, every key of which says this besides.
    fn saying(set: &[u8], more: &Json) -> Vec<u8> {
        let mut set: Json = serde_json::from_slice(set).unwrap();
        for key in set["keys"].as_array_mut().unwrap() {
            key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        }
        serde_json::to_vec(&set).unwrap()
    }

    #[test]
    fn a_key_checks_signatures_only_if_it_is_meant_to() {
        let set = jwks(&[("r", Algorithm::RS256), ("h", Algorithm::HS256)]);
        for fit in [json!({}), json!({ "use": "sig" }), json!({ "key_ops": ["sign", "verify"] })] {
            assert_eq!(keys(&saying(&set, &fit), &Asked::default()).unwrap().len(), 2, "{fit}");
        }
        for (unfit, why) in [
            (json!({ "use": "enc" }), "is not for signatures, by its `use`"),
            (json!({ "use": "tls" }), "is not for signatures, by its `use`"),
            (json!({ "key_ops": ["sign"] }), "may not verify, by its `key_ops`"),
            (json!({ "key_ops": [] }), "may not verify, by its `key_ops`"),
            (json!({ "use": "sig", "key_ops": ["encrypt"] }), "may not verify, by its `key_ops`"),
            (json!({ "kty": "AKP" }), "is of no kind that is known"),
        ] {
            let told = keys(&saying(&set, &unfit), &Asked::default()).unwrap_err();
            let expected = "holds no key that can check a signature";
            assert_eq!(told, format!("{expected}: `r` {why}, `h` {why}"), "{unfit}");
        }
        let unnamed = json!({ "keys": [{ "kty": "RSA", "use": "enc" }] }).to_string();
        let told = keys(unnamed.as_bytes(), &Asked::default()).unwrap_err();
        assert!(
            told.ends_with("a signature: one without `kid` is not for signatures, by its `use`"),
            "{told}"
        );
    }

    #[test]
    fn a_secret_of_a_set_is_as_long_as_the_hash_it_is_used_with() {
        use Algorithm::{HS256, HS384, HS512};
        let set = |len: usize, algorithm: Option<Algorithm>| {
            let mut jwk =
                Jwk::from_encoding_key(&EncodingKey::from_secret(&SECRET[..len]), HS256).unwrap();
            jwk.common.key_id = Some("h".to_owned());
            jwk.common.key_algorithm =
                algorithm.map(|it| serde_json::from_value(json!(format!("{it:?}"))).unwrap());
            serde_json::to_vec(&json!({ "keys": [jwk] })).unwrap()
        };
        for (len, only, fit) in [
            (32, None, &[HS256][..]),
            (48, None, &[HS256, HS384]),
            (64, None, &[HS256, HS384, HS512]),
            (32, Some(HS256), &[HS256]),
            (64, Some(HS384), &[HS384]),
        ] {
            let tokens = signed(&set(len, only));
            for algorithm in [HS256, HS384, HS512] {
                let own = EncodingKey::from_secret(&SECRET[..len]);
                let told = subject(&tokens, &token(algorithm, &own, Some("h")));
                assert_eq!(
                    told.is_some(),
                    fit.contains(&algorithm),
                    "{len} {only:?} {algorithm:?}"
                );
            }
        }
        for (len, only, why) in [
            (31, None, "`h` has 31 bytes, and HS256 wants 32 (RFC 7518, 3.2)"),
            (47, Some(HS384), "`h` has 47 bytes, and HS384 wants 48 (RFC 7518, 3.2)"),
            (63, Some(HS512), "`h` has 63 bytes, and HS512 wants 64 (RFC 7518, 3.2)"),
        ] {
            let told = keys(&set(len, only), &Asked::default()).unwrap_err();
            assert_eq!(told, format!("holds a key that is too weak: {why}"));
        }
    }

    #[test]
    fn a_key_of_an_unknown_kind_does_not_spoil_its_set() {
        let mut set: Json = serde_json::from_slice(&jwks(&[("r", Algorithm::RS256)])).unwrap();
        for odd in [
            json!({ "kty": "EC", "crv": "secp256k1", "kid": "k", "x": "AQ", "y": "AQ" }),
            json!({ "kty": "AKP", "alg": "ML-DSA-44", "kid": "p", "pub": "AQ" }),
            json!({ "kty": "RSA", "alg": "RSA-OAEP", "kid": "o", "n": "AQ", "e": "AQAB" }),
            json!({ "kty": "RSA", "kid": "broken" }),
            json!("a word"),
        ] {
            set["keys"].as_array_mut().unwrap().insert(0, odd);
        }
        let tokens = signed(&serde_json::to_vec(&set).unwrap());
        let told = subject(&tokens, &token(Algorithm::RS256, &signer(Algorithm::RS256), Some("r")));
        assert_eq!(told.as_deref(), Some("ann"));
    }

    #[test]
    fn a_public_key_is_no_secret_whatever_stands_before_it() {
        let set = jwks(&[("r", Algorithm::RS256)]);
        for (before, file) in [
            (&b"\xEF\xBB\xBF"[..], &set[..]),
            (b"\xEF\xBB\xBF", RSA_PUBLIC),
            (b"# of our provider\nBag Attributes: <No Attributes>\n", RSA_PUBLIC),
        ] {
            let file = [before, file].concat();
            let tokens = signed(&file);
            let own = token(Algorithm::RS256, &signer(Algorithm::RS256), None);
            assert_eq!(subject(&tokens, &own).as_deref(), Some("ann"));
            let secret = EncodingKey::from_secret(file.trim_ascii());
            assert_eq!(subject(&tokens, &token(Algorithm::HS256, &secret, None)), None);
        }
    }

    #[test]
    fn a_public_key_in_a_form_that_is_not_read_is_no_secret_either() {
        let of_len = |head: &[u8], len: usize| [head, &vec![7; len]].concat();
        for (file, form) in [
            (of_len(&[0x30, 0x2A], 0x2A), "DER"),
            (of_len(&[0x30, 0x81, 0x9F], 0x9F), "DER"),
            (of_len(&[0x30, 0x82, 0x01, 0x22], 0x122), "DER"),
            (b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI somebody@somewhere".to_vec(), "SSH"),
        ] {
            let told = keys(&file, &Asked::default()).map(|keys| keys.len()).unwrap_err();
            assert!(told.contains(form), "{told}");
        }
        // Chance may well begin so, and hardly ever with its own length.
        assert!(keys(&of_len(&[0x30, 0x2A], 0x2B), &Asked::default()).is_ok());
    }

    #[test]
    fn an_algorithm_of_the_attackers_choice_is_of_no_use() {
        // A public key is known to all; as a secret for HMAC it would let all sign.
        for public in [RSA_PUBLIC, RSA_PUBLIC.trim_ascii(), EC_PUBLIC, ED25519_PUBLIC] {
            let forged = token(Algorithm::HS256, &EncodingKey::from_secret(public), None);
            assert_eq!(subject(&signed(public), &forged), None, "{}", public.escape_ascii());
        }
        // {"alg":"none"} and {"alg":"None"}, without a signature or with any.
        let good = token(Algorithm::RS256, &signer(Algorithm::RS256), None);
        let body = good.split('.').nth(1).unwrap();
        for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJOb25lIn0"] {
            for signature in ["", "x", good.rsplit('.').next().unwrap()] {
                for file in [RSA_PUBLIC, SECRET] {
                    let forged = format!("{header}.{body}.{signature}");
                    assert_eq!(subject(&signed(file), &forged), None, "{forged}");
                }
            }
        }
        // A key that comes with the token is nobody's.
        let own = EncodingKey::from_ed_pem(OTHER_ED25519).unwrap();
        let jwk = Jwk::from_encoding_key(&own, Algorithm::EdDSA).unwrap();
        let header = Header { jwk: Some(jwk), ..Header::new(Algorithm::EdDSA) };
        let forged = encode(&header, &json!({ "sub": "ann" }), &own).unwrap();
        assert_eq!(subject(&signed(ED25519_PUBLIC), &forged), None);
        // What must be understood, and is not.
        let crit = Some(vec!["exp".to_owned()]);
        let header = Header { crit, ..Header::new(Algorithm::HS256) };
        let token = encode(&header, &json!({ "sub": "ann" }), &signer(Algorithm::HS256)).unwrap();
        assert_eq!(subject(&signed(SECRET), &token), None);
    }

    #[test]
    fn a_signed_token_counts_from_nbf_to_exp_with_a_minute_to_spare() {
        let tokens = signed(SECRET);
        let ann = Some("ann");
        for (claims, now, expected) in [
            (json!({ "exp": 1000 }), 1000, ann),
            (json!({ "exp": 1000 }), 1059, ann),
            (json!({ "exp": 1000 }), 1060, None),
            (json!({ "exp": 1000.5 }), 1060, ann),
            (json!({ "nbf": 1000 }), 940, ann),
            (json!({ "nbf": 1000 }), 939, None),
            (json!({ "nbf": 1000, "exp": 2000 }), 1500, ann),
            (json!({}), u64::from(u32::MAX), ann),
            (json!({ "exp": "soon" }), 1000, None),
            (json!({ "exp": null }), 1000, None),
            (json!({ "exp": -1 }), 1000, None),
            (json!({ "exp": u64::MAX }), 1000, ann),
            (json!({ "nbf": [1] }), 1000, None),
        ] {
            let mut with_subject = claims.clone();
            with_subject["sub"] = "ann".into();
            let key = signer(Algorithm::HS256);
            let token = encode(&Header::new(Algorithm::HS256), &with_subject, &key).unwrap();
            let told = subject_at(&tokens, &token, Some(now));
            assert_eq!(told.as_deref(), expected, "{claims} at {now}");
        }
    }

    #[test]
    fn without_a_moment_a_token_may_be_of_any_time() {
        let claims = json!({ "sub": "ann", "exp": 1000, "nbf": 500 });
        let key = signer(Algorithm::HS256);
        let token = encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
        assert_eq!(subject_at(&signed(SECRET), &token, None).as_deref(), Some("ann"));
    }

    #[test]
    fn without_a_key_claims_are_read_as_they_are_written() {
        let tokens = Tokens { header: "authorization".into(), trust: Trust::Unverified };
        let anybody = EncodingKey::from_secret(b"anybody's secret, whatever");
        let told = subject(&tokens, &token(Algorithm::HS256, &anybody, None));
        assert_eq!(told.as_deref(), Some("ann"));
    }

    #[test]
    fn a_file_that_holds_no_key_is_refused() {
        for (text, expected) in [
            ("{}", "is not a set of keys"),
            ("{\"keys\": []}", "holds no key"),
            ("-----BEGIN NOTHING-----", "is not a public key"),
            ("short", "too short"),
        ] {
            let told = keys(text.as_bytes(), &Asked::default()).unwrap_err();
            assert!(told.contains(expected), "{text}: {told}");
        }
    }
}
