//! A name server on loopback that says what the test wants to hear.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use tokio::{net::UdpSocket, task::AbortHandle};

/// What the server answers, whatever name is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// These addresses, for so many seconds.
    Addresses(Vec<Ipv4Addr>, u32),
    /// There is no such name.
    NxDomain,
    /// Something is wrong with the server.
    ServFail,
    /// Nothing.
    Silence,
}

/// The server; it ends when it is dropped.
pub struct TestDns {
    /// Where it listens, over UDP.
    pub address: SocketAddr,
    says: Arc<Mutex<Says>>,
    serving: AbortHandle,
}

impl TestDns {
    /// A server that says this.
    pub async fn saying(says: Says) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let says = Arc::new(Mutex::new(says));
        let serving = tokio::spawn(serve(socket, says.clone())).abort_handle();
        Self {
            address,
            says,
            serving,
        }
    }

    /// From now on it says this.
    pub fn say(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }
}

impl Drop for TestDns {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(socket: UdpSocket, says: Arc<Mutex<Says>>) {
    let mut query = [0; 512];
    loop {
        let (length, client) = socket.recv_from(&mut query).await.unwrap();
        let says = says.lock().unwrap().clone();
        if let Some(answer) = answer(&query[..length], &says) {
            socket.send_to(&answer, client).await.unwrap();
        }
    }
}

/// The answer to a query with one question (RFC 1035 §4).
fn answer(query: &[u8], says: &Says) -> Option<Vec<u8>> {
    const HEAD: usize = 12;
    const ADDRESS: [u8; 2] = [0, 1];
    let name = query[HEAD..].iter().position(|byte| *byte == 0)?;
    let question = &query[HEAD..HEAD + name + 5];
    let is_for_address = question[name + 1..name + 3] == ADDRESS;
    let (code, addresses, ttl) = match says {
        Says::Addresses(addresses, ttl) if is_for_address => (0, &addresses[..], *ttl),
        Says::Addresses(_, ttl) => (0, &[][..], *ttl),
        Says::NxDomain => (3, &[][..], 0),
        Says::ServFail => (2, &[][..], 0),
        Says::Silence => return None,
    };
    let count = u8::try_from(addresses.len()).unwrap();
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    answer.extend(question);
    for address in addresses {
        // The name of the question, of type A and class IN.
        answer.extend([0xc0, 0x0c, 0, 1, 0, 1]);
        answer.extend(ttl.to_be_bytes());
        answer.extend([0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}
