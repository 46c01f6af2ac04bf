"""JSON Web Tokens through the real binary, signed as another library signs them.

A policy whose key is a claim, and that denies without one, tells who is believed: 200
with a count of the subject's own, or 403."""

import base64
import hashlib
import hmac
import json
import os
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from process import wait_until
from weir import items

ISSUER, AUDIENCE = "https://id.example", "api"
SECRET = b"a secret that is as long as the longest of the hashes that it is used with"

BY_SUBJECT = """
jwt: {{ keys: keys, issuer: https://id.example, audience: [api, admin] }}
policies:
  - name: each
    key: jwt:sub
    on_missing_key: deny
    limits: [{{ quota: {quota}, window: 1h }}]
"""

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P256, P384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()

# What signs with an algorithm, and the name it has in the set.
SIGNERS = {
    **{name: (SECRET, "secret") for name in ("HS256", "HS384", "HS512")},
    **{name: (RSA, "rsa") for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")},
    "ES256": (P256, "p256"),
    "ES384": (P384, "p384"),
    "EdDSA": (ED25519, "ed25519"),
}


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwks(names=("secret", "rsa", "p256", "p384", "ed25519")):
    public = {
        "secret": {"kty": "oct", "k": encoded(SECRET)},
        "rsa": RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True),
        "p256": ECAlgorithm.to_jwk(P256.public_key(), as_dict=True),
        "p384": ECAlgorithm.to_jwk(P384.public_key(), as_dict=True),
        "ed25519": OKPAlgorithm.to_jwk(ED25519.public_key(), as_dict=True),
    }
    keys = [{**public[name], "kid": name, "use": "sig"} for name in names]
    for key in keys:
        key.pop("key_ops", None)
    # Sets of identity providers hold keys for other things too.
    keys.append({"kty": "EC", "crv": "secp256k1", "kid": "other", "x": "AQ", "y": "AQ"})
    return json.dumps({"keys": keys})


def claims(subject="ann", **others):
    return {"sub": subject, "iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600, **others}


def token(algorithm="RS256", kid=..., key=None, **others):
    signer, name = SIGNERS[algorithm]
    headers = {"kid": name} if kid is ... else {"kid": kid} if kid else {}
    return jwt.encode(claims(**others), key or signer, algorithm=algorithm, headers=headers)


def by_hand(header, payload, key=None):
    """A token that no library would make."""
    body = f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(payload).encode())}"
    signature = hmac.new(key, body.encode(), hashlib.sha256).digest() if key else b""
    return f"{body}.{encoded(signature)}"


def write(gateway, keys):
    """Replaces the file of keys whole."""
    beside = gateway.folder / ".keys.new"
    beside.write_text(keys)
    os.replace(beside, gateway.folder / "keys")


@pytest.fixture
def gateway(weir):
    gateway = weir(policies=BY_SUBJECT.format(quota=1000))
    write(gateway, jwks())
    with gateway:
        yield gateway


def ask(gateway, bearer):
    return gateway.get("/x", authorization=f"Bearer {bearer}")


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_a_token_of_every_algorithm_counts_for_its_subject(weir, algorithm):
    gateway = weir(policies=BY_SUBJECT.format(quota=1))
    write(gateway, jwks())
    with gateway:
        assert [ask(gateway, token(algorithm))[0] for _ in range(2)] == [200, 429]
        assert ask(gateway, token(algorithm, subject="bob"))[0] == 200, "another's quota"
        # Without a name, all keys of the set are tried.
        assert ask(gateway, token(algorithm, kid=None, subject="eve"))[0] == 200


def public_pem(key):
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


NOT_BELIEVED = {
    "none at all": lambda: "",
    "no token": lambda: "abc",
    "alg none": lambda: by_hand({"alg": "none", "typ": "JWT"}, claims()),
    "alg None": lambda: by_hand({"alg": "None", "typ": "JWT"}, claims()),
    "no alg": lambda: by_hand({"typ": "JWT"}, claims(), SECRET),
    "the public key as a secret": lambda: by_hand({"alg": "HS256", "kid": "rsa"}, claims(), public_pem(RSA)),
    "the public key as a secret, unnamed": lambda: by_hand({"alg": "HS256"}, claims(), public_pem(RSA)),
    "somebody else's key": lambda: token(key=rsa.generate_private_key(public_exponent=65537, key_size=2048)),
    "an unknown name": lambda: token(kid="nobody"),
    "another key's name": lambda: token(kid="p256"),
    "expired": lambda: token(exp=int(time.time()) - 120),
    "not yet": lambda: token(nbf=int(time.time()) + 600),
    "another issuer": lambda: token(iss="https://id.example.evil"),
    "another audience": lambda: token(aud=["other"]),
    "no subject": lambda: jwt.encode({**claims(), "sub": ""}, RSA, algorithm="RS256", headers={"kid": "rsa"}),
    "too long": lambda: token(padding="x" * 8192),
    "tampered": lambda: token()[:-10] + "AAAAAAAAAA",
}


def test_a_token_that_is_not_to_be_believed_has_no_claims(gateway):
    assert ask(gateway, token())[0] == 200
    for aud in ("admin", ["other", "admin"]):
        assert ask(gateway, token(aud=aud))[0] == 200, aud
    for name, forged in NOT_BELIEVED.items():
        status, fields, _ = ask(gateway, forged())
        assert status == 403, f"{name}: {status}"
        assert "ratelimit" not in fields, name
    assert gateway.get("/x")[0] == 403, "no header field"
    _, fields, _ = ask(gateway, token())
    assert items(fields["ratelimit"])["each"]["r"] == 1000 - 4, "nobody was charged for them"


def test_keys_that_are_exchanged_check_from_then_on_and_a_broken_set_does_not(gateway):
    generation = gateway.generation()
    write(gateway, jwks(names=["ed25519"]))
    wait_until(lambda: gateway.generation() > generation, "the new keys in force")
    assert [ask(gateway, token(algorithm))[0] for algorithm in ("EdDSA", "RS256", "HS256")] == [200, 403, 403]

    refused = 'weir_limiter_policy_reloads_total{outcome="refused"}'
    before = gateway.metrics()[refused]
    # In place, and only half of it.
    (gateway.folder / "keys").write_text(jwks()[:200])
    wait_until(lambda: gateway.metrics()[refused] > before, "the broken set refused")
    gateway.process.tells("jwt.keys: `keys` is not a set of keys (JWKS)")
    assert [ask(gateway, token(algorithm))[0] for algorithm in ("EdDSA", "RS256")] == [200, 403]
    generation = gateway.generation()
    (gateway.folder / "keys").write_text(jwks())
    wait_until(lambda: gateway.generation() > generation, "whole again")
    assert [ask(gateway, token(algorithm))[0] for algorithm in ("EdDSA", "RS256")] == [200, 200]


def test_claims_choose_tiers_and_overrides(weir):
    policies = """
jwt: { keys: keys }
policies:
  - name: each
    key: jwt:sub
    limits: [{ quota: 1, window: 1h }]
    tiers: { by: jwt:plan.name, limits: { pro: [{ quota: 5, window: 1h }] } }
    overrides:
      - { when: { jwt:role: staff }, unlimited: true }
      - { when: { jwt:blocked: "true" }, deny: true }
"""
    gateway = weir(policies=policies)
    write(gateway, jwks())
    with gateway:
        def quota(**claims):
            status, fields, _ = ask(gateway, token(**claims))
            return items(fields["ratelimit-policy"])["each"]["q"] if "ratelimit" in fields else status

        assert quota() == 1
        assert quota(plan={"name": "pro"}) == 5
        assert quota(plan={"name": "gold"}) == 1, "a tier that there is not"
        assert quota(role="staff", plan={"name": "pro"}) == 200
        assert quota(blocked=True) == 403
        # Whose token is not believed is in no tier and has no override.
        forged = token(key=rsa.generate_private_key(public_exponent=65537, key_size=2048), role="staff")
        assert items(ask(gateway, forged)[1]["ratelimit-policy"])["each"]["q"] == 1
