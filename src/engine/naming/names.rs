//! The names of the service accounts we make: fit for OpenAI, unique, and known as ours by their end.
//!
//! A name is `<front>-<tag>`; a credential's is `<front>-<stamp>-<tag>` (`windows/window.rs`). The front is what the role's template gave, with every character that OpenAI does
//! not take made a `-`, shortened to fit. If the front does not hold (or, shortened, no longer holds) at least
//! 8 characters of `.RandomSuffix` or of a `random`, or 13 of a `uuid`, as they were drawn, then it is shortened
//! further and that rendering's random suffix is put behind it: `<front>-<suffix>-<stamp>-<tag>`. So every name has at
//! least 40 random bits, and shortening never cuts the tag or what makes the name unique.
//!
//! It knows nothing of who uses a name, nor of OpenAI's API.

use std::fmt;

use chrono::{DateTime, Utc};
use rand::Rng;

use crate::engine::fingerprint;
use crate::engine::naming::template::{RenderError, Rendering, Template, Values};

/// The template of a role that sets none.
pub const DEFAULT_TEMPLATE: &str = "vault-{{.RoleName}}-{{.RandomSuffix}}";

/// The longest name OpenAI takes.
const MAX_LENGTH: usize = 64;

/// A service account's name: 3 to 64 of `A-Za-z0-9_-`, unique, ending in `-` and a mount's tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceAccountName(String);

/// The mark of a mount at the end of every name it makes; the same for as long as the mount exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MountTag(String);

impl ServiceAccountName {
    /// Makes a new name, unlike any other, whatever the template. It ends in this stamp and the tag.
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

    /// Makes a new name that begins with this text: `<front>-<suffix>-<tag>`.
    pub fn beginning<R: Rng + ?Sized>(front: &str, tag: &MountTag, rng: &mut R) -> Self {
        Self::fit(&Rendering::plain(front, rng), tag.as_str())
    }

    fn fit(rendering: &Rendering, ending: &str) -> Self {
        let text: String = rendering.text.chars().map(fitting).collect();
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

/// OpenAI's names are written with these characters alone.
fn fitting(character: char) -> char {
    match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' => character,
        _ => '-',
    }
}

/// The start of an ASCII text, without hyphens at its ends.
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

    /// The least that stands before `-<tag>` in a name of ours: the random part.
    const SHORTEST_FRONT: usize = 8;

    /// The tag of the mount with this UUID, which Vault gives each mount (PROTOCOL 5); any text will do.
    pub fn of(backend_uuid: &str) -> Self {
        let mut number = fingerprint::number(backend_uuid);
        let mut tag = String::with_capacity(Self::LENGTH);
        for _ in 0..Self::LENGTH {
            tag.push(char::from(Self::DIGITS[(number % 36) as usize]));
            number /= 36;
        }
        Self(tag)
    }

    /// Whether a mount with this tag made the name.
    pub fn owns(&self, name: &str) -> bool {
        let front = name.strip_suffix(self.as_str()).and_then(|front| front.strip_suffix('-'));
        front.is_some_and(|front| front.len() >= Self::SHORTEST_FRONT)
            && name.len() <= MAX_LENGTH
            && name.chars().all(|character| fitting(character) == character)
    }

    /// The tag.
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
        let values = Values { role_name, project_name: "research" };
        let tag = MountTag::of("7e5f");
        let name = ServiceAccountName::stamped(&template, &values, STAMP, &tag, DateTime::UNIX_EPOCH, rng);
        name.unwrap().into()
    }

    /// The parts of a name, with what is random replaced by `*`.
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
    fn what_openai_does_not_take_becomes_a_hyphen() {
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
    fn a_template_with_its_own_randomness_gets_none() {
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
    fn a_name_that_begins_with_a_text_takes_braces_as_they_are_and_is_unique() {
        let (tag, mut rng) = (MountTag::of("7e5f"), StdRng::seed_from_u64(7));
        let mut name = |front: &str| String::from(ServiceAccountName::beginning(front, &tag, &mut rng));
        assert_eq!(shape(&name("vault-static-key")), format!("vault-static-key-*-{tag}"));
        assert!(name("{{uuid}} x").starts_with("uuid---x-"));
        assert_eq!(name(&"k".repeat(200)).len(), 64);
        assert_ne!(name("k"), name("k"));
    }

    #[test]
    fn a_long_role_name_is_cut_and_not_the_suffix_or_the_tag() {
        let name = name(DEFAULT_TEMPLATE, &"r".repeat(200));
        assert_eq!(name.len(), 64);
        assert_eq!(shape(&name), format!("vault-{}-*-{STAMP}-{}", "r".repeat(31), MountTag::of("7e5f")));
    }

    #[test]
    fn a_long_random_part_is_cut_to_what_keeps_the_name_unique() {
        let name = name("{{.RoleName}}-{{random 500}}", "app");
        assert_eq!(name.len(), 64);
        assert_eq!(name.split('-').count(), 4);
    }

    #[test]
    fn a_tag_knows_its_own_names_only() {
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
    fn a_tag_is_six_characters_for_any_uuid_and_never_changes() {
        for uuid in ["", "7e5f", "6669da05-b1c8-4f49-97d9-c8e5bed98e20"] {
            let tag = MountTag::of(uuid);
            assert!(
                tag.as_str().len() == 6 && tag.as_str().chars().all(|c| matches!(c, 'a'..='z' | '0'..='9'))
            );
            assert_eq!(tag, MountTag::of(uuid));
        }
        // Fixed for ever: accounts at OpenAI carry it.
        assert_eq!(MountTag::of("").as_str(), "gt33ue");
    }

    proptest! {
        #[test]
        fn any_role_and_template_give_names_that_fit_and_are_ours_and_differ(
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
