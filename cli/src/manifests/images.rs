//! Which images the mesh's containers run.

/// Where the images are, and which ones of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Images {
    /// What stands before the program's name.
    pub(crate) registry: String,
    /// The version.
    pub(crate) tag: String,
}

impl Images {
    /// The image of `program`.
    pub(crate) fn of(&self, program: &str) -> String {
        format!("{}/{program}:{}", self.registry, self.tag)
    }
}

impl TryFrom<crate::args::ImageArgs> for Images {
    type Error = InvalidImage;

    fn try_from(args: crate::args::ImageArgs) -> Result<Self, InvalidImage> {
        let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let registry_part = |c: char| part(c) || matches!(c, '/' | ':');
        let legal_registry = args.registry.chars().all(registry_part)
            && args
                .registry
                .starts_with(|c: char| c.is_ascii_alphanumeric())
            && !args.registry.ends_with('/');
        let legal_tag =
            (1..=128).contains(&args.image_tag.len()) && args.image_tag.chars().all(part);
        match (legal_registry, legal_tag) {
            (false, _) => Err(InvalidImage::Registry),
            (_, false) => Err(InvalidImage::Tag),
            (true, true) => Ok(Self {
                registry: args.registry,
                tag: args.image_tag,
            }),
        }
    }
}

/// An option that can be part of no image's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidImage {
    /// `--registry` is wrong.
    #[error("--registry is a host and a path, such as registry.example.com/mesh")]
    Registry,
    /// `--image-tag` is wrong.
    #[error("--image-tag is 1 to 128 letters, digits, '.', '-' and '_'")]
    Tag,
}
