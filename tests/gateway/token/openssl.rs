//! The `openssl` command: it makes keys, checks signatures and opens what is encrypted, with code that is not ours.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::support::Folder;

/// An RSA key in every form.
pub(super) struct Pair {
    pub(super) pkcs1: String,
    pub(super) pkcs8: String,
    pub(super) public: String,
}

/// The app's.
pub(super) static RSA: LazyLock<Pair> = LazyLock::new(|| Pair::of_bits(2048));
/// The platform's, for apps that enforce JWE.
pub(super) static PLATFORM: LazyLock<Pair> = LazyLock::new(|| Pair::of_bits(2048));

impl Pair {
    pub(super) fn of_bits(bits: usize) -> Self {
        let pkcs1 = text(&["genrsa", "-traditional", &bits.to_string()], b"");
        Self {
            pkcs8: text(&["pkcs8", "-topk8", "-nocrypt"], pkcs1.as_bytes()),
            public: text(&["rsa", "-pubout"], pkcs1.as_bytes()),
            pkcs1,
        }
    }
}

/// What it prints, given this to read.
pub(super) fn text(arguments: &[&str], input: &[u8]) -> String {
    String::from_utf8(run(arguments, input).expect("openssl succeeds")).unwrap()
}

pub(super) fn hmac(digest: &str, secret: &str, message: &str) -> Vec<u8> {
    let key = format!("hexkey:{}", hex(secret.as_bytes()));
    let arguments = ["dgst", digest, "-binary", "-mac", "HMAC", "-macopt", &key];
    run(&arguments, message.as_bytes()).unwrap()
}

pub(super) fn verifies(digest: &str, public: &str, message: &str, signature: &[u8]) -> bool {
    let folder = Folder::new();
    let key = folder.put("public", public);
    let seal = folder.path().join("signature");
    std::fs::write(&seal, signature).unwrap();
    let (key, seal) = (key.to_str().unwrap(), seal.to_str().unwrap());
    let arguments = ["dgst", digest, "-verify", key, "-signature", seal];
    run(&arguments, message.as_bytes()).is_some()
}

/// The header and the text of a compact JWE of RSA-OAEP-256 and A256GCM. That nobody changed it the stand-in checks:
/// the command knows no GCM, but its text is that of counter mode whose counter begins at 2.
pub(super) fn opened(token: &str, platform: &Pair) -> (Vec<u8>, String) {
    let parts: Vec<_> = token
        .split('.')
        .map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap())
        .collect();
    let [header, wrapped, nonce, sealed, tag] = &parts[..] else {
        panic!("not five parts: {token}");
    };
    assert_eq!((nonce.len(), tag.len()), (12, 16));
    let folder = Folder::new();
    let key = folder.put("private", &platform.pkcs8);
    let unwrap = [
        "pkeyutl",
        "-decrypt",
        "-inkey",
        key.to_str().unwrap(),
        "-pkeyopt",
        "rsa_padding_mode:oaep",
        "-pkeyopt",
        "rsa_oaep_md:sha256",
        "-pkeyopt",
        "rsa_mgf1_md:sha256",
    ];
    let content_key = run(&unwrap, wrapped).expect("the platform's key opens it");
    assert_eq!(content_key.len(), 32);
    let (content_key, counter) = (hex(&content_key), hex(nonce) + "00000002");
    let open = [
        "enc",
        "-d",
        "-aes-256-ctr",
        "-K",
        &content_key,
        "-iv",
        &counter,
    ];
    let inside = String::from_utf8(run(&open, sealed).unwrap()).unwrap();
    (header.clone(), inside)
}

/// What the command writes; nothing if it fails.
fn run(arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("there is an openssl command");
    // It may end without reading all of it.
    let _ = command.stdin.take().unwrap().write_all(input);
    let ended = command.wait_with_output().unwrap();
    ended.status.success().then_some(ended.stdout)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
