//! README and the pages of `docs/`: links and lengths (`pages`), the API reference against the mount (`reference`), and
//! what pages name in the code (`citations`). Their commands run in `host::pages`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

mod citations;
mod pages;
mod reference;

/// A Markdown page, by its path from the repository's root.
pub(crate) struct Page {
    pub(crate) path: String,
    pub(crate) text: String,
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages at the root and in `docs/`, sorted by path.
pub(crate) fn pages() -> Vec<Page> {
    let mut files = markdown(root());
    files.extend(below(&root().join("docs")).into_iter().filter(|file| is_markdown(file)));
    files.sort();
    let page = |file: PathBuf| Page {
        path: file.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(),
        text: fs::read_to_string(file).unwrap(),
    };
    files.into_iter().map(page).collect()
}

fn is_markdown(file: &Path) -> bool {
    file.extension().is_some_and(|end| end == "md")
}

fn markdown(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|file| file.is_file() && is_markdown(file)).collect()
}

/// All files of a folder and of its subfolders.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

/// The text of all files of a folder whose names end like this.
fn texts(folder: &str, end: &str) -> String {
    let files = below(&root().join(folder)).into_iter().filter(|file| file.to_str().unwrap().ends_with(end));
    files.map(|file| fs::read_to_string(file).unwrap()).collect()
}

impl Page {
    /// The lines outside code blocks.
    fn prose(&self) -> impl Iterator<Item = &str> {
        let mut fenced = false;
        self.text.lines().filter(move |line| {
            let fence = line.trim_start().starts_with("```");
            fenced ^= fence;
            !fenced && !fence
        })
    }

    /// Names of the headings in links.
    fn anchors(&self) -> BTreeSet<String> {
        let titles = self.prose().filter(|line| line.starts_with('#'));
        let titles = titles.map(|line| line.trim_matches(['#', ' ']).to_lowercase());
        let kept = |title: String| {
            title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>()
        };
        titles.map(|title| kept(title).replace(' ', "-")).collect()
    }
}
