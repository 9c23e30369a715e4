//! Merges the metrics of several mounts into one text, with the additional label `mount`. Works on the text format alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A metric family: its comment lines and its samples.
#[derive(Default)]
struct Family<'a> {
    comments: Vec<&'a str>,
    samples: Vec<String>,
}

/// Merges texts, each with its mount point. Every family appears once, with all its samples.
pub fn merge(texts: &[(String, String)]) -> String {
    let mut families: BTreeMap<&str, Family<'_>> = BTreeMap::new();
    for (mount, text) in texts {
        add(&mut families, &escaped(mount), text);
    }
    let mut merged = String::new();
    for Family { comments, samples } in families.into_values() {
        for line in comments.into_iter().chain(samples.iter().map(String::as_str)) {
            // Writing to a String cannot fail.
            let _ = writeln!(merged, "{line}");
        }
    }
    merged
}

fn add<'a>(families: &mut BTreeMap<&'a str, Family<'a>>, mount: &str, text: &'a str) {
    let mut name = "";
    for line in text.lines().filter(|line| !line.is_empty()) {
        let Some(comment) = line.strip_prefix("# ") else {
            families.entry(name).or_default().samples.push(labelled(line, mount));
            continue;
        };
        name = comment.split(' ').nth(1).unwrap_or_default();
        let family = families.entry(name).or_default();
        if !family.comments.contains(&line) {
            family.comments.push(line);
        }
    }
}

/// Adds the label to `name{a="b"} 1` or `name 1`. A name contains neither a brace nor a space.
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
    fn each_family_appears_once_with_the_samples_of_every_mount() {
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
    fn the_text_is_empty_without_mounts() {
        assert_eq!(merge(&[]), "");
    }
}
