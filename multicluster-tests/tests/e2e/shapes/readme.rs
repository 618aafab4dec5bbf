//! README's part for one's own clusters, followed as it is typed.

use std::{fs, path::Path, process::Command};

use mesh_lab::{lab::Lab, paths::Paths};

use crate::{
    mesh::installed::shop,
    shared::{eventually, lab_command, release},
};

const README: &str = include_str!("../../../../README.md");
const PART: &str = "## On your own clusters\n";

/// A fenced block of the part.
struct Block<'a> {
    language: &'a str,
    text: &'a str,
}

fn blocks(readme: &str) -> Vec<Block<'_>> {
    let part = readme.split(PART).nth(1).expect("the part is there");
    let part = part.split("\n## ").next().unwrap_or(part);
    let fenced = part.split("\n```").skip(1).step_by(2);
    fenced
        .map(|block| {
            let (language, text) = block.split_once('\n').expect("a line");
            Block { language, text }
        })
        .collect()
}

/// The name of the file that a block of YAML is, by its first line.
fn file_name(yaml: &str) -> Option<&str> {
    yaml.lines().next()?.strip_prefix("# ")
}

/// Runs a block of commands as a user does who has the programs and a
/// kubeconfig.
fn run(script: &str, folder: &Path) {
    let programs = Path::new(env!("CARGO_BIN_EXE_lab"))
        .parent()
        .expect("a folder");
    let paths = Paths::from_env();
    let path = format!(
        "{}:{}:{}",
        programs.display(),
        paths.kubernetes().display(),
        std::env::var("PATH").unwrap_or_default()
    );
    println!("{script}");
    let output = Command::new("timeout")
        .args(["300", "bash", "-e", "-o", "pipefail", "-c", script])
        .current_dir(folder)
        .env("PATH", path)
        .env("KUBECONFIG", paths.kubeconfig())
        .output()
        .expect("a shell starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    println!("{out}{error}");
    assert!(output.status.success(), "{}: {script}", output.status);
}

#[test]
fn what_readme_says_of_one_s_own_clusters_holds_word_by_word() {
    release();
    // Clusters as anybody's: nothing of the mesh is in them but, instead of a
    // registry, the images on their nodes.
    lab_command(&["up", "west", "east"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("app-west.yaml"), shop("west")).unwrap();
    fs::write(folder.path().join("app-east.yaml"), shop("east")).unwrap();
    let mut commands = 0;
    for block in blocks(README) {
        match block.language {
            "yaml" => {
                let name = file_name(block.text).expect("its first line is its file's name");
                fs::write(folder.path().join(name), block.text).unwrap();
            }
            "sh" => {
                run(block.text, folder.path());
                commands += block.text.lines().count();
            }
            // What is shown, and what is done before.
            _ => {}
        }
    }
    assert!(commands > 15, "{commands} commands");
    let lab = Lab::attach(&Paths::from_env()).unwrap();
    for cluster in lab.clusters() {
        eventually("nothing of ours is left", cluster, || {
            let kinds = "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings";
            cluster
                .kubectl(&["get", kinds, "-o", "name"])
                .is_ok_and(|names| !names.contains("mesh"))
        });
    }
}
