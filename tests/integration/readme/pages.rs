//! Links and lengths of all pages.

use std::collections::BTreeSet;

use super::{Page, pages, root};

const README_WORDS: usize = 1_500;
const PAGE_WORDS: usize = 2_000;
const SENTENCE_WORDS: usize = 25;

impl Page {
    /// Number of words outside code blocks.
    fn words(&self) -> usize {
        self.prose().map(|line| line.split_whitespace().count()).sum()
    }

    /// The texts outside code blocks: paragraphs, elements of lists, cells of tables.
    fn texts(&self) -> Vec<String> {
        let mut texts = vec![String::new()];
        for line in self.prose().map(str::trim) {
            let is_row = line.starts_with('|');
            if is_row {
                texts.extend(line.split('|').map(str::to_owned));
            }
            if is_row || line.is_empty() || line.starts_with(['#', '<']) || begins_an_element(line) {
                texts.push(String::new());
            }
            if !is_row && !line.starts_with(['#', '<']) {
                let text = texts.last_mut().unwrap();
                text.push_str(line);
                text.push(' ');
            }
        }
        texts
    }

    /// Targets of the links outside code blocks.
    fn links(&self) -> Vec<&str> {
        let rests = self.prose().flat_map(|line| line.split("](").skip(1));
        rests.filter_map(|rest| rest.split_once(')')).map(|(link, _)| link).collect()
    }
}

/// `- `, or a number with a dot.
fn begins_an_element(line: &str) -> bool {
    let (mark, _) = line.split_once(' ').unwrap_or_default();
    mark == "-" || mark.strip_suffix('.').is_some_and(|number| number.parse::<u8>().is_ok())
}

/// A text without the targets of its links, and with one word for each piece of code.
fn readable(text: &str) -> String {
    let code = text.split('`').enumerate().map(|(at, part)| if at % 2 == 0 { part } else { "X" });
    let text: String = code.collect();
    let mut links = text.split("](");
    let first = links.next().unwrap_or_default().to_owned();
    links.fold(first, |text, rest| text + rest.split_once(')').map_or(rest, |(_, after)| after))
}

/// The sentences of a readable text.
fn sentences(text: &str) -> Vec<Vec<&str>> {
    let mut sentences = vec![Vec::new()];
    for word in text.split_whitespace().filter(|word| *word != "-") {
        sentences.last_mut().unwrap().push(word);
        if word.trim_end_matches(['*', ')', '"']).ends_with(['.', '?', '!']) {
            sentences.push(Vec::new());
        }
    }
    sentences
}

#[test]
fn no_sentence_of_a_page_is_longer_than_25_words() {
    for page in pages() {
        for text in page.texts().iter().map(|text| readable(text)) {
            let long = sentences(&text).into_iter().find(|words| words.len() > SENTENCE_WORDS);
            assert!(long.is_none(), "{}: {}", page.path, long.unwrap_or_default().join(" "));
        }
    }
}

#[test]
fn every_link_of_a_page_leads_to_a_file_and_a_heading() {
    let pages = pages();
    let mut seen = 0;
    for page in &pages {
        let folder = root().join(&page.path).parent().unwrap().to_owned();
        for link in page.links().into_iter().filter(|link| !link.starts_with("http")) {
            seen += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { root().join(&page.path) } else { folder.join(file) };
            assert!(target.exists(), "{}: there is no {file}", page.path);
            let target = target.canonicalize().unwrap();
            let target = pages.iter().find(|page| root().join(&page.path) == target);
            let anchored = heading.is_empty() || target.is_some_and(|page| page.anchors().contains(heading));
            assert!(anchored, "{}: {link} has no such heading", page.path);
        }
    }
    assert!(seen > 100, "{seen} links");
}

#[test]
fn no_page_is_longer_than_a_person_reads() {
    for page in pages() {
        let most = match page.path.as_str() {
            "README.md" => README_WORDS,
            path if path.starts_with("docs/api/") => usize::MAX,
            _ => PAGE_WORDS,
        };
        let words = page.words();
        assert!(words <= most, "{} has {words} words of at most {most}", page.path);
    }
}

#[test]
fn the_list_of_pages_names_every_page_of_docs() {
    let pages = pages();
    let list = |path: &str| -> BTreeSet<String> {
        let page = pages.iter().find(|page| page.path == path).unwrap();
        let folder = path.strip_suffix("README.md").unwrap();
        page.links().iter().map(|link| format!("{folder}{link}")).collect()
    };
    let mut listed = list("docs/README.md");
    listed.extend(list("docs/api/README.md"));
    listed.extend(list("docs/integrations/README.md"));
    let of_docs = pages.iter().map(|page| &page.path).filter(|path| path.starts_with("docs/"));
    let missing: Vec<_> =
        of_docs.filter(|path| *path != "docs/README.md" && !listed.contains(*path)).collect();
    assert_eq!(missing, Vec::<&String>::new(), "in no list");
}
