//! Over a real Redis.

use futures_util::future::join_all;
use futures_util::poll;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::*;
use crate::fleet::test_store::Store;

fn link(port: u16, timeout: Duration) -> Link {
    let dial = Dial {
        address: format!("redis://127.0.0.1:{port}").parse().unwrap(),
        username: String::new(),
        password: None,
        roots: Vec::new(),
        limit: Duration::from_secs(10),
    };
    Link::new(dial, timeout, Metrics::new().unwrap())
}

async fn connect(link: &Link) -> (u64, UnboundedReceiver<PushInfo>) {
    let (wire, pushes) = link.connect().await.unwrap();
    (link.open(wire), pushes)
}

/// Stands before a store, for one connection: tells when channels are asked for, and has that wait for its word.
struct Gate {
    port: u16,
    asked: oneshot::Receiver<()>,
    go_on: oneshot::Sender<()>,
}

impl Gate {
    async fn before(store: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let ((tell, asked), (go_on, goes_on)) = (oneshot::channel(), oneshot::channel());
        let passing = async move {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(("127.0.0.1", store)).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let questions = async {
                let (mut some, mut waits) = ([0; 4_096], Some((tell, goes_on)));
                while let Ok(read @ 1..) = from_client.read(&mut some).await {
                    let subscribes = some[..read].windows(9).any(|word| word == b"SUBSCRIBE");
                    if let Some((tell, goes_on)) = waits.take_if(|_| subscribes) {
                        tell.send(()).unwrap();
                        goes_on.await.unwrap();
                    }
                    to_server.write_all(&some[..read]).await.unwrap();
                }
            };
            tokio::join!(questions, copy(&mut from_server, &mut to_client))
        };
        tokio_util::task::TaskTracker::new().spawn(passing);
        Self { port, asked, go_on }
    }
}

#[tokio::test]
async fn a_channel_that_is_wanted_while_a_connection_is_made_is_asked_for_over_it() {
    let Some(store) = Store::start() else { return };
    let gate = Gate::before(store.port).await;
    let link = link(gate.port, Duration::from_secs(10));
    assert_eq!(link.listen("first".into()).await, Err(Away));
    let (connected, ()) = tokio::join!(connect(&link), async {
        gate.asked.await.unwrap();
        assert_eq!(link.listen("second".into()).await, Err(Away));
        gate.go_on.send(()).unwrap();
    });
    assert_eq!(link.listen("second".into()).await, Ok(()));
    for channel in ["first", "second"] {
        let said = cmd("PUBLISH").arg(channel).arg("word").to_owned();
        let heard_by = link.send("publish", channel, &said).await;
        assert_eq!(heard_by, Ok(Value::Int(1)), "{channel}");
    }
    drop(connected);
}

#[tokio::test]
async fn what_comes_too_late_over_a_connection_says_nothing_of_the_next_one() {
    let Some(store) = Store::start() else { return };
    let link = link(store.port, Duration::from_millis(200));
    let (first, _pushes) = connect(&link).await;
    // It is never answered.
    let question = cmd("BLPOP").arg("nothing").arg(0).to_owned();
    let asked = (0..LATE).map(|_| Box::pin(link.send("blpop", "nothing", &question)));
    let mut asked: Vec<_> = asked.collect();
    for question in &mut asked {
        assert!(poll!(question).is_pending());
    }
    link.close();
    let (second, _pushes) = connect(&link).await;
    assert_eq!(second, first + 1);
    for answer in join_all(asked).await {
        assert_eq!(answer, Err(Away));
    }
    assert_eq!(link.number(), Some(second), "it is of use");
}
