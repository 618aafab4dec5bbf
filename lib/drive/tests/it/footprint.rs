//! What a connection and a request cost, in bytes and in allocations.

use mesh_drive::conduit::{self, Version};
use tokio::net::{TcpListener, TcpStream};

use super::place::{VERSIONS, answer, body, client, echo, get, limits, origin, proxy, soon};

/// Of the driver's future.
const DRIVER: usize = 200;
/// Of all allocations of client, proxy and origin together for one request.
const ALLOCATIONS: u64 = 60;

#[tokio::test]
async fn h18_a_driver_is_small() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let socket = TcpStream::connect(address).await.unwrap();
    let (_, life) = conduit::serve(socket, Version::Http1, limits(), drop);
    assert!(size_of_val(&life) <= DRIVER, "{}", size_of_val(&life));
}

#[test]
fn a_warm_request_allocates_little() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for version in VERSIONS {
        let conduit = runtime.block_on(async {
            let origin = origin(version, echo).await;
            let proxy = proxy(version, version, origin).await;
            client(proxy, version).await
        });
        let ask = || {
            runtime.block_on(async {
                let exchange = conduit.open(&get("/"), true).unwrap();
                assert!(soon(answer(&exchange)).await.is_ok());
                assert!(soon(body(&exchange)).await.is_ok());
            });
        };
        (0..20).for_each(|_| ask());
        let counted = allocation_counter::measure(|| (0..100).for_each(|_| ask()));
        let each = counted.count_total / 100;
        println!("{version:?}: {each} allocations for a request");
        assert!(each <= ALLOCATIONS, "{version:?}: {each}");
    }
}
