//! PostgreSQL: psql asks for TLS first, and goes on without; on a port that is
//! declared and on one that is not.

use anyhow::{Result, ensure};
use mesh_core::destination::Protocol;
use mesh_pair::namespace::Side;
use mesh_testing::peers::program;
use nix::sys::signal::Signal;

use crate::{
    messages::equal,
    place::{Place, declared, detected, server_at},
    report::{Group, Report},
};

const PORT: u16 = 5432;
const DETECTED: u16 = 5433;

#[test]
fn postgres_works() {
    let ports = [
        declared(PORT, Protocol::Opaque),
        detected(DETECTED).at(PORT),
    ];
    let mut place = Place::new(&ports);
    start(&mut place);
    let mut report = Report::new(Group::Postgres);
    for (how, port) in [("declared", PORT), ("detected", DETECTED)] {
        let psql = Psql {
            place: &place,
            port,
        };
        let mut case = |what: &str, outcome| report.case(format!("{how}: {what}"), outcome);
        case("a query", psql.says("select 6 * 7", "42"));
        case("a large result", psql.large_result());
        case("a large statement", psql.large_statement());
        case("COPY in and out", psql.copy());
        case("an error", psql.error());
        case("pgbench", psql.pgbench());
    }
    report.finish(&mut place);
    // It leaves shared memory if it is killed.
    place.stop(Signal::SIGINT);
}

/// As another user, as which the server insists to run: it is root's in a user
/// namespace of its own.
fn start(place: &mut Place) {
    const NOBODY: [&str; 3] = ["--user", "--map-user=65534", "--map-group=65534"];
    let data = place.file("postgres").display().to_string();
    let (initdb, postgres) = (program("initdb"), program("postgres"));
    let made = format!(
        "unshare {} {} --username=postgres --auth=trust --encoding=UTF8 --locale=C --no-sync {data}",
        NOBODY.join(" "),
        initdb.display()
    );
    place.shell(&made).unwrap();
    place
        .shell(&format!(
            "echo 'host all all all trust' >>{data}/pg_hba.conf"
        ))
        .unwrap();
    let mut command = server_at("unshare".as_ref());
    command
        .args(NOBODY)
        .arg(postgres)
        .args([
            "-D",
            &data,
            "-k",
            &data,
            "-h",
            "0.0.0.0",
            "-p",
            &PORT.to_string(),
        ])
        .args(["-c", "fsync=off"]);
    place.start(Side::B, command, &[PORT]);
    let psql = Psql { place, port: PORT };
    // Its port is open while it still starts up.
    psql.until_it_answers();
}

struct Psql<'a> {
    place: &'a Place,
    port: u16,
}

impl Psql<'_> {
    fn run(&self, words: &[&str]) -> Result<String> {
        let port = self.port.to_string();
        let fixed = ["-h", "10.211.0.10", "-p", &port, "-U", "postgres", "-XAtq"];
        let strict = ["-v", "ON_ERROR_STOP=1"];
        self.place
            .run("psql", &[&fixed[..], &strict, words].concat())
    }

    fn says(&self, query: &str, expected: &str) -> Result<()> {
        equal(&&*self.run(&["-c", query])?, &expected)
    }

    fn until_it_answers(&self) {
        let start = std::time::Instant::now();
        while let Err(error) = self.says("select 1", "1") {
            assert!(start.elapsed() < crate::place::DEADLINE, "{error:#}");
        }
    }

    /// The client's sum of 10 MB of rows is the server's.
    fn large_result(&self) -> Result<()> {
        let rows = "select md5(n::text) from generate_series(1, 300000) n";
        let said = self.run(&["-c", rows])?;
        let lines: Vec<&str> = said.lines().collect();
        equal(&lines.len(), &300_000)?;
        let sum = format!("select md5(string_agg(v, '')) from ({}) s(v)", rows);
        let expected = self.run(&["-c", &sum])?;
        self.place.write("rows", lines.concat());
        let found = self.place.shell("md5sum <rows")?;
        ensure!(
            found.starts_with(&expected),
            "{found} instead of {expected}"
        );
        Ok(())
    }

    fn large_statement(&self) -> Result<()> {
        let statement = format!("select length('{}')", "x".repeat(3_000_000));
        let file = self.place.write("statement.sql", statement);
        equal(
            &&*self.run(&["-f", &file.display().to_string()])?,
            &"3000000",
        )
    }

    fn copy(&self) -> Result<()> {
        let rows: String = (0..100_000).map(|n| format!("{n}\trow {n}\n")).collect();
        let file = self.place.write("copied", &rows);
        let commands = [
            "-c",
            "drop table if exists copied",
            "-c",
            "create table copied (n int, text text)",
            "-c",
            &format!("\\copy copied from '{}'", file.display()),
            "-c",
            "\\copy (select * from copied order by n) to stdout",
        ];
        let back = self.run(&commands)?;
        ensure!(back == rows.trim_end(), "other rows came back");
        Ok(())
    }

    fn error(&self) -> Result<()> {
        let error = self.run(&["-c", "select 1 / 0"]).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        ensure!(text.contains("division by zero"), "{text}");
        self.says("select 2", "2")
    }

    fn pgbench(&self) -> Result<()> {
        let port = self.port.to_string();
        let fixed = ["-h", "10.211.0.10", "-p", &port, "-U", "postgres"];
        let made = ["-i", "-q", "-s", "1", "postgres"];
        self.place.run("pgbench", &[&fixed[..], &made].concat())?;
        let load = ["-c", "4", "-t", "100", "-S", "-M", "prepared", "postgres"];
        let said = self.place.run("pgbench", &[&fixed[..], &load].concat())?;
        ensure!(said.contains("actually processed: 400/400"), "{said}");
        ensure!(said.contains("failed transactions: 0 "), "{said}");
        Ok(())
    }
}
