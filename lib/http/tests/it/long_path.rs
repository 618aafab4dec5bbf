//! Much data over a path on which each answer takes long.

use std::{collections::VecDeque, time::Duration};

use mesh_http::{
    event::{Role, StreamId},
    head::Head,
    limits::Limits,
};

use super::side::{Seen, Side};

/// What passes in a millisecond: 5 Gbit/s, several times what windows allow.
const BURST: usize = 625_000;
/// Milliseconds from what the client says until the server hears of it.
const AWAY: usize = 100;
const WINDOW: u32 = 16 << 20;

/// A server that always has something to send, and a client that takes it at once.
struct Download {
    client: Side,
    server: Side,
    stream: StreamId,
    window: u32,
    /// What has come since the window is as wide as that.
    consumed: usize,
    /// What the client said, the oldest first, by the millisecond.
    under_way: VecDeque<Vec<u8>>,
}

impl Download {
    fn new() -> Self {
        let mut client = Side::new(true, Role::Client, Limits::default());
        let mut server = Side::server(true);
        let asks = Head::request("GET", "web", "/").unwrap();
        let stream = client.core.open(client.now, &asks, true).unwrap();
        server.feed(&client.take_all());
        let answer = Head::response(200).unwrap();
        server
            .core
            .send_head(server.now, stream, &answer, false)
            .unwrap();
        Self {
            client,
            server,
            stream,
            window: 65_536,
            consumed: 0,
            under_way: VecDeque::new(),
        }
    }

    /// What arrives within a millisecond.
    fn tick(&mut self) -> usize {
        let (client, server, stream) = (&mut self.client, &mut self.server, self.stream);
        client.now += Duration::from_millis(1);
        server.now = client.now;
        self.under_way.push_back(client.take_all());
        if self.under_way.len() > AWAY {
            server.feed(&self.under_way.pop_front().unwrap());
        }
        let mut arrived = 0;
        while arrived < BURST {
            // It can always send.
            let _ = server
                .core
                .send_data(server.now, stream, &[7; 65_536], false);
            let sent = server.take_all();
            if sent.is_empty() {
                break;
            }
            for seen in client.feed(&sent) {
                let Seen::Data(_, bytes, _) = seen else {
                    continue;
                };
                arrived += bytes.len();
                client.core.consume(client.now, stream, bytes.len());
                self.consumed += bytes.len();
                if self.consumed >= self.window as usize && self.window < WINDOW {
                    (self.window, self.consumed) = (self.window * 2, 0);
                    client.core.grow_connection_window(self.window * 2);
                    client.core.grow_window(stream, self.window);
                }
            }
        }
        arrived
    }
}

/// RFC 9113 §5.2.2 wants it: less under way than the path holds leaves it idle.
#[test]
fn h15_a_wide_window_is_almost_all_under_way() {
    let mut download = Download::new();
    while download.window < WINDOW {
        download.tick();
    }
    for _ in 0..10 * AWAY {
        download.tick();
    }
    let arrived: usize = (0..10 * AWAY).map(|_| download.tick()).sum();
    let share = arrived as f64 / (10.0 * f64::from(WINDOW));
    // Ten round trips, each of which can be an eighth short, and as long as its burst more.
    assert!((0.7..=1.0).contains(&share), "{share}");
}
