//! Places on the WAN besides clusters, and Services with several addresses.

use mesh_lab::machine::Machine;

use super::application::{EAST, WEST, application, load_balancer};
use crate::shared::{Shared, eventually, lab_command, testapp};

const TWO_ADDRESSES: &str = r#"
apiVersion: v1
kind: Service
metadata:
  name: twice
  namespace: lab
  annotations: {lab.mesh.dev/addresses: "2"}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports: [{port: 4143, targetPort: 8080}]
"#;

fn get_from(machine: &Machine, url: &str) -> Result<String, String> {
    let mut command = machine.command(&testapp().display().to_string());
    let output = command
        .args(["get", url, "--timeout", "3s"])
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(said)
    } else {
        Err(said)
    }
}

#[test]
fn a_machine_behind_a_nat_calls_out_and_nobody_calls_in() {
    let shared = application();
    let machine = Machine::start(shared.lab.paths(), "laptop").unwrap();
    // A second start finds the first.
    Machine::start(shared.lab.paths(), "laptop").unwrap();
    let url = format!("http://{}:4143", load_balancer(&shared, EAST));
    let answer = get_from(&machine, &url).unwrap();
    assert!(answer.contains(r#""cluster":"east""#), "{answer}");
    // Only what is open between clusters is open to it.
    let closed = format!("http://{}:8090", load_balancer(&shared, EAST));
    assert!(get_from(&machine, &closed).is_err());
    assert!(get_from(&machine, "http://10.99.2.10:6443").is_err());

    // It has no address that others know, and its NAT forwards nothing.
    let server = Server::start(&machine);
    assert!(get_from(&machine, "http://127.0.0.1:4143").is_ok());
    for address in ["192.168.77.2", "10.99.200.2"] {
        let refused = from_west(&shared, &format!("http://{address}:4143"));
        assert!(refused.is_err(), "{address}: {refused:?}");
    }
    drop(server);
}

/// The application's server on a machine.
struct Server(std::process::Child);

impl Server {
    fn start(machine: &Machine) -> Self {
        let mut command = machine.command(&testapp().display().to_string());
        let child = command
            .args(["serve", "--http", "0.0.0.0:4143"])
            .spawn()
            .expect("testapp starts");
        let server = Self(child);
        let start = std::time::Instant::now();
        while get_from(machine, "http://127.0.0.1:4143").is_err() {
            assert!(
                start.elapsed() < crate::shared::PATIENCE,
                "it does not serve"
            );
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn from_west(shared: &Shared, url: &str) -> Result<String, String> {
    super::try_get(shared, WEST, url)
}

#[test]
fn the_command_runs_on_a_machine() {
    let shared = application();
    drop(shared);
    let said = lab_command(&["machine", "laptop", "--", "ip", "-br", "address"]).unwrap();
    assert!(said.contains("192.168.77.2/24"), "{said}");
    let refused = lab_command(&["machine", "west"]).unwrap_err();
    assert!(refused.contains("is a cluster"), "{refused}");
}

#[test]
fn a_service_has_two_addresses_and_both_answer() {
    let shared = application();
    let east = shared.cluster(EAST);
    east.apply(TWO_ADDRESSES).unwrap();
    let path = "-o=jsonpath={.status.loadBalancer.ingress[*].ip}";
    let words = ["-n", "lab", "get", "service", "twice", path];
    let addresses = || -> Vec<String> {
        let text = east.kubectl(&words).unwrap();
        text.split_whitespace().map(str::to_owned).collect()
    };
    eventually("it has two addresses", east, || addresses().len() == 2);
    for address in addresses() {
        let url = format!("http://{address}:4143");
        eventually(&url, east, || from_west(&shared, &url).is_ok());
    }
    east.kubectl(&["-n", "lab", "delete", "service", "twice"])
        .unwrap();
}
