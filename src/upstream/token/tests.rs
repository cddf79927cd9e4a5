//! What a token says, how long it is used, and that the vendor could read it.

use std::collections::HashSet;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::PublicKey;
use aws_lc_rs::{hmac, signature};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::*;
use crate::upstream::{jwe, pem, test_keys as keys};

#[test]
fn a_token_says_when_it_begins_and_ends_with_room_for_a_minute_of_skew() {
    for (lifetime, now, iat, exp) in [
        (300, 1_000_000, 999_940, 1_000_240),
        (3600, 1_000_000, 999_940, 1_003_540),
        (240, 1_000_000, 999_940, 1_000_180),
        (60, 1_000_000, 999_985, 1_000_045),
        (4, 1_000_000, 999_999, 1_000_003),
        (1, 1_000_000, 1_000_000, 1_000_001),
        (300, 0, 0, 300),
        (u64::MAX, 1_000_000, 999_940, u64::MAX),
    ] {
        let times = Times::at(secs(now) + Duration::from_millis(900), secs(lifetime));
        assert_eq!(times, Times { iat, exp }, "{lifetime}s at {now}");
    }
}

#[test]
fn a_kept_token_is_good_until_it_nears_its_end() {
    for (lifetime, age_ms, want) in [
        // Minted 60 s after iat; 60 s before exp it is too late for a fast clock, and 10 s sooner for the call.
        (300, 0, true),
        (300, 169_999, true),
        (300, 170_000, false),
        (300, 500_000, false),
        (300, -60_000, true),
        (300, -60_001, false),
        (3600, 3_469_999, true),
        (3600, 3_470_000, false),
        // Shorter lives keep a quarter and a thirtieth.
        (60, 27_999, true),
        (60, 28_000, false),
        (4, 1_866, true),
        (4, 1_867, false),
        (1, 716, true),
        (1, 717, false),
    ] {
        let minted = 1_000_000_000_i64;
        let times = Times::at(millis(minted), secs(lifetime));
        let usable = times.usable(secs(lifetime), millis(minted + age_ms));
        assert_eq!(usable, want, "{lifetime}s, {age_ms}ms after");
    }
}

#[tokio::test]
async fn each_algorithm_s_token_is_accepted_by_another_verifier() {
    let public = PublicKey::from_der(keys::RSA.public_key().as_der().unwrap().as_ref()).unwrap();
    for (algorithm, pem) in [
        (Algorithm::Hs256, None),
        (Algorithm::Hs512, None),
        (Algorithm::Rs256, Some(keys::pkcs1())),
        (Algorithm::Rs256, Some(keys::pkcs8())),
        (Algorithm::Rs512, Some(keys::pkcs8())),
    ] {
        let key = match pem {
            None => EncodingKey::from_secret(SECRET),
            Some(pem) => EncodingKey::from_rsa_der(&pem::private_key(pem.as_bytes()).unwrap()),
        };
        let (clock, _hand) = Clock::by_hand();
        let minter = Minter::new(Mint {
            algorithm,
            key,
            ..mint()
        });
        let minted = minter.token(&clock).await.unwrap();
        let text = minted.value.to_str().unwrap();

        let (message, signed) = text.rsplit_once('.').unwrap();
        let signed = URL_SAFE_NO_PAD.decode(signed).unwrap();
        let message_bytes = message.as_bytes();
        let rsa = |params| {
            signature::UnparsedPublicKey::new(params, public.as_ref())
                .verify(message_bytes, &signed)
        };
        let hs =
            |algorithm| hmac::verify(&hmac::Key::new(algorithm, SECRET), message_bytes, &signed);
        match algorithm {
            Algorithm::Hs256 => hs(hmac::HMAC_SHA256),
            Algorithm::Hs512 => hs(hmac::HMAC_SHA512),
            Algorithm::Rs256 => rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::Rs512 => rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
        }
        .unwrap();

        let (header, claims) = message.split_once('.').unwrap();
        assert_eq!(
            decoded(header),
            json!({"typ": "JWT", "alg": algorithm.name()})
        );
        let iat = since_epoch(&clock).as_secs() - 60;
        assert_eq!(
            decoded(claims),
            json!({"sub": "contacts-gateway", "appId": "cs-1", "iat": iat, "exp": iat + 300})
        );
        assert!(minted.value.is_sensitive());
    }
}

#[tokio::test]
async fn a_token_is_kept_until_it_nears_its_end_and_then_minted_anew() {
    let (clock, hand) = Clock::by_hand();
    let minter = Minter::new(mint());
    let first = minter.token(&clock).await.unwrap();
    assert!(first.fresh);

    hand.forward(secs(160));
    let again = minter.token(&clock).await.unwrap();
    assert_eq!((&again.value, again.fresh), (&first.value, false));
    assert!(again.value.is_sensitive());

    hand.forward(secs(11));
    let next = minter.token(&clock).await.unwrap();
    assert!(next.fresh);
    assert_ne!(next.value, first.value);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_callers_at_once_cost_one_signature() {
    let (clock, _hand) = Clock::by_hand();
    let der = pem::private_key(keys::pkcs8().as_bytes()).unwrap();
    let minter = Minter::new(Mint {
        algorithm: Algorithm::Rs256,
        key: EncodingKey::from_rsa_der(&der),
        ..mint()
    });
    let all = join_all((0..50).map(|_| minter.token(&clock))).await;
    let fresh = all.iter().filter(|one| one.as_ref().unwrap().fresh);
    assert_eq!(fresh.count(), 1);
    let values: HashSet<_> = all.iter().map(|one| &one.as_ref().unwrap().value).collect();
    assert_eq!(values.len(), 1);
}

#[tokio::test]
async fn with_jti_every_call_has_a_token_of_its_own() {
    let (clock, _hand) = Clock::by_hand();
    let minter = Minter::new(Mint {
        jti: true,
        ..mint()
    });
    let mut seen = HashSet::new();
    for _ in 0..50 {
        let minted = minter.token(&clock).await.unwrap();
        assert!(minted.fresh);
        let claims = decoded(minted.value.to_str().unwrap().split('.').nth(1).unwrap());
        let jti = claims["jti"].as_str().unwrap().to_owned();
        assert_eq!(jti.parse::<Uuid>().unwrap().get_version_num(), 7);
        assert!(seen.insert(jti), "no jti comes twice");
    }
}

#[tokio::test]
async fn a_wrapped_token_holds_a_signed_one() {
    let (clock, _hand) = Clock::by_hand();
    let minter = Minter::new(Mint {
        recipient: Some(Recipient::new(keys::RSA.public_key()).unwrap()),
        ..mint()
    });
    let minted = minter.token(&clock).await.unwrap();
    let token = jwe::open(minted.value.to_str().unwrap(), keys::RSA.clone()).unwrap();
    let (message, signed) = token.rsplit_once('.').unwrap();
    let signed = URL_SAFE_NO_PAD.decode(signed).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    hmac::verify(&key, message.as_bytes(), &signed).unwrap();

    let again = minter.token(&clock).await.unwrap();
    assert_eq!((again.value, again.fresh), (minted.value, false));
}

#[tokio::test]
async fn a_key_that_does_not_sign_is_an_internal_error() {
    for algorithm in [Algorithm::Hs256, Algorithm::Rs256] {
        let (clock, _hand) = Clock::by_hand();
        let minter = Minter::new(Mint {
            algorithm,
            key: EncodingKey::from_rsa_der(b"no key"),
            ..mint()
        });
        let refused = minter.token(&clock).await;
        assert_eq!(refused.unwrap_err(), Error::Internal);
    }
}

const SECRET: &[u8] = b"0123456789abcdefghijklmnopqrstuv";

fn mint() -> Mint {
    Mint {
        algorithm: Algorithm::Hs256,
        key: EncodingKey::from_secret(SECRET),
        client_id: "cs-1".into(),
        subject: "contacts-gateway".into(),
        lifetime: secs(300),
        jti: false,
        recipient: None,
    }
}

fn decoded(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn millis(millis: i64) -> Duration {
    Duration::from_millis(millis.try_into().unwrap())
}
