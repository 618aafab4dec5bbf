//! From `main` to an exit code.

use std::process::ExitCode;

use tokio::runtime;

/// Runs `program`'s whole life on a current-thread runtime. An error is printed
/// with its causes and becomes exit code 1.
pub fn run(program: &str, life: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    match live(life) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn live(life: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(life);
    // Whatever had to be waited for was waited for in `life`.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_a_failure() {
        let failed = run("test", async { anyhow::bail!("no") });
        assert_eq!(failed, ExitCode::FAILURE);
        assert_eq!(run("test", async { Ok(()) }), ExitCode::SUCCESS);
    }
}
