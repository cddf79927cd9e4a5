//! Keys for tests. None of them is used anywhere else; those that can be made in a test are.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// An RSA key of 2048 bits, made once.
pub(crate) static RSA: LazyLock<PrivateDecryptingKey> =
    LazyLock::new(|| PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap());

/// The key's `PRIVATE KEY`.
pub(crate) fn pkcs8() -> String {
    pem("PRIVATE KEY", RSA.as_der().unwrap().as_ref())
}

/// The key's `RSA PRIVATE KEY`: PKCS#8 of a key of 2048 bits is 26 bytes and then this.
pub(crate) fn pkcs1() -> String {
    pem("RSA PRIVATE KEY", &RSA.as_der().unwrap().as_ref()[26..])
}

/// The key's `PUBLIC KEY`.
pub(crate) fn public() -> String {
    pem("PUBLIC KEY", RSA.public_key().as_der().unwrap().as_ref())
}

/// The key's `RSA PUBLIC KEY`, 24 bytes into the other form.
pub(crate) fn public_pkcs1() -> String {
    let public = RSA.public_key().as_der().unwrap();
    pem("RSA PUBLIC KEY", &public.as_ref()[24..])
}

/// A folder of a test's own, gone with it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("keys-{}-{next}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn holding(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let file = self.0.join(name);
        std::fs::write(&file, text).unwrap();
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = (0..body.len())
        .step_by(64)
        .map(|at| &body[at..body.len().min(at + 64)])
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// 1024 bits, too few: PKCS#1.
pub(crate) const SMALL: &str = "\
-----BEGIN RSA PRIVATE KEY-----
MIICXQIBAAKBgQDGx2+eE6Eklyorpwhl1ETLnrdsLj3JDqVpsufCdhej9Egp5No9
c5Lbc/rzSNnakUxASgYjHSV5aXs/BqiPMynBxs2EVpAl4T+ACcILgb//ggCoxMCo
3wOCd8BImxRhDG2YGtPddPplBOh49IIdkgPimFc6buLBz2z1sJG8pk/k/wIDAQAB
AoGBAMM3Fc0e5gCzXDzmm361yqJWSzi46QDNm3GEu8rkgy8HNt+92v7CxBU1f9zx
TNI0I7h3ejN96lGkX99zwJJx4qyp5ijWTUtof8zVXsdM5b+uRgg91bP38M/mZrQQ
zZOVWnNXX7kQDzNh1YYDCOSvGa0JEdvyyg2XxGb4h6ZHiTLxAkEA7IxQDNUljV8M
NZEubYjF7ccflKR6fYjMnKI/mMQwKmC55tILZHeAa1erSNfNnZA0wrGrvGpHXrh+
6PBx8qXi3QJBANcgB2l4bU/g6JZ4M48h3QnRF7POLuIj9jDxBBY753ZrPk7qJxak
wG6rLMMxTUo8ua8+jU1tF9i9kcybf1HHo4sCQDz4PXnRRoiVwxPbg9f/tOSAuocZ
jejlZbfJqhK6HqANplz0LrOKibMhOajg1sKR9Mdp/BXoXtTvQObRcs1ULJECQDxG
yizgRGi8UQ9QMMorJ98HSkfkPri4cNP3xDhiopFIrVW5QCiVEyIvLkSm/MwPRcv3
j+og5iyhuUeGTl9gu88CQQDY2EWRqnEPHkUW5o+yWeksI2+rm/kiBzzvnTTUnpVV
JI5rnUitDV3JwyY9N98wjsGPZca9H21tjH74bwy5Z+al
-----END RSA PRIVATE KEY-----
";

/// The same as PKCS#8.
pub(crate) const SMALL_PKCS8: &str = "\
-----BEGIN PRIVATE KEY-----
MIICdwIBADANBgkqhkiG9w0BAQEFAASCAmEwggJdAgEAAoGBAMbHb54ToSSXKiun
CGXURMuet2wuPckOpWmy58J2F6P0SCnk2j1zkttz+vNI2dqRTEBKBiMdJXlpez8G
qI8zKcHGzYRWkCXhP4AJwguBv/+CAKjEwKjfA4J3wEibFGEMbZga0910+mUE6Hj0
gh2SA+KYVzpu4sHPbPWwkbymT+T/AgMBAAECgYEAwzcVzR7mALNcPOabfrXKolZL
OLjpAM2bcYS7yuSDLwc2373a/sLEFTV/3PFM0jQjuHd6M33qUaRf33PAknHirKnm
KNZNS2h/zNVex0zlv65GCD3Vs/fwz+ZmtBDNk5Vac1dfuRAPM2HVhgMI5K8ZrQkR
2/LKDZfEZviHpkeJMvECQQDsjFAM1SWNXww1kS5tiMXtxx+UpHp9iMycoj+YxDAq
YLnm0gtkd4BrV6tI182dkDTCsau8akdeuH7o8HHypeLdAkEA1yAHaXhtT+Dolngz
jyHdCdEXs84u4iP2MPEEFjvndms+TuonFqTAbqsswzFNSjy5rz6NTW0X2L2RzJt/
UcejiwJAPPg9edFGiJXDE9uD1/+05IC6hxmN6OVlt8mqEroeoA2mXPQus4qJsyE5
qODWwpH0x2n8Fehe1O9A5tFyzVQskQJAPEbKLOBEaLxRD1Awyisn3wdKR+Q+uLhw
0/fEOGKikUitVblAKJUTIi8uRKb8zA9Fy/eP6iDmLKG5R4ZOX2C7zwJBANjYRZGq
cQ8eRRbmj7JZ6Swjb6ub+SIHPO+dNNSelVUkjmudSK0NXcnDJj033zCOwY9lxr0f
bW2MfvhvDLln5qU=
-----END PRIVATE KEY-----
";

/// Its public half.
pub(crate) const SMALL_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDGx2+eE6Eklyorpwhl1ETLnrds
Lj3JDqVpsufCdhej9Egp5No9c5Lbc/rzSNnakUxASgYjHSV5aXs/BqiPMynBxs2E
VpAl4T+ACcILgb//ggCoxMCo3wOCd8BImxRhDG2YGtPddPplBOh49IIdkgPimFc6
buLBz2z1sJG8pk/k/wIDAQAB
-----END PUBLIC KEY-----
";

/// P-256, SEC 1.
pub(crate) const EC: &str = "\
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEINzTdk3GsIFwci2errqOqIYW7qT4OZ8QypgIaBAX7v9HoAoGCCqGSM49
AwEHoUQDQgAEiCHSa4C2gMLZGlVAOPvWWPO5kjYXa2M2qMRhnN9SQ/MiKoUJJ7ne
ODZpHMFUnT9Se7f8CfrFkWBRbqKPK5NV0Q==
-----END EC PRIVATE KEY-----
";

/// The same as PKCS#8.
pub(crate) const EC_PKCS8: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg3NN2TcawgXByLZ6u
uo6ohhbupPg5nxDKmAhoEBfu/0ehRANCAASIIdJrgLaAwtkaVUA4+9ZY87mSNhdr
YzaoxGGc31JD8yIqhQknud44NmkcwVSdP1J7t/wJ+sWRYFFuoo8rk1XR
-----END PRIVATE KEY-----
";

/// Its public half.
pub(crate) const EC_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEiCHSa4C2gMLZGlVAOPvWWPO5kjYX
a2M2qMRhnN9SQ/MiKoUJJ7neODZpHMFUnT9Se7f8CfrFkWBRbqKPK5NV0Q==
-----END PUBLIC KEY-----
";

/// Ed25519.
pub(crate) const ED25519: &str = "\
-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIDA1j0nypHjqGFmKWSvzGRCDs1kDbFSJdkMs1XDvkQ+o
-----END PRIVATE KEY-----
";

/// Encrypted, PKCS#8.
pub(crate) const ENCRYPTED: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAjubCfmslmi0AICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEECgZ+3WWRFzCd3zjUdk1tgQEgZC+
f+ZSiQunOOZrZupZTXlIQVPbXCeykFij8WLwNk/JVBd2r7urMh0DJRhFB8/KvYv1
dJoQWY/o8WreACpZKcqSb08S7P2OibDuLxCDfhDQMrZ+Ycotp2MvoXgYbVgK4s3c
OLYpTX7lcRZtvOhm/0ZrP3y0n7YJQLviLmFGJQs2ce9583QcD3q3sNtbv1Nx+Ow=
-----END ENCRYPTED PRIVATE KEY-----
";

/// Encrypted, the older way.
pub(crate) const ENCRYPTED_OLD: &str = "\
-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,CF46241186309424C6DB7D8A1BB2964A

9ufkfDPI4Sc/4uKva/CGw3+ly9eM+Aht4xzAY5QCic7NfGOjgOfzD1KauFlGdXXh
QOj5giLboqwtuyxbdP1QPEJTvq9DdtyHxVsLRlCsFL5zrmqfhupNPEGGT7a+K/sT
uHVCkmHWHcME3ofBwea70DplCVgyOQnn9/FdcCwB3WQ=
-----END EC PRIVATE KEY-----
";

/// A certificate.
pub(crate) const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBcjCCARmgAwIBAgIUSeeu2xB9LtGDvCFUA8aOhChfeXUwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAeFw0yNjExMjQxNzE4MjJaFw0zNjExMjExNzE4MjJa
MA8xDTALBgNVBAMMBHRlc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASIIdJr
gLaAwtkaVUA4+9ZY87mSNhdrYzaoxGGc31JD8yIqhQknud44NmkcwVSdP1J7t/wJ
+sWRYFFuoo8rk1XRo1MwUTAdBgNVHQ4EFgQUIRzkcksoUCiWpWCd+3CkCqQMwTcw
HwYDVR0jBBgwFoAUIRzkcksoUCiWpWCd+3CkCqQMwTcwDwYDVR0TAQH/BAUwAwEB
/zAKBggqhkjOPQQDAgNHADBEAiBS1IOXj6xhbTYVHnih0XezQbdGaeLVPtmYmKqB
H5efOAIgKCF/n7V7UbbEp+irlxdipzwLw9XRMLJX4BNmMsvHDcQ=
-----END CERTIFICATE-----
";
