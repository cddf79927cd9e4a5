//! A gateway that follows the files its settings are in, and somebody who changes them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use contacts_gateway::clock::Clock;
use contacts_gateway::vendor::{self, App, Vendor};
use http::Method;

use super::{CLIENT_ID, Folder, Running, SECRET, STREAM, World, eventually};

/// A world whose gateway follows a folder of files.
pub(crate) struct Living {
    pub(crate) world: World,
    pub(crate) files: Files,
}

/// The files: `gateway.toml`, and `client_secret` with [`SECRET`] in it to begin with.
pub(crate) struct Files(Folder);

impl Living {
    /// With these settings (TOML) over the defaults.
    pub(crate) async fn with(settings: &str) -> Self {
        Self::with_vendor(settings, |_, _| {}).await
    }

    /// With a vendor that is set up differently, and further files.
    pub(crate) async fn with_vendor(
        settings: &str,
        change: impl FnOnce(&mut vendor::Settings, &Files),
    ) -> Self {
        let files = Files::new();
        let (clock, hand) = Clock::by_hand();
        let mut vendor = vendor::Settings {
            apps: vec![app(SECRET)],
            clock: clock.clone(),
            ..vendor::Settings::default()
        };
        change(&mut vendor, &files);
        files.settings(settings);
        let vendor = Vendor::start(vendor).unwrap();
        let file = files.path("gateway.toml");
        let gateway = Running::following(&vendor.url(), &file, clock).await;
        let world = World {
            vendor,
            gateway,
            hand,
        };
        Self { world, files }
    }

    /// Puts other settings in place, and waits until they are in use.
    pub(crate) async fn settings(&self, settings: &str) {
        self.changing(|files| files.settings(settings)).await;
    }

    /// Puts another secret in place, and waits until it is in use.
    pub(crate) async fn secret(&self, secret: &str) {
        self.changing(|files| files.put("client_secret", secret))
            .await;
    }

    /// Changes files, and waits until what is in them is in use.
    pub(crate) async fn changing(&self, change: impl FnOnce(&Files)) {
        let before = self.reloads("ok").await;
        change(&self.files);
        self.reloaded("ok", before).await;
    }

    /// Changes files so that they cannot be used, and waits until that is known.
    pub(crate) async fn failing(&self, change: impl FnOnce(&Files)) {
        let before = self.reloads("failed").await;
        change(&self.files);
        self.reloaded("failed", before).await;
    }

    /// How often files were read again with this outcome.
    pub(crate) async fn reloads(&self, outcome: &str) -> f64 {
        let series = format!("contacts_gateway_config_reloads_total{{outcome=\"{outcome}\"}}");
        self.world.gateway.metric(&series).await
    }

    async fn reloaded(&self, outcome: &str, before: f64) {
        eventually(&format!("a reload is {outcome}"), async || {
            (self.reloads(outcome).await > before).then_some(())
        })
        .await;
    }

    /// What `/status` says of the settings.
    pub(crate) async fn status(&self) -> serde_json::Value {
        let status = self.world.gateway.operate(Method::GET, "/status").await;
        status.json()["settings"].clone()
    }
}

/// The app that the gateway speaks for, with this secret.
pub(crate) fn app(secret: &str) -> App {
    App::hs256(STREAM.parse().unwrap(), CLIENT_ID, secret.as_bytes())
}

impl Files {
    pub(crate) fn new() -> Self {
        let files = Self(Folder::new());
        files.put("client_secret", SECRET);
        files
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.0
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a file in place as a whole.
    pub(crate) fn put(&self, name: &str, text: &str) {
        let whole = self.0.put("to-be-renamed", text);
        fs::rename(whole, self.path(name)).unwrap();
    }

    /// Puts these settings in place, and as many calls and the one app where they say nothing of those. `FOLDER` in them
    /// is where the files are.
    pub(crate) fn settings(&self, settings: &str) {
        let settings = settings.replace("FOLDER", self.0.path().to_str().unwrap());
        let whole = whole(&settings, &self.path("client_secret"));
        self.put("gateway.toml", &whole);
    }
}

/// Settings with as many calls as one likes and the one app, where they say nothing of those.
pub(crate) fn whole(settings: &str, secret: &Path) -> String {
    let plenty = match settings.contains("[allowance]") {
        true => "",
        false => "\n[allowance]\ncalls = 3000\n",
    };
    let app = match settings.contains("[[credentials]]") {
        true => String::new(),
        false => format!(
            "\n[[credentials]]\nstream = {STREAM:?}\nclient_id = {CLIENT_ID:?}\nsecret_file = {secret:?}\n"
        ),
    };
    format!("{settings}{plenty}{app}")
}

/// A folder as Kubernetes mounts it: each file a link into the folder `..data`, which is a link too, and turned.
pub(crate) struct Mounted {
    folder: PathBuf,
    turns: u32,
}

impl Mounted {
    pub(crate) fn new(folder: PathBuf, files: &[(&str, String)]) -> Self {
        fs::create_dir(&folder).unwrap();
        let mut mounted = Self { folder, turns: 0 };
        mounted.turn(files);
        for (name, _) in files {
            let data = Path::new("..data").join(name);
            symlink(data, mounted.folder.join(name)).unwrap();
        }
        mounted
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// All files at once.
    pub(crate) fn turn(&mut self, files: &[(&str, String)]) {
        let before = format!("..of{}", self.turns);
        self.turns += 1;
        let now = format!("..of{}", self.turns);
        fs::create_dir(self.folder.join(&now)).unwrap();
        for (name, text) in files {
            fs::write(self.folder.join(&now).join(name), text).unwrap();
        }
        symlink(&now, self.folder.join("..data_tmp")).unwrap();
        fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data")).unwrap();
        let _ = fs::remove_dir_all(self.folder.join(before));
    }
}
