//! The README's API reference against the mount: every path, operation and field of either is in the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::openapi::{answer_fields, document, operations, request_fields};

/// The reference; its subsections tell of a noun each.
const REFERENCE: &str = "## API Reference";
/// Where a noun's fields stand elsewhere: the subsection that links there, and the link's target.
const ELSEWHERE: [(&str, &str); 1] = [("### Dynamic Credentials API", "### Role Configuration Options")];

/// What the README says of one noun.
struct Section {
    title: String,
    text: String,
}

/// `METHOD /path`, with `:name` for what a path captures, as the README writes it.
type Endpoint = (String, String);

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// The text below a heading, up to the next one that is not below it.
fn below<'a>(readme: &'a str, heading: &str) -> &'a str {
    let depth = heading.split(' ').next().unwrap_or_default();
    let after = readme.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}")).1;
    let mut end = 0;
    let mut fenced = false;
    for line in after.split_inclusive('\n') {
        fenced ^= line.starts_with("```");
        let hashes = line.chars().take_while(|c| *c == '#').count();
        if !fenced && hashes > 0 && hashes <= depth.len() {
            break;
        }
        end += line.len();
    }
    &after[..end]
}

fn sections(readme: &str) -> Vec<Section> {
    let reference = below(readme, REFERENCE);
    let titles = reference.lines().filter(|line| line.starts_with("### "));
    let section = |title: &str| {
        let mut text = below(readme, title).to_owned();
        for (_, target) in ELSEWHERE.iter().filter(|(from, _)| *from == title) {
            text.push_str(below(readme, target));
        }
        Section { title: title.to_owned(), text }
    };
    titles.map(section).collect()
}

impl Section {
    /// Lines such as `POST   /openai/roles/:name` in its code blocks.
    fn endpoints(&self) -> BTreeSet<Endpoint> {
        let lines = self.text.lines().filter_map(|line| line.split_once(' '));
        let known = |method: &str| ["GET", "POST", "LIST", "DELETE"].contains(&method);
        let endpoints = lines.filter(|(method, _)| known(method));
        endpoints.map(|(method, path)| (method.to_owned(), path.trim().replace("/openai/", "/"))).collect()
    }

    /// What it writes as code, such as `ttl`.
    fn mentions(&self) -> BTreeSet<&str> {
        self.text.split('`').skip(1).step_by(2).flat_map(|code| code.split(['=', ' '])).collect()
    }

    /// The fields it lists: the first column of its tables, and the beginnings of its list items.
    fn listed_fields(&self) -> BTreeSet<&str> {
        let rows = self.text.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        let items = self.text.lines().filter_map(|line| line.strip_prefix("- `")?.split(':').next());
        let names = rows.chain(items).flat_map(|names| names.split([',', ' ']));
        names.map(|name| name.trim_matches(['`', ' '])).filter(|name| !name.is_empty()).collect()
    }
}

/// The operations of the mount and, of each, the fields of its requests and answers.
async fn offered() -> BTreeMap<Endpoint, BTreeSet<String>> {
    let document = document().await;
    let mut offered: BTreeMap<Endpoint, BTreeSet<String>> = BTreeMap::new();
    for (path, method, operation) in operations(&document) {
        let written = path.trim_end_matches('/').replace('{', ":").replace('}', "");
        let method = match method {
            "get" if path.ends_with('/') => "LIST".to_owned(),
            // The README says once for all that a patch is a write of what it sends.
            "patch" => continue,
            other => other.to_uppercase(),
        };
        let mut fields: BTreeSet<_> = request_fields(operation).into_iter().map(|(name, _)| name).collect();
        if method != "LIST" {
            fields.extend(answer_fields(operation).into_iter().map(|(name, _)| name));
        }
        offered.insert((method, written), fields);
    }
    offered
}

/// The text of all files below a folder that end like this.
fn texts(folder: &str, end: &str) -> String {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_str().unwrap().ends_with(end) {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    text
}

#[test]
fn every_test_that_a_document_names_is_there() {
    let code = texts("src", ".rs") + &texts("tests", ".rs");
    let documents = readme() + &texts("docs", ".md");
    let words = documents.split('`').skip(1).step_by(2);
    // Names of fields and metrics are shorter.
    let named: BTreeSet<_> =
        words.filter(|word| word.matches('_').count() > 4 && !word.contains([' ', '/'])).collect();
    assert!(named.len() > 25, "{named:?}");
    let missing: Vec<_> = named.into_iter().filter(|name| !code.contains(&format!("fn {name}("))).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn every_link_of_a_document_leads_to_a_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = ["README.md", "docs/alerts.md", "docs/credentials.md", "docs/policies.md", "docs/recipes.md"];
    let more = ["docs/protocol.md", "docs/security.md", "docs/sizing.md", "docs/monitoring/README.md"];
    for page in pages.into_iter().chain(more) {
        let text = fs::read_to_string(root.join(page)).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        for link in links.filter(|link| !link.starts_with("http")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if file.is_empty() { root.join(page) } else { root.join(page).parent().unwrap().join(file) };
            assert!(target.exists(), "{page}: {link}");
            assert!(
                heading.is_empty() || headings(&fs::read_to_string(target).unwrap()).contains(heading),
                "{page}: {link}"
            );
        }
    }
}

/// The numbers that comments cite the protocol by: `PROTOCOL 8.2, 8.7`, `PROTOCOL 1.2 to 1.4`.
fn cited(code: &str) -> BTreeSet<String> {
    let of_citation = |c: char| c.is_ascii_digit() || ".,to ".contains(c);
    let lists = code.split("PROTOCOL ").skip(1).map(|rest| rest.split(|c| !of_citation(c)).next());
    let words = lists.flatten().flat_map(str::split_whitespace).map(|word| word.trim_matches(['.', ',']));
    words.filter(|word| word.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned).collect()
}

#[test]
fn every_fact_of_the_protocol_that_the_code_cites_is_told_and_no_other() {
    let cited = cited(&(texts("src", ".rs") + &texts("tests", ".rs")));
    assert!(cited.len() > 30, "{cited:?}");
    let page = texts("docs", "protocol.md");
    let numbers =
        page.lines().filter(|line| line.starts_with("##")).filter_map(|line| line.split(' ').nth(1));
    let told: BTreeSet<_> = numbers.map(|number| number.trim_end_matches('.').to_owned()).collect();
    assert_eq!(cited.difference(&told).collect::<Vec<_>>(), Vec::<&String>::new(), "not in docs/protocol.md");
    // A chapter holds what is cited below it; `1.2 to 1.4` cites 1.3.
    let of_chapter = |number: &&String| !number.contains('.') || *number == "1.3";
    let uncited: Vec<_> = told.difference(&cited).filter(|number| !of_chapter(number)).collect();
    assert_eq!(uncited, Vec::<&String>::new(), "cited nowhere");
}

/// What a page's headings are called in links.
fn headings(page: &str) -> BTreeSet<String> {
    let titles = page
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_matches(['#', ' ']).to_lowercase());
    let kept = |title: String| {
        title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>()
    };
    titles.map(|title| kept(title).replace(' ', "-")).collect()
}

#[tokio::test]
async fn every_path_of_the_mount_is_in_the_readme_and_the_other_way_round() {
    let readme = readme();
    let written: BTreeSet<_> = sections(&readme).iter().flat_map(Section::endpoints).collect();
    let offered: BTreeSet<_> = offered().await.into_keys().collect();
    assert_eq!(
        written.difference(&offered).collect::<Vec<_>>(),
        Vec::<&Endpoint>::new(),
        "only in the README"
    );
    assert_eq!(
        offered.difference(&written).collect::<Vec<_>>(),
        Vec::<&Endpoint>::new(),
        "not in the README"
    );
}

#[tokio::test]
async fn every_field_is_named_where_the_readme_tells_of_its_path() {
    let (readme, offered) = (readme(), offered().await);
    let mut missing = Vec::new();
    for section in sections(&readme) {
        let mentions = section.mentions();
        for endpoint in section.endpoints() {
            let fields = offered.get(&endpoint).into_iter().flatten();
            let unnamed = fields.filter(|field| !mentions.contains(field.as_str()));
            missing.extend(unnamed.map(|field| format!("{}: {endpoint:?} {field}", section.title)));
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[tokio::test]
async fn every_field_that_the_readme_lists_is_one() {
    let (readme, offered) = (readme(), offered().await);
    for section in sections(&readme) {
        let endpoints = section.endpoints();
        let fields: BTreeSet<_> = endpoints.iter().filter_map(|it| offered.get(it)).flatten().collect();
        for field in section.listed_fields() {
            assert!(
                fields.iter().any(|known| *known == field),
                "{}: there is no field {field}",
                section.title
            );
        }
    }
}

/// The rules of an HCL policy, and what each allows.
fn rules(policy: &str) -> BTreeMap<String, String> {
    let rule = |block: &str| {
        let (path, rest) = block.split_once('"')?;
        Some((path.replace("${local.mount}", "openai"), rest.split(['[', ']']).nth(1)?.to_owned()))
    };
    policy.split("path \"").skip(1).filter_map(rule).collect()
}

#[test]
fn the_operator_of_terraform_may_do_what_the_operator_of_the_documents_may() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/policies.md")).unwrap();
    let terraform = fs::read_to_string(root.join("bootstrap/terraform/policies.tf")).unwrap();
    let (_, documented) = page.split_once("# operator\n").unwrap();
    let (_, given) = terraform.split_once("\"operator\" {").unwrap();
    let documented = rules(documented.split("```").next().unwrap());
    assert!(documented.len() > 10);
    assert_eq!(rules(given), documented);
}
