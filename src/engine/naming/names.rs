//! Names of new service accounts and keys: valid at OpenAI, unique, and recognizable by the mount's tag at the end.
//!
//! A name is `<front>-<tag>`, a credential's name `<front>-<stamp>-<tag>` (`windows/window.rs`). The front is the rendered
//! template, shortened to fit, with a `-` for every character that OpenAI does not accept. The front must contain 8
//! characters of `.RandomSuffix` or of a `random`, or 13 of a `uuid`. If it does not, it is shortened further and a random
//! suffix is appended: `<front>-<suffix>-<stamp>-<tag>`. So every name has at least 40 random bits, and shortening never cuts
//! the tag or the random part.

use std::fmt;

use chrono::{DateTime, Utc};
use rand::Rng;

use crate::engine::fingerprint;
use crate::engine::naming::template::{RenderError, Rendering, Template, Values};

/// The default template of a role.
pub const DEFAULT_TEMPLATE: &str = "vault-{{.RoleName}}-{{.RandomSuffix}}";

/// The longest name that OpenAI accepts.
const MAX_LENGTH: usize = 64;

/// A unique name of 3 to 64 characters `A-Za-z0-9_-`, which ends in `-` and a mount's tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceAccountName(String);

/// The tag at the end of every name that a mount makes. It never changes for a mount.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MountTag(String);

impl ServiceAccountName {
    /// Makes a unique name from a template. The name ends in the stamp and the tag.
    pub fn stamped<R: Rng + ?Sized>(
        template: &Template,
        values: &Values<'_>,
        stamp: &str,
        tag: &MountTag,
        now: DateTime<Utc>,
        rng: &mut R,
    ) -> Result<Self, RenderError> {
        template.render(values, now, rng).map(|rendering| Self::fit(&rendering, &format!("{stamp}-{tag}")))
    }

    /// Makes a unique name from a text: `<front>-<suffix>-<tag>`.
    pub fn beginning<R: Rng + ?Sized>(front: &str, tag: &MountTag, rng: &mut R) -> Self {
        Self::fit(&Rendering::plain(front, rng), tag.as_str())
    }

    fn fit(rendering: &Rendering, ending: &str) -> Self {
        let text: String = rendering.text.chars().map(sanitized).collect();
        let room = MAX_LENGTH - ending.len() - 1;
        let front = shorten(&text, room);
        if rendering.is_unique_in(front) {
            return Self(format!("{front}-{ending}"));
        }
        let suffix = rendering.suffix.as_str();
        match shorten(&text, room - suffix.len() - 1) {
            "" => Self(format!("{suffix}-{ending}")),
            front => Self(format!("{front}-{suffix}-{ending}")),
        }
    }
}

/// The character, or `-` if OpenAI does not accept it.
fn sanitized(character: char) -> char {
    match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' => character,
        _ => '-',
    }
}

/// The first characters of an ASCII text, without leading and trailing hyphens.
fn shorten(text: &str, length: usize) -> &str {
    let text = text.trim_start_matches('-');
    text[..text.len().min(length)].trim_end_matches('-')
}

impl fmt::Display for ServiceAccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ServiceAccountName> for String {
    fn from(name: ServiceAccountName) -> Self {
        name.0
    }
}

impl MountTag {
    const LENGTH: usize = 6;
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

    /// Minimum length of the text before `-<tag>`: the random part.
    const MIN_FRONT: usize = 8;

    /// The tag of the mount with this UUID (PROTOCOL 5). Any text is valid.
    pub fn of(backend_uuid: &str) -> Self {
        let mut number = fingerprint::number(backend_uuid);
        let mut tag = String::with_capacity(Self::LENGTH);
        for _ in 0..Self::LENGTH {
            tag.push(char::from(Self::DIGITS[(number % 36) as usize]));
            number /= 36;
        }
        Self(tag)
    }

    /// True if a mount with this tag made the name.
    pub fn owns(&self, name: &str) -> bool {
        let front = name.strip_suffix(self.as_str()).and_then(|front| front.strip_suffix('-'));
        front.is_some_and(|front| front.len() >= Self::MIN_FRONT)
            && name.len() <= MAX_LENGTH
            && name.chars().all(|character| sanitized(character) == character)
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MountTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const STAMP: &str = "00abc00xyz";

    fn name(template: &str, role_name: &str) -> String {
        name_with(template, role_name, &mut StdRng::seed_from_u64(7))
    }

    fn name_with(template: &str, role_name: &str, rng: &mut StdRng) -> String {
        let template = Template::parse(template).unwrap();
        let values = Values { role_name, project_name: "research", ..Values::default() };
        let tag = MountTag::of("7e5f");
        let name = ServiceAccountName::stamped(&template, &values, STAMP, &tag, DateTime::UNIX_EPOCH, rng);
        name.unwrap().into()
    }

    /// The name with each random part replaced by `*`.
    fn shape(name: &str) -> String {
        let random = |part: &&str| part.len() == 8 && part.bytes().any(|byte| byte.is_ascii_digit());
        let parts = name.split('-').map(|part| if random(&part) { "*" } else { part });
        parts.collect::<Vec<_>>().join("-")
    }

    #[test]
    fn the_default_name_is_the_role_and_a_random_suffix() {
        let name = name(DEFAULT_TEMPLATE, "app");
        let tag = MountTag::of("7e5f");
        assert_eq!(shape(&name), format!("vault-app-*-{STAMP}-{tag}"), "{name}");
    }

    #[test]
    fn an_invalid_character_becomes_a_hyphen() {
        let name = name("a b.ü/{{.RoleName}}!-", "x_y");
        assert!(name.starts_with("a-b---x_y-") && !name.starts_with("a-b---x_y--"), "{name}");
    }

    #[test]
    fn a_template_without_randomness_gets_a_suffix() {
        for template in
            ["fixed", "", "---", "{{random 7}}", "{{uuid | truncate 12}}", "{{random 20 | sha256}}"]
        {
            let name = name(template, "app");
            let suffix = name.split('-').rev().nth(2).unwrap();
            assert_eq!(suffix.len(), 8, "{template}: {name}");
        }
    }

    #[test]
    fn a_template_with_its_own_randomness_gets_no_suffix() {
        for (template, length) in [
            ("{{random 8}}", 8),
            ("{{random 20 | uppercase}}", 20),
            ("{{uuid}}", 36),
            ("x{{.RandomSuffix}}", 9),
        ] {
            assert_eq!(name(template, "app").len(), length + 18, "{template}");
        }
    }

    #[test]
    fn a_name_from_a_text_is_unique_and_ignores_template_syntax() {
        let (tag, mut rng) = (MountTag::of("7e5f"), StdRng::seed_from_u64(7));
        let mut name = |front: &str| String::from(ServiceAccountName::beginning(front, &tag, &mut rng));
        assert_eq!(shape(&name("vault-static-key")), format!("vault-static-key-*-{tag}"));
        assert!(name("{{uuid}} x").starts_with("uuid---x-"));
        assert_eq!(name(&"k".repeat(200)).len(), 64);
        assert_ne!(name("k"), name("k"));
    }

    #[test]
    fn a_long_role_name_is_cut_before_the_suffix_and_the_tag() {
        let name = name(DEFAULT_TEMPLATE, &"r".repeat(200));
        assert_eq!(name.len(), 64);
        assert_eq!(shape(&name), format!("vault-{}-*-{STAMP}-{}", "r".repeat(31), MountTag::of("7e5f")));
    }

    #[test]
    fn a_long_random_part_is_cut_and_the_name_stays_unique() {
        let name = name("{{.RoleName}}-{{random 500}}", "app");
        assert_eq!(name.len(), 64);
        assert_eq!(name.split('-').count(), 4);
    }

    #[test]
    fn a_tag_owns_only_the_names_of_its_mount() {
        let tag = MountTag::of("7e5f");
        assert!(tag.owns(&name(DEFAULT_TEMPLATE, "app")));
        assert!(!MountTag::of("other").owns(&name(DEFAULT_TEMPLATE, "app")));
        assert!(!tag.owns(tag.as_str()));
        assert!(!tag.owns(&format!("app-{tag}")));
        assert!(!tag.owns(&format!("{}-{tag}", "a".repeat(58))));
        assert!(!tag.owns(&format!("my own account-{tag}")));
        assert!(!tag.owns(&format!("some-account{tag}")));
    }

    #[test]
    fn a_tag_has_six_characters_and_never_changes() {
        for uuid in ["", "7e5f", "6669da05-b1c8-4f49-97d9-c8e5bed98e20"] {
            let tag = MountTag::of(uuid);
            assert!(
                tag.as_str().len() == 6 && tag.as_str().chars().all(|c| matches!(c, 'a'..='z' | '0'..='9'))
            );
            assert_eq!(tag, MountTag::of(uuid));
        }
        // Accounts at OpenAI have this tag, so it must never change.
        assert_eq!(MountTag::of("").as_str(), "gt33ue");
    }

    proptest! {
        #[test]
        fn any_role_and_template_give_valid_unique_names_with_the_tag(
            text in "[^{}]{0,90}",
            role in "\\PC{0,90}",
            action in prop::sample::select(vec![
                "{{.RoleName}}", "{{.RandomSuffix}}", "{{random 3}}", "{{random 40}}", "{{uuid}}",
                "{{truncate_sha256 20 .RoleName}}", "{{uuid | base64}}", "{{.RandomSuffix | uppercase}}", "",
            ]),
            seed: u64,
        ) {
            let template = format!("{action}{text}{action}");
            let mut rng = StdRng::seed_from_u64(seed);
            let one = name_with(&template, &role, &mut rng);
            let two = name_with(&template, &role, &mut rng);
            prop_assert_ne!(&one, &two);
            prop_assert!((3..=64).contains(&one.len()));
            prop_assert!(MountTag::of("7e5f").owns(&one), "{one}");
        }
    }
}
