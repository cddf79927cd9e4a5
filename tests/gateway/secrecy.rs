//! What the gateway knows and never tells: not in its log, its metrics, its status, its answers, nor to a debugger.

use contacts_gateway::clock::Clock;
use contacts_gateway::vendor::{Behaviour, Stall};
use http::{Method, StatusCode};

use crate::support::callers::caller_by;
use crate::support::connection::Connection;
use crate::support::process::{Serving, ask};
use crate::support::{ACCOUNT, Answer, SECRET, STREAM, World, eventually, path, path_of};

mod vendor;

/// Stands in every contact list's id here, so that it can be searched for.
const LIST: &str = "cl-n6-marked-3b1f";
/// Stands in bodies and fields of the vendor's.
const BODY: &str = "marked-body-9d27";
/// Stands in what callers send and should not.
const TOLD: &str = "marked-caller-51ce";

/// What the gateway knows its caller by.
const TOKEN: &str = "canary-token-4e0b7d91c2";

/// What it knows another by, who has little.
const POOR: &str = "canary-token-77b0c3f5a1";

/// Escape codes, ends of lines, and what looks like a log line.
const HOSTILE: &str = "\u{1b}[31m\u{7}\u{9b}marked-caller-51ce";

#[tokio::test]
async fn a_run_through_everything_that_can_go_wrong_tells_no_secret() {
    for format in ["json", "text"] {
        let mut run = Run::start(format).await;
        run.reads().await;
        run.failures().await;
        run.rights().await;
        run.hostile_requests().await;
        run.operations().await;
        run.end().await;
    }
}

#[tokio::test]
async fn nothing_that_runs_shows_a_secret_to_a_debugger() {
    let world = World::new().await;
    assert_eq!(world.get(LIST).await.status, StatusCode::OK);
    assert_eq!(world.get(LIST).await.status, StatusCode::OK);
    let shown = format!("{:?} {:#?}", world.gateway.parts, world.gateway.parts);
    for (secret, what) in [
        (SECRET, "the secret"),
        ("eyJ", "a token"),
        ("9990000000", "a phone number"),
    ] {
        assert!(!shown.contains(secret), "{what} in {shown}");
    }
}

/// The real program, everything it is asked, and all that it said.
struct Run {
    world: World,
    serving: Serving,
    /// What has to be searched: problems, metrics, statuses.
    told: Vec<(String, String)>,
    json: bool,
}

impl Run {
    async fn start(format: &str) -> Self {
        // The vendor goes by the machine's clock, as the program does.
        let world = World::with_vendor("", |vendor| {
            vendor.clock = Clock::system();
            vendor.limit.calls = 1000;
        })
        .await;
        let settings = format!(
            "[telemetry]\nlog = \"trace\"\nlog_format = {format:?}\n\
             [upstream]\ntimeout = \"300ms\"\nconnect_timeout = \"300ms\"\nmax_body = \"64KiB\"\n\
             [listen]\nmax_in_flight = 2\nheader_timeout = \"300ms\"\ndrain_for = \"50ms\"\n"
        ) + &caller_by(TOKEN, "known", "may_purge = true\nmay_refresh = true")
            + &caller_by(POOR, "poor", "requests_per_minute = 6");
        let serving = Serving::before(&world.vendor.url(), &settings).await;
        Self {
            world,
            serving,
            told: Vec::new(),
            json: format == "json",
        }
    }

    async fn get(&mut self, list: &str) -> Answer {
        let answer = self.ask(Method::GET, &path(list)).await;
        self.note(&format!("GET {list}"), &answer);
        answer
    }

    async fn ask(&self, method: Method, path: &str) -> Answer {
        self.ask_as(TOKEN, method, path).await
    }

    async fn ask_as(&self, token: &str, method: Method, path: &str) -> Answer {
        let url = format!("http://{}{path}", self.serving.callers);
        let bearer = format!("Bearer {token}");
        ask(method, &url, &[("authorization", &bearer)]).await
    }

    /// Keeps a problem for the search. The vendor's own answers are the caller's to have.
    fn note(&mut self, what: &str, answer: &Answer) {
        if answer.field("content-type") == "application/problem+json" {
            self.told.push((what.to_owned(), answer.text()));
        }
    }

    /// A miss, a hit, a list that is not there.
    async fn reads(&mut self) {
        for (list, status) in [
            (LIST, 200),
            (LIST, 200),
            (&*format!("cl-missing-{LIST}"), 404),
        ] {
            assert_eq!(self.get(list).await.status, status, "{list}");
        }
    }

    /// Everything that the vendor can do, each with a list of its own so that nothing is remembered.
    async fn failures(&mut self) {
        for (n, behaviour) in vendor::behaviours().into_iter().enumerate() {
            self.world.vendor.behave(behaviour);
            // An account each: one that failed a few times would be left alone.
            let path = path_of(STREAM, &format!("{LIST}-{n}"), &format!("{ACCOUNT}-{n}"));
            let answer = self.ask(Method::GET, &path).await;
            self.note(&path, &answer);
        }
        self.world.vendor.behave(Behaviour::default());

        // A refused signature, a stream without credentials, and more at once than the settings let in.
        let unknown = path_of("st-unknown", LIST, ACCOUNT);
        let unknown = self.ask(Method::GET, &unknown).await;
        self.note("an unknown stream", &unknown);
        self.world.vendor.behave(Behaviour {
            stall: Some(Stall::BeforeHead),
            ..Behaviour::default()
        });
        let list = |n| {
            path_of(
                STREAM,
                &format!("{LIST}-many-{n}"),
                &format!("{ACCOUNT}-many"),
            )
        };
        let lists: Vec<_> = (0..9).map(list).collect();
        let many = lists.iter().map(|list| self.ask(Method::GET, list));
        let many = futures_util::future::join_all(many).await;
        let overloaded = many
            .iter()
            .find(|answer| answer.text().contains("overloaded"));
        self.note("one too many", overloaded.unwrap());
        self.world.vendor.behave(Behaviour::default());
    }

    /// More than a caller's quota, what it may not do, and nobody who is known.
    async fn rights(&mut self) {
        for (token, method) in [
            (POOR, "GET"),
            (POOR, "GET"),
            (TOKEN, "PURGE"),
            (TOLD, "GET"),
        ] {
            let method = method.parse().unwrap();
            let answer = self.ask_as(token, method, &path(LIST)).await;
            self.note("with more or less right", &answer);
        }
    }

    /// What a caller may send who means no good.
    async fn hostile_requests(&mut self) {
        let good = path(LIST);
        let long = format!("{TOLD}{}", "x".repeat(3000));
        let encoded = format!("{TOLD}%0d%0a%1b%5b31m");
        for (target, fields) in [
            (good.clone() + "&" + &encoded + "=1", String::new()),
            (good.clone() + "&" + &long + "=1", String::new()),
            (good.clone() + "&accountId=" + TOLD, String::new()),
            (good.replace(LIST, &encoded), String::new()),
            (good.replace(STREAM, &long), String::new()),
            (format!("/{encoded}"), String::new()),
            (good.clone(), format!("x-request-id: {TOLD} {HOSTILE}\r\n")),
            (good.clone(), format!("accountid: {HOSTILE}\r\n")),
            (good.clone(), format!("iid: {HOSTILE}\r\n")),
            (
                good.clone(),
                format!("cache-control: max-age={TOLD}{HOSTILE}\r\n"),
            ),
            (
                good.clone(),
                format!("auth: eyJ{TOLD}\r\nauthorization: Bearer eyJ{TOLD}\r\ncookie: {TOLD}\r\n"),
            ),
            (good.clone(), format!("if-none-match: {TOLD}{HOSTILE}\r\n")),
            (good.clone(), format!("content-length: 16\r\n\r\n{TOLD}")),
            (good.clone() + HOSTILE, String::new()),
            (good.clone(), format!("{HOSTILE}: x\r\n")),
        ] {
            let mut caller = Connection::to(&self.serving.callers).await;
            let bytes = format!(
                "GET {target} HTTP/1.1\r\nhost: {TOLD}\r\nauthorization: Bearer {TOKEN}\r\n\
                 connection: close\r\n{fields}\r\n"
            );
            caller.send(&bytes).await;
            let answer = String::from_utf8(caller.rest().await).unwrap();
            assert!(answer.starts_with("HTTP/1.1 "), "{bytes:?}: {answer}");
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            if head.to_ascii_lowercase().contains("problem+json") {
                self.told.push((format!("{bytes:?}"), body.to_owned()));
            }
        }
        // No HTTP at all, and a head that never ends.
        for bytes in [
            HOSTILE.as_bytes(),
            b"\x16\x03\x01\x02\x00\x01\x00",
            b"GET /marked-caller-51ce",
        ] {
            let mut caller = Connection::to(&self.serving.callers).await;
            caller.send(bytes).await;
            caller.rest().await;
        }
    }

    async fn operations(&mut self) {
        let purged = self.ask("PURGE".parse().unwrap(), &path(LIST)).await;
        assert_eq!(purged.status, StatusCode::OK);
        let wrong_method = self.ask(Method::POST, &path(LIST)).await;
        self.note("POST", &wrong_method);
        self.get(LIST).await;
        for (method, path) in [
            (
                Method::DELETE,
                format!("/cache?stream={STREAM}&list={LIST}&account={ACCOUNT}"),
            ),
            (Method::DELETE, format!("/cache?stream=%1b&{TOLD}=1")),
            (Method::GET, format!("/{TOLD}")),
            (Method::GET, "/ready".into()),
            (Method::GET, "/status".into()),
            (Method::GET, "/metrics".into()),
        ] {
            let answer = self.serving.operate(method, &path).await;
            self.told.push((path, answer.text()));
        }
    }

    /// A drain that cuts somebody off, and then the search through all of it.
    async fn end(mut self) {
        self.world.vendor.behave(Behaviour {
            stall: Some(Stall::BeforeHead),
            ..Behaviour::default()
        });
        let calls = self.world.vendor.calls();
        let mut caller = Connection::to(&self.serving.callers).await;
        caller
            .send(format!(
                "GET {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n",
                path(&format!("{LIST}-last"))
            ))
            .await;
        eventually("the call has begun", async || {
            (self.world.vendor.calls() > calls).then_some(())
        })
        .await;
        self.serving.program.signal("TERM");
        let ended = self.serving.program.ended().await;
        for event in [
            "a call to the vendor failed",
            "called the vendor",
            "a request failed",
            "refused a request",
            "ended in failure",
            "draining",
        ] {
            assert!(ended.err.contains(event), "{event} is logged");
        }
        for line in ended.err.lines().filter(|_| self.json) {
            let json = serde_json::from_str::<serde_json::Value>(line);
            assert!(json.is_ok(), "{line}");
        }
        for name in [
            "bad-request",
            "caller-unknown",
            "quota-spent",
            "upstream-garbled",
            "upstream-failed",
            "upstream-timed-out",
            "upstream-refused",
            "credentials-refused",
            "stream-unknown",
            "overloaded",
            "method-not-allowed",
        ] {
            assert!(
                self.told.iter().any(|(_, text)| text.contains(name)),
                "{name} was among the problems"
            );
        }
        let own: [(&str, String); 2] = [("stdout", ended.out), ("stderr", ended.err)];
        let never = [
            SECRET,
            TOKEN,
            POOR,
            "eyJ",
            "9990000000",
            "phoneNumber",
            BODY,
            "Contacts retrieved",
            "exceeded",
        ];
        let never_logged = [ACCOUNT, LIST, TOLD];
        for (place, text) in &own {
            for secret in never.iter().chain(&never_logged) {
                let found = text.lines().find(|line| line.contains(secret));
                assert_eq!(found, None, "{secret} on {place}");
            }
        }
        let told = self.told.iter().map(|(place, text)| (place.as_str(), text));
        for (place, text) in told.clone() {
            for secret in never {
                assert!(!text.contains(secret), "{secret} in {place}: {text}");
            }
        }
        for (place, text) in told.chain(own.iter().map(|(place, text)| (*place, text))) {
            let control = |c: char| c.is_control() && c != '\n';
            let found = text.lines().find(|line| line.contains(control));
            assert_eq!(found, None, "a control character in {place}");
        }
    }
}
