//! redis: a protocol whose client speaks first, on a port that is declared and on
//! one that is not.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use mesh_core::destination::Protocol;
use mesh_pair::namespace::Side;

use crate::{
    content::content,
    messages::equal,
    place::{Place, declared, detected, server},
    report::{Group, Report},
};

const PORT: u16 = 6379;
const DETECTED: u16 = 6380;
const MIB: usize = 1 << 20;

#[test]
fn redis_works() {
    let ports = [
        declared(PORT, Protocol::Opaque),
        detected(DETECTED).at(PORT),
    ];
    let mut place = Place::new(&ports);
    let mut command = server("redis-server");
    command
        .args(["--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""])
        .args(["--appendonly", "no", "--port", &PORT.to_string()]);
    place.start(Side::B, command, &[PORT]);
    let mut report = Report::new(Group::Redis);
    for (how, port) in [("declared", PORT), ("detected", DETECTED)] {
        let cli = Cli {
            place: &place,
            port: port.to_string(),
        };
        let mut case = |what: &str, outcome| report.case(format!("{how}: {what}"), outcome);
        case("PING", cli.says(&["PING"], "PONG"));
        case("a value of 1 MiB", cli.value());
        case("a transaction", cli.transaction());
        case("a stream of commands", cli.piped());
        case("a wait on the server", cli.waits());
        case("redis-benchmark", cli.benchmark());
    }
    report.finish(&mut place);
}

struct Cli<'a> {
    place: &'a Place,
    port: String,
}

impl Cli<'_> {
    fn run(&self, words: &[&str]) -> Result<String> {
        let fixed = ["-h", "10.211.0.10", "-p", &self.port];
        self.place.run("redis-cli", &[&fixed, words].concat())
    }

    fn says(&self, words: &[&str], expected: &str) -> Result<()> {
        equal(&&*self.run(words)?, &expected)
    }

    /// Through `sh`, since the client reads its input.
    fn fed(&self, input: &Path, words: &str) -> Result<String> {
        let program = mesh_testing::peers::program("redis-cli");
        let (program, input) = (program.display(), input.display());
        let line = format!("{program} -h 10.211.0.10 -p {} {words} <{input}", self.port);
        self.place.shell(&line)
    }

    fn value(&self) -> Result<()> {
        // Letters, since the client shows other bytes in its own way.
        let value: Vec<u8> = content(MIB).iter().map(|byte| b'a' + byte % 26).collect();
        let input = self.place.write("value", &value);
        equal(&&*self.fed(&input, "-x SET large")?, &"OK")?;
        let back = self.run(&["GET", "large"])?;
        ensure!(back.as_bytes() == value, "another value came back");
        Ok(())
    }

    fn transaction(&self) -> Result<()> {
        let commands = "DEL count\nMULTI\nINCR count\nINCRBY count 41\nEXEC\n";
        let input = self.place.write("commands", commands);
        let said = self.fed(&input, "")?;
        ensure!(said.ends_with("QUEUED\nQUEUED\n1\n42"), "{said}");
        Ok(())
    }

    /// 20,000 commands, of which none waits for an answer.
    fn piped(&self) -> Result<()> {
        let set = |n: u32| {
            let (key, value) = (format!("key{n}"), n.to_string());
            format!(
                "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n{value}\r\n",
                key.len(),
                value.len()
            )
        };
        let commands: String = (0..20_000).map(set).collect();
        let input = self.place.write("commands", commands);
        let said = self.fed(&input, "--pipe")?;
        ensure!(said.ends_with("errors: 0, replies: 20000"), "{said}");
        self.says(&["GET", "key19999"], "19999")
    }

    /// The answer comes when the server has waited in vain.
    fn waits(&self) -> Result<()> {
        equal(&&*self.run(&["BLPOP", "absent", "0.3"])?, &"")
    }

    fn benchmark(&self) -> Result<()> {
        let fixed = ["-h", "10.211.0.10", "-p", &self.port, "--csv"];
        let load = [
            "-n",
            "5000",
            "-c",
            "20",
            "-P",
            "4",
            "-t",
            "set,get,lpush,lrange_100",
        ];
        let said = self
            .place
            .run("redis-benchmark", &[&fixed[..], &load].concat())?;
        for test in ["\"SET\"", "\"GET\"", "\"LPUSH\"", "\"LRANGE_100"] {
            let line = said.lines().find(|line| line.starts_with(test));
            let line = line.with_context(|| format!("no {test} in {said}"))?;
            let rate = line.split('"').nth(3).context("no rate")?;
            ensure!(rate.parse::<f64>()? > 0.0, "{line}");
        }
        Ok(())
    }
}
