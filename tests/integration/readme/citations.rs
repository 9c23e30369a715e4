//! Tests, protocol facts and policies that pages name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::{pages, root, texts};

#[test]
fn every_test_that_a_page_names_is_there() {
    let code = texts("src", ".rs") + &texts("tests", ".rs");
    let text: String = pages().into_iter().map(|page| page.text).collect();
    let words = text.split('`').skip(1).step_by(2);
    // Names of fields and metrics are shorter.
    let named: BTreeSet<_> =
        words.filter(|word| word.matches('_').count() > 4 && !word.contains([' ', '/'])).collect();
    assert!(named.len() > 25, "{named:?}");
    let missing: Vec<_> = named.into_iter().filter(|name| !code.contains(&format!("fn {name}("))).collect();
    assert_eq!(missing, Vec::<&str>::new());
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
    let page = texts("docs", "protocol.md") + &texts("docs", "protocol-sdk.md");
    let numbers =
        page.lines().filter(|line| line.starts_with("##")).filter_map(|line| line.split(' ').nth(1));
    let told: BTreeSet<_> = numbers.map(|number| number.trim_end_matches('.').to_owned()).collect();
    assert_eq!(
        cited.difference(&told).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "not in docs/protocol*.md"
    );
    // A chapter holds what is cited below it; `1.2 to 1.4` cites 1.3.
    let of_chapter = |number: &&String| !number.contains('.') || *number == "1.3";
    let uncited: Vec<_> = told.difference(&cited).filter(|number| !of_chapter(number)).collect();
    assert_eq!(uncited, Vec::<&String>::new(), "cited nowhere");
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
    let page = fs::read_to_string(root().join("docs/policies.md")).unwrap();
    let terraform = fs::read_to_string(root().join("bootstrap/terraform/policies.tf")).unwrap();
    let (_, documented) = page.split_once("# operator\n").unwrap();
    let (_, given) = terraform.split_once("\"operator\" {").unwrap();
    let documented = rules(documented.split("```").next().unwrap());
    assert!(documented.len() > 10);
    assert_eq!(rules(given), documented);
}
