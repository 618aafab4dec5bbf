//! `testapp write`: whether a volume takes a file.

use std::fs::File;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::args::WriteArgs;

/// Writes the file to the disk, or says why it cannot.
pub(crate) fn run(args: &WriteArgs) -> anyhow::Result<ExitCode> {
    let path = args.path.display();
    File::create(&args.path)
        .and_then(|mut file| {
            file.write_all(&vec![b'.'; args.size])?;
            file.sync_all()
        })
        .with_context(|| format!("{path} cannot be written"))?;
    println!("{} bytes written to {path}", args.size);
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_or_the_reason_is_told() {
        let folder = std::env::temp_dir().join(format!("testapp-write-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let args = |path: &str| WriteArgs {
            path: folder.join(path),
            size: 10,
        };
        run(&args("a")).unwrap();
        assert_eq!(std::fs::read(folder.join("a")).unwrap(), [b'.'; 10]);
        assert!(run(&args("no/such/folder")).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
