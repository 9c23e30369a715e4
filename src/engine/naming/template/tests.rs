//! Tests of valid, invalid and arbitrary templates.

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

fn render_at(template: &str, now: &str) -> String {
    let template = Template::parse(template).unwrap_or_else(|error| panic!("{template}: {error}"));
    let values = Values { role_name: "My-Role", project_name: "research", ..Values::default() };
    let now = now.parse::<DateTime<Utc>>().unwrap();
    template.render(&values, now, &mut StdRng::seed_from_u64(1)).unwrap().text
}

fn render(template: &str) -> String {
    render_at(template, "2025-06-01T12:00:00.5Z")
}

fn refusal(template: &str) -> String {
    Template::parse(template).expect_err(template).to_string()
}

#[test]
fn variables_and_text_are_rendered() {
    assert_eq!(render("vault-{{.RoleName}} {{ .ProjectName }}"), "vault-My-Role research");
    assert_eq!(
        render(r#"\{{"a"}}\ & <b> }} {{`"{{x}}"`}} {{"\u00e4\n\\\""}} {{-7}}"#),
        "\\a\\ & <b> }} \"{{x}}\" ä\n\\\" -7"
    );
}

#[test]
fn the_random_suffix_is_the_same_within_one_rendering() {
    let text = render("{{.RandomSuffix}} {{.RandomSuffix}}");
    let (one, two) = text.split_once(' ').unwrap();
    assert_eq!(one, two);
    assert!(one.len() == 8 && one.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{one}");
}

#[test]
fn random_parts_have_the_requested_length_and_differ() {
    let text = render("{{random 20}} {{20 | random}} {{uuid}} {{uuid}}");
    let parts: Vec<&str> = text.split(' ').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [20, 20, 36, 36]);
    assert!(parts[0] != parts[1] && parts[2] != parts[3]);
    assert!(parts[0].bytes().all(|b| b.is_ascii_alphanumeric()));
}

#[test]
fn functions_return_the_same_as_vaults() {
    for (template, text) in [
        ("{{ .RoleName | truncate 4 | uppercase }}", "MY-R"),
        ("{{.RoleName|lowercase}}", "my-role"),
        ("{{truncate 100 .RoleName}}", "My-Role"),
        (r#"{{replace "-" "_" .RoleName}}"#, "My_Role"),
        (r#"{{.RoleName | replace "Role" ""}}"#, "My-"),
        (r#"{{"hello" | sha256}}"#, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"),
        (r#"{{base64 "a?>"}}"#, "YT8+"),
        // The first 8 characters, then 8 of the SHA-256 of the rest, "helloworld".
        (r#"{{truncate_sha256 16 "somethinhelloworld"}}"#, "somethin936a185c"),
        (r#"{{truncate_sha256 18 "somethinhelloworld"}}"#, "somethinhelloworld"),
        ("{{unix_time}} {{unix_time_millis}}", "1748779200 1748779200500"),
        (r#"{{timestamp "2006-01-02T15:04:05Z"}}"#, "2025-06-01T12:00:00Z"),
        (r#"{{printf "%s-%s" .RoleName (truncate 3 "abcdef")}}"#, "My-Role-abc"),
        (r#"{{(printf "%05d|%-4s|%.2s|%x|%q|%v%%" 42 "ab" "abc" 255 "q" 7)}}"#, "00042|ab  |ab|ff|\"q\"|7%"),
        (r#"{{printf "%s" unix_time}}"#, "1748779200"),
        (r#"{{ ((("x")) | printf "%s%s" "y") | uppercase }}"#, "YX"),
    ] {
        assert_eq!(render(template), text, "{template}");
    }
}

#[test]
fn layouts_follow_go() {
    for (layout, text) in [
        ("2006-01-02 15:04:05.000", "2024-02-09 21:03:07.045"),
        ("Mon Jan _2 3:4:5PM 2006", "Fri Feb  9 9:3:7PM 2024"),
        ("Monday, 02-January-06 03:04 pm MST", "Friday, 09-February-24 09:03 pm UTC"),
        ("Z07:00 -0700 -07:00 Z0700", "Z +0000 +00:00 Z"),
        ("002 __2 1/2 _2006", "040  40 2/9 _2024"),
        (".999 .99 .000000000 ,0 .05", ".045 .04 .045000000 ,0 .07"),
        ("Janet Month 7 20", "Janet Month 7 90"),
        ("ü{}", "ü{}"),
    ] {
        assert_eq!(
            render_at(&format!("{{{{timestamp `{layout}`}}}}"), "2024-02-09T21:03:07.045Z"),
            text,
            "{layout}"
        );
    }
    assert_eq!(render_at("{{timestamp `3PM 15 .999`}}", "2024-02-09T00:00:00Z"), "12AM 00 ");
}

#[test]
fn trim_markers_and_comments_are_removed() {
    assert_eq!(render("a \n{{- /* why */ -}}\t b"), "ab");
    assert_eq!(render("a {{/* {{ | ( */}} b"), "a  b");
    assert_eq!(render("a {{- \"x\" -}} b {{-3}} {{ 4 -}}  "), "axb -3 4");
    assert_eq!(render("{{\n\"x\"\n|\nuppercase\n}}"), "X");
}

#[test]
fn an_error_names_the_unknown_word() {
    for (template, sentence) in [
        ("{{foo}}", r#"function "foo" is not known; known are base64, lowercase, printf"#),
        (
            "ä{{.Role}}",
            r#"variable ".Role" is not known; known are .RoleName, .ProjectName, .RandomSuffix, .DisplayName and .EntityName (at character 4"#,
        ),
        ("{{.RoleName.X}}", r#"variable ".RoleName.X" is not known"#),
        ("{{.}}", r#"variable "." is not known"#),
        ("{{if .RoleName}}x{{end}}", r#""if" is not supported"#),
        ("{{range .}}", r#""range" is not supported"#),
        ("{{$x := 1}}", r#""$x" is not supported"#),
        ("{{len .RoleName}}", r#"function "len" is not known"#),
        (r#"{{printf "%c" 1}}"#, r#"printf does not know "%c""#),
        (r#"{{printf "%[1]s" "x"}}"#, r#"printf does not know "%[""#),
        (r#"{{"\x41"}}"#, r"the escape \x is not known"),
    ] {
        let refusal = refusal(template);
        assert!(refusal.contains(sentence), "{template}: {refusal}");
    }
}

#[test]
fn an_error_names_the_position() {
    for (template, sentence) in [
        ("abc{{random 20", "{{ has no closing }} (at character 4 of the template)"),
        ("{{}}", "a value is missing (at character 3"),
        ("{{.RoleName | }}", "a value is missing (at character 15"),
        ("{{| uppercase}}", "a value is missing"),
        ("{{()}}", "a value is missing"),
        ("{{(.RoleName}}", "( has no closing )"),
        ("{{.RoleName)}}", "unexpected ')'"),
        ("{{\"a\"\"b\"}}", "unexpected '\"'"),
        ("{{random(5)}}", "unexpected '('"),
        ("{{{.RoleName}}}", "unexpected '{'"),
        ("{{'a'}}", "unexpected '\\''"),
        ("{{\"a}}", "a text has no closing \""),
        ("{{`a}}", "a text has no closing `"),
        ("{{/* a}}", "a comment must be written as {{/* ... */}}"),
        ("{{/* a */ .RoleName}}", "a comment must be written as"),
        ("{{.RoleName .ProjectName}}", "only a function can be given arguments"),
        ("{{\"x\" | .RoleName}}", "only a function can be given arguments"),
        ("{{random}}", "random takes 1 arguments, but was given 0"),
        ("{{uppercase random 5}}", "random takes 1 arguments, but was given 0"),
        ("{{.RoleName | truncate}}", "truncate takes 2 arguments, but was given 1"),
        ("{{truncate .RoleName 5}}", "argument 1 of truncate must be a number"),
        ("{{uppercase 5}}", "argument 1 of uppercase must be a text"),
        ("{{random 0}}", "the length given to random must be from 1 to 512"),
        ("{{truncate_sha256 8 .RoleName}}", "the length given to truncate_sha256 must be from 9"),
        ("{{random 1.5}}", "\"1.5\" is not a whole number"),
        ("{{random 010}}", "\"010\" is not a whole number"),
        ("{{random 99999999999999999999}}", "is not a whole number"),
        ("{{printf .RoleName}}", "the format of printf must be written out"),
        ("{{printf \"%s\"}}", "printf's format needs 1 arguments, but was given 0"),
        ("{{printf \"%d\" .RoleName}}", "argument 2 of printf must be a number"),
        ("{{printf \"%9999d\" 1}}", "printf does not know \"%9999d\""),
    ] {
        let refusal = refusal(template);
        assert!(refusal.contains(sentence), "{template}: {refusal}");
    }
}

#[test]
fn size_and_depth_are_bounded() {
    assert!(refusal(&"a".repeat(100_000)).contains("less than 100000 bytes"));
    assert!(Template::parse(&"a".repeat(99_999)).is_ok());
    let nested = format!("{{{{{}1{}}}}}", "(".repeat(90), ")".repeat(90));
    assert!(refusal(&nested).contains("too many parentheses"));
    assert!(refusal(&"{{uuid}}".repeat(257)).contains("too many {{ }}"));
    assert_eq!(render(&format!("{{{{`a`{}}}}}", " | lowercase".repeat(32))), "a");
    assert_eq!(render(&format!("{{{{`a`{}}}}}", " | base64".repeat(22))).len(), 3488);
}

#[test]
fn a_text_cannot_grow_without_bound() {
    let grow = format!("| replace `a` `{}`", "a".repeat(3_000));
    let template = Template::parse(&format!("{{{{`a` {grow}{grow}{grow}}}}}")).unwrap();
    let values = Values::default();
    let error = template.render(&values, DateTime::UNIX_EPOCH, &mut StdRng::seed_from_u64(1)).unwrap_err();
    assert!(error.to_string().contains("grows beyond"), "{error}");
}

/// Valid values.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(".RoleName".to_owned()),
        Just(".RandomSuffix".to_owned()),
        Just("uuid".to_owned()),
        Just("unix_time".to_owned()),
        (1..40).prop_map(|n| format!("(random {n})")),
        "[^`]{0,9}".prop_map(|text| format!("`{text}`")),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (1..40, inner.clone()).prop_map(|(n, v)| format!("(truncate {n} {v})")),
            (9..40, inner.clone()).prop_map(|(n, v)| format!("({v} | truncate_sha256 {n})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(printf `%s-%10v` {a} {b})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("(replace {a} {b} {c})")),
            inner.prop_map(|v| format!("({v} | sha256 | base64 | lowercase | timestamp)")),
        ]
    })
}

proptest! {
    #[test]
    fn any_template_syntax_is_rendered_or_refused(text in r#"([-{}|()."`/* $a-z0-9%\\é]|\{\{|\}\}|random |uuid){0,60}"#) {
        if let Ok(template) = Template::parse(&text) {
            let values = Values { role_name: "r", project_name: "p", ..Values::default() };
            template.render(&values, Utc::now(), &mut StdRng::seed_from_u64(1)).ok();
        }
    }

    #[test]
    fn any_unicode_is_rendered_or_refused(text in "\\PC{0,200}", layout in "[^`]{0,40}", seconds in -1_i64 << 40..1 << 40) {
        let now = DateTime::from_timestamp(seconds, 0).unwrap();
        let values = Values { role_name: &text, project_name: &text, ..Values::default() };
        Template::parse(&text).ok();
        let template = Template::parse(&format!("{{{{timestamp `{layout}`}}}}")).unwrap();
        template.render(&values, now, &mut StdRng::seed_from_u64(1)).unwrap();
    }

    #[test]
    fn every_valid_template_is_rendered(before in "[^{}]{0,9}", value in value(), role in "\\PC{0,20}") {
        let template = Template::parse(&format!("{before}{{{{ {value} }}}}")).unwrap();
        let values = Values { role_name: &role, project_name: "p", ..Values::default() };
        let render = || template.render(&values, DateTime::UNIX_EPOCH, &mut StdRng::seed_from_u64(1)).unwrap();
        let rendering = render();
        prop_assert!(rendering.text.starts_with(&before));
        prop_assert_eq!(rendering.text, render().text);
    }

    #[test]
    fn text_without_braces_is_unchanged(text in "[^{]{0,200}") {
        prop_assert_eq!(render(&text), text);
    }
}
