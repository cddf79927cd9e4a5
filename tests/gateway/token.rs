//! The tokens that reach the vendor, judged by the stand-in and by somebody who shares no code with it: `openssl`.

mod openssl;
mod refused;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use contacts_gateway::clock::Clock;
use contacts_gateway::vendor::{self, App, Skew};
use http::StatusCode;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

use crate::support::{
    ACCOUNT, CLIENT_ID, Folder, SECRET, STREAM, World, is_there, path_of, program,
};
use openssl::RSA;

const SUBJECT: &str = "contacts-gateway";

/// An entry for the test app, or for another stream.
fn entry(stream: &str, more: &str) -> String {
    format!("[[credentials]]\nstream = {stream:?}\nclient_id = {CLIENT_ID:?}\n{more}\n")
}

/// Every way to sign: algorithm, the setting that says where the key is, and its text.
fn ways() -> [(&'static str, &'static str, String); 9] {
    [
        ("HS256", "secret_file", SECRET.into()),
        ("HS256", "secret_file", format!("{SECRET}\n")),
        ("HS256", "secret_file", format!("{SECRET}\r\n")),
        ("HS512", "secret_file", format!("{SECRET}\n")),
        ("RS256", "key_file", RSA.pkcs1.clone()),
        ("RS256", "key_file", RSA.pkcs8.clone()),
        ("RS512", "key_file", RSA.pkcs1.clone()),
        ("RS512", "key_file", RSA.pkcs8.clone()),
        ("RS256", "secret_file", RSA.pkcs8.clone()),
    ]
}

/// What the vendor knows of the test app.
fn app(algorithm: &str) -> App {
    let stream = STREAM.parse().unwrap();
    match algorithm {
        "HS256" => App::hs256(stream, CLIENT_ID, SECRET.as_bytes()),
        "HS512" => App::hs512(stream, CLIENT_ID, SECRET.as_bytes()),
        "RS256" => App::rs256(stream, CLIENT_ID, RSA.public.as_bytes()).unwrap(),
        _ => App::rs512(stream, CLIENT_ID, RSA.public.as_bytes()).unwrap(),
    }
}

async fn before(app: App, settings: &str) -> World {
    World::with_vendor(settings, |vendor| vendor.apps = vec![app]).await
}

/// A token's text, taken apart.
struct Token {
    header: Value,
    claims: Value,
    signed: String,
    signature: Vec<u8>,
}

impl Token {
    fn of(text: &str) -> Self {
        let parts: Vec<_> = text.split('.').collect();
        let decoded = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
        let [header, claims, signature] = parts[..] else {
            panic!("not three parts: {text}");
        };
        Self {
            header: serde_json::from_slice(&decoded(header)).unwrap(),
            claims: serde_json::from_slice(&decoded(claims)).unwrap(),
            signed: format!("{header}.{claims}"),
            signature: decoded(signature),
        }
    }

    /// The one that came with the latest call.
    fn latest(world: &World) -> Self {
        Self::of(&text_of_latest(world))
    }

    /// That openssl finds it signed as the algorithm says.
    fn is_signed(&self, algorithm: &str) {
        let digest = if algorithm.ends_with("256") {
            "-sha256"
        } else {
            "-sha512"
        };
        let good = if algorithm.starts_with("HS") {
            openssl::hmac(digest, SECRET, &self.signed) == self.signature
        } else {
            openssl::verifies(digest, &RSA.public, &self.signed, &self.signature)
        };
        assert!(good, "{algorithm}: {}", self.header);
        assert_eq!(self.header, json!({"typ": "JWT", "alg": algorithm}));
    }
}

fn text_of_latest(world: &World) -> String {
    let seen = world.vendor.requests().pop().unwrap();
    seen.headers["auth"].to_str().unwrap().to_owned()
}

fn seconds(clock: &Clock) -> u64 {
    let now = clock.wall().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs()
}

#[tokio::test]
async fn each_algorithm_and_form_of_key_makes_tokens_that_others_accept() {
    if !is_there("openssl") {
        return;
    }
    for (algorithm, setting, key) in ways() {
        let folder = Folder::new();
        let file = folder.put("key", &key);
        let more = format!("algorithm = {algorithm:?}\n{setting} = {file:?}");
        let world = before(app(algorithm), &entry(STREAM, &more)).await;
        let answer = world.get("cl-n6-a").await;
        assert_eq!(answer.status, StatusCode::OK, "{more}: {}", answer.text());
        Token::latest(&world).is_signed(algorithm);
        let minted = format!("contacts_gateway_tokens_minted_total{{algorithm={algorithm:?}}}");
        assert_eq!(world.gateway.metric(&minted).await, 1.0);
    }
}

#[tokio::test]
async fn a_key_in_the_environment_is_as_good_as_one_in_a_file() {
    if !is_there("openssl") {
        return;
    }
    let folder = Folder::new();
    for (algorithm, _, key) in ways() {
        let key = if algorithm.starts_with("HS") {
            SECRET
        } else {
            &key
        };
        let more = format!("algorithm = {algorithm:?}\nsecret_env = \"THE_KEY\"");
        let settings = folder.put("gateway.toml", &entry("*", &more));
        let text = minted(&settings, key);
        Token::of(&text).is_signed(algorithm);
        let world = before(app(algorithm), "").await;
        let answer = asked_with(&world, &text).await;
        assert_eq!(answer, StatusCode::OK, "{more}");
    }
}

#[test]
fn a_secret_in_the_environment_need_not_be_text() {
    let key: Vec<u8> = (0xc0..=0xff).collect();
    let folder = Folder::new();
    let settings = folder.put("gateway.toml", &entry("*", "secret_env = \"THE_KEY\""));
    let token = minted(&settings, OsStr::from_bytes(&key));
    let mut validation = Validation::new(Algorithm::HS256);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    let key = DecodingKey::from_secret(&key);
    assert!(jsonwebtoken::decode::<Value>(&token, &key, &validation).is_ok());
}

/// What `contacts-gateway token` prints.
fn minted(settings: &Path, key: impl AsRef<OsStr>) -> String {
    let settings = settings.to_str().unwrap();
    let ended = program(&["token", "--stream", STREAM, "--config", settings])
        .env("THE_KEY", key)
        .output()
        .unwrap();
    assert!(ended.status.success(), "{ended:?}");
    String::from_utf8(ended.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

/// How the vendor answers somebody who brings this token.
async fn asked_with(world: &World, token: &str) -> StatusCode {
    let path = path_of(STREAM, "cl-n6-a", ACCOUNT);
    let fields = [("auth", token), ("iid", STREAM), ("accountid", ACCOUNT)];
    world.ask_vendor(&path, &fields).await.status
}

#[tokio::test]
async fn a_token_says_what_the_vendor_documents_and_no_more() {
    let folder = Folder::new();
    let secret = folder.put("secret", SECRET);
    for (more, subject, slack, lifetime) in [
        ("", SUBJECT, 60, 300),
        ("subject = \"1234567890\"", "1234567890", 60, 300),
        ("token_lifetime = \"1h\"", SUBJECT, 60, 3600),
        ("token_lifetime = \"40s\"", SUBJECT, 10, 40),
    ] {
        let settings = entry(STREAM, &format!("secret_file = {secret:?}\n{more}"));
        let world = before(app("HS256"), &settings).await;
        assert_eq!(world.get("cl-n6-a").await.status, StatusCode::OK);
        let iat = seconds(&world.gateway.parts.clock) - slack;
        let claims = json!({"sub": subject, "appId": CLIENT_ID, "iat": iat, "exp": iat + lifetime});
        assert_eq!(Token::latest(&world).claims, claims, "{more}");
    }
}

#[tokio::test]
async fn each_stream_has_its_own_app_and_the_others_have_the_one_for_all() {
    let folder = Folder::new();
    let apps = [
        ("st-a", "cs-a", "st-a"),
        ("st-b", "cs-b", "st-b"),
        ("st-c", "cs-all", "*"),
        ("st-d", "cs-all", "*"),
    ];
    let secret = |client: &str| format!("{SECRET}-of-{client}");
    let mut settings = String::new();
    for (_, client, stream) in &apps[..3] {
        let file = folder.put(client, &secret(client));
        settings += &format!(
            "[[credentials]]\nstream = {stream:?}\nclient_id = {client:?}\nsecret_file = {file:?}\n"
        );
    }
    let known = apps
        .map(|(id, client, _)| App::hs256(id.parse().unwrap(), client, secret(client).as_bytes()));
    let world = World::with_vendor(&settings, |vendor| vendor.apps = known.into()).await;
    for (id, client, _) in apps {
        let answer = world.gateway.get(&path_of(id, "cl-n6-a", ACCOUNT)).await;
        assert_eq!(answer.status, StatusCode::OK, "{id}");
        assert_eq!(Token::latest(&world).claims["appId"], client);
        assert_eq!(world.vendor.requests().pop().unwrap().headers["iid"], id);
    }
}

#[tokio::test]
async fn a_token_is_used_again_until_it_nears_its_end() {
    let world = World::new().await;
    let mut texts = HashSet::new();
    // Minted to be good for 4 minutes more; the last minute and a bit is for clocks that differ.
    for (after, want) in [(0, 1), (100, 1), (60, 1), (20, 2), (160, 2), (20, 3)] {
        world.hand.forward(Duration::from_secs(after));
        world.get(&format!("cl-n6-{}", world.vendor.calls())).await;
        texts.insert(text_of_latest(&world));
        assert_eq!(texts.len(), want, "{after} s later");
    }
    let minted = "contacts_gateway_tokens_minted_total{algorithm=\"HS256\"}";
    assert_eq!(world.gateway.metric(minted).await, 3.0);
}

#[tokio::test]
async fn no_token_comes_too_early_or_too_late_for_a_clock_that_is_a_minute_off() {
    let minute = Duration::from_secs(60);
    for skew in [Skew::Ahead(minute), Skew::None, Skew::Behind(minute)] {
        for enforcing_jti in [false, true] {
            let folder = Folder::new();
            let more = format!(
                "secret_file = {:?}\njti = {enforcing_jti}",
                folder.put("s", SECRET)
            );
            let change = |vendor: &mut vendor::Settings| {
                vendor.skew = skew;
                vendor.apps = vec![app("HS256")];
                if enforcing_jti {
                    vendor.apps = vec![app("HS256").enforcing_jti()];
                }
            };
            let world = World::with_vendor(&entry(STREAM, &more), change).await;
            for call in 0..90 {
                let answer = world.get(&format!("cl-n0-{call}")).await;
                assert_eq!(answer.status, StatusCode::OK, "{skew:?}, call {call}");
                world.hand.forward(Duration::from_secs(7));
            }
        }
    }
}

#[tokio::test]
async fn with_jti_every_call_has_a_token_of_its_own() {
    if !is_there("openssl") {
        return;
    }
    let folder = Folder::new();
    for lifetime in ["5m", "1h"] {
        let file = folder.put("secret", SECRET);
        let more = format!("secret_file = {file:?}\njti = true\ntoken_lifetime = {lifetime:?}");
        let world = before(app("HS256").enforcing_jti(), &entry(STREAM, &more)).await;
        let mut ids = HashSet::new();
        for list in 0..20 {
            assert_eq!(
                world.get(&format!("cl-n0-{list}")).await.status,
                StatusCode::OK
            );
            let token = Token::latest(&world);
            token.is_signed("HS256");
            let id: uuid::Uuid = token.claims["jti"].as_str().unwrap().parse().unwrap();
            assert!(ids.insert(id), "{id} twice");
        }
    }
}

#[tokio::test]
async fn an_encrypted_token_is_one_that_the_platforms_key_opens() {
    if !is_there("openssl") {
        return;
    }
    let folder = Folder::new();
    let platform = &openssl::PLATFORM;
    let (secret, public) = (
        folder.put("secret", SECRET),
        folder.put("public", &platform.public),
    );
    for jti in [false, true] {
        let more = format!("secret_file = {secret:?}\nencrypt_to_file = {public:?}\njti = {jti}");
        let app = app("HS256")
            .enforcing_jwe(platform.pkcs8.as_bytes())
            .unwrap();
        let app = if jti { app.enforcing_jti() } else { app };
        let world = before(app, &entry(STREAM, &more)).await;
        for list in ["cl-n0-a", "cl-n0-b"] {
            let answer = world.get(list).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
            let (header, inside) = openssl::opened(&text_of_latest(&world), platform);
            let header: Value = serde_json::from_slice(&header).unwrap();
            assert_eq!(
                header,
                json!({"alg": "RSA-OAEP-256", "enc": "A256GCM", "cty": "JWT"})
            );
            Token::of(&inside).is_signed("HS256");
        }
    }
}

#[tokio::test]
async fn what_the_vendor_does_not_accept_is_told_as_a_matter_of_credentials() {
    if !is_there("openssl") {
        return;
    }
    let stranger = App::hs256(STREAM.parse().unwrap(), CLIENT_ID, b"another secret");
    let other_id = App::hs256(STREAM.parse().unwrap(), "cs-other", SECRET.as_bytes());
    let jwe = app("HS256").enforcing_jwe(openssl::PLATFORM.pkcs8.as_bytes());
    for app in [
        stranger,
        other_id,
        app("HS512"),
        app("RS256"),
        app("HS256").enforcing_jti(),
        jwe.unwrap(),
    ] {
        let what = format!("{app:?}");
        let world = before(app, "").await;
        let refused = world.get("cl-n6-a").await;
        refused.is_problem(502, "credentials-refused");
        assert!(!refused.text().contains(SECRET), "{what}");
        assert_eq!(world.vendor.calls(), 1, "{what}");
    }
}
