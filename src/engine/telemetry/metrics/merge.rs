//! Several mounts' metrics as one text, told apart by a label `mount`. Pure text work: it knows the format, not what
//! is counted.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A family of metrics: what is said of it, and its samples.
#[derive(Default)]
struct Family<'a> {
    about: Vec<&'a str>,
    samples: Vec<String>,
}

/// The texts of mounts, each with the mount's name, as one: every family once, with all its samples.
pub fn merge(texts: &[(String, String)]) -> String {
    let mut families: BTreeMap<&str, Family<'_>> = BTreeMap::new();
    for (mount, text) in texts {
        add(&mut families, &escaped(mount), text);
    }
    let mut merged = String::new();
    for Family { about, samples } in families.into_values() {
        for line in about.into_iter().chain(samples.iter().map(String::as_str)) {
            // Writing to a String cannot fail.
            let _ = writeln!(merged, "{line}");
        }
    }
    merged
}

fn add<'a>(families: &mut BTreeMap<&'a str, Family<'a>>, mount: &str, text: &'a str) {
    let mut present = "";
    for line in text.lines().filter(|line| !line.is_empty()) {
        let Some(about) = line.strip_prefix("# ") else {
            families.entry(present).or_default().samples.push(labelled(line, mount));
            continue;
        };
        present = about.split(' ').nth(1).unwrap_or_default();
        let family = families.entry(present).or_default();
        if !family.about.contains(&line) {
            family.about.push(line);
        }
    }
}

/// `name{a="b"} 1` and `name 1` with one more label. A name holds neither a brace nor a space.
fn labelled(sample: &str, mount: &str) -> String {
    let end = sample.find(['{', ' ']).unwrap_or(sample.len());
    let (name, rest) = sample.split_at(end);
    match rest.strip_prefix('{') {
        Some(labels) if labels.starts_with('}') => format!("{name}{{mount=\"{mount}\"{labels}"),
        Some(labels) => format!("{name}{{mount=\"{mount}\",{labels}"),
        None => format!("{name}{{mount=\"{mount}\"}}{rest}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_comes_once_with_the_samples_of_every_mount() {
        let text = |n: u8| {
            format!("# HELP b Bs.\n# TYPE b gauge\nb {n}\n\n# TYPE a counter\na{{role=\"x y\"}} {n}\n\n")
        };
        let merged = merge(&[("one/".to_owned(), text(1)), ("two\"/".to_owned(), text(2))]);
        assert_eq!(
            merged,
            "# TYPE a counter\na{mount=\"one/\",role=\"x y\"} 1\na{mount=\"two\\\"/\",role=\"x y\"} 2\n\
             # HELP b Bs.\n# TYPE b gauge\nb{mount=\"one/\"} 1\nb{mount=\"two\\\"/\"} 2\n"
        );
    }

    #[test]
    fn no_mount_is_no_text() {
        assert_eq!(merge(&[]), "");
    }
}
