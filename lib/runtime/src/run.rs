//! From `main` to an exit code.

use std::process::ExitCode;

use tokio::runtime;

/// Runs `program`'s whole life on a current-thread runtime. An error is printed
/// with its causes and becomes exit code 1.
pub fn run(program: &str, life: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let outcome = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(life));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error:#}");
            ExitCode::FAILURE
        }
    }
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
