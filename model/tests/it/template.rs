//! Chat templates against Python's Jinja (`tests/templates`), and against hostile ones.

use crate::random::Random;
use model::template::{
    ChatInput, ChatTemplate, FUEL_MAX, Fault, OUTPUT_BYTES_MAX, Reasoning, SOURCE_BYTES_MAX,
    TAG_BYTES_MAX, TemplateError, UnixSeconds,
};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join("tests/templates").join(name)).unwrap()
}

fn special_tokens() -> Map<String, Value> {
    Map::from_iter([("bos_token".into(), "<s>".into()), ("eos_token".into(), "</s>".into())])
}

fn compile(source: &str) -> Result<ChatTemplate, TemplateError> {
    ChatTemplate::from_source(source, special_tokens())
}

fn inputs() -> Vec<(String, ChatInput)> {
    let Value::Object(inputs) = serde_json::from_str(&read("inputs.json")).unwrap() else {
        panic!("inputs.json is an object")
    };
    inputs.iter().map(|(name, chat)| (name.clone(), input(chat))).collect()
}

fn input(chat: &Value) -> ChatInput {
    ChatInput {
        messages: chat["messages"].clone(),
        tools: chat.get("tools").cloned(),
        arguments: chat.get("arguments").and_then(Value::as_object).cloned().unwrap_or_default(),
    }
}

fn hello() -> ChatInput {
    input(&json!({"messages": [{"role": "user", "content": "hello"}]}))
}

fn render(source: &str) -> Result<String, TemplateError> {
    compile(source)?.render(&hello()).map(|prompt| prompt.text)
}

fn source(name: &str) -> String {
    if name != "tiny-r1" {
        return read(&format!("{name}.jinja"));
    }
    let config = root().join("../models/tiny-r1/tokenizer_config.json");
    let config: Value = serde_json::from_str(&std::fs::read_to_string(config).unwrap()).unwrap();
    config["chat_template"].as_str().unwrap().into()
}

const NAMES: [&str; 8] = [
    "alternating_style",
    "deepseek_style",
    "llama3_style",
    "operations",
    "qwen2_style",
    "qwen3_style",
    "tiny-r1",
    "whitespace",
];

#[test]
fn templates_render_as_in_python() {
    for name in NAMES {
        let golden: Value = serde_json::from_str(&read(&format!("{name}.golden.json"))).unwrap();
        let template = compile(&source(name)).unwrap();
        for (input_name, input) in inputs() {
            let expected = &golden[&input_name];
            let got = match template.render(&input) {
                Ok(prompt) => json!({"text": prompt.text}),
                Err(TemplateError::Raised { message }) => json!({"raised": message}),
                Err(TemplateError::Render { .. }) if expected.get("fails").is_some() => {
                    expected.clone()
                }
                Err(error) => json!({"fails": error.to_string()}),
            };
            if let (Some(got), Some(expected)) = (got["text"].as_str(), expected["text"].as_str()) {
                for (got, expected) in got.lines().zip(expected.lines()) {
                    assert_eq!(got, expected, "{name}, {input_name}");
                }
            }
            assert_eq!(&got, expected, "{name}, {input_name}");
        }
    }
}

#[test]
fn reasoning_is_open_where_the_prompt_opens_it() {
    let reasoning = |name: &str, input: &ChatInput| {
        compile(&source(name)).unwrap().render(input).unwrap().reasoning
    };
    assert_eq!(reasoning("tiny-r1", &hello()), Reasoning::Open);
    assert_eq!(reasoning("qwen3_style", &hello()), Reasoning::Open);
    assert_eq!(reasoning("qwen2_style", &hello()), Reasoning::Closed);
    let mut quiet = hello();
    quiet.arguments.insert("enable_thinking".into(), false.into());
    assert_eq!(reasoning("qwen3_style", &quiet), Reasoning::Closed);
    let mentions = input(&json!({"messages": [{"role": "user", "content": "what is <think> ?"}]}));
    assert_eq!(reasoning("qwen2_style", &mentions), Reasoning::Closed);
}

#[test]
fn a_folder_is_read_as_hugging_face_does() {
    let template = ChatTemplate::open(&root().join("../models/tiny-r1")).unwrap();
    let prompt = template.render(&hello()).unwrap();
    assert_eq!(prompt.text, "<｜begin▁of▁sentence｜><｜User｜>hello<｜Assistant｜><think>\n");

    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        std::fs::write(directory.path().join(name), content).unwrap();
    };
    let shown = |input: &ChatInput| {
        ChatTemplate::open(directory.path()).and_then(|t| t.render(input)).map(|p| p.text)
    };
    let mut with_tools = hello();
    with_tools.tools = Some(json!([]));

    let absent = shown(&hello()).unwrap_err();
    assert!(matches!(absent, TemplateError::Absent { .. }));
    assert!(absent.to_string().contains("/v1/completions"), "{absent}");
    assert_eq!(absent.fault(), Fault::Request);

    write(
        "tokenizer_config.json",
        r#"{"bos_token": {"content": "[B]"}, "eos_token": null, "chat_template": [
            {"name": "tool_use", "template": "tools"}, {"name": "default", "template": "{{ bos_token }}{{ eos_token }}d"}]}"#,
    );
    assert_eq!(shown(&hello()).unwrap(), "[B]d");
    assert_eq!(shown(&with_tools).unwrap(), "tools");
    write("chat_template.jinja", "{{ bos_token }} file");
    assert_eq!(shown(&with_tools).unwrap(), "[B] file");
    write("chat_template.jinja", "{% if %}");
    assert!(matches!(shown(&hello()), Err(TemplateError::Syntax { line: 1, .. })));
    write("tokenizer_config.json", "{");
    let error = shown(&hello()).unwrap_err();
    assert!(matches!(error, TemplateError::Malformed { .. }), "{error}");
    assert_eq!(error.fault(), Fault::Model);
}

#[test]
fn arguments_reach_the_template_and_replace_nothing_fixed() {
    let mut chat = hello();
    for name in ["messages", "tools", "add_generation_prompt", "extra", "bos_token"] {
        chat.arguments.insert(name.into(), "given".into());
    }
    let source =
        "{{ messages|length }} {{ tools }} {{ add_generation_prompt }} {{ extra }} {{ bos_token }}";
    let prompt = compile(source).unwrap().render(&chat).unwrap();
    assert_eq!(prompt.text, "1 None True given given");
}

#[test]
fn the_date_is_an_argument() {
    let at = |format: &str, seconds: u64| {
        let source = format!("{{{{ strftime_now({format:?}) }}}}");
        compile(&source).unwrap().render_at(&hello(), UnixSeconds(seconds)).map(|p| p.text)
    };
    assert_eq!(at("%d %b %Y", 1_709_164_800).unwrap(), "29 Feb 2024");
    assert_eq!(
        at("%Y-%m-%d %H:%M:%S %A %j", 1_735_689_599).unwrap(),
        "2024-12-31 23:59:59 Tuesday 366"
    );
    assert_eq!(at("%B %-d, %y, %I %p, %a %%", 0).unwrap(), "January 1, 70, 12 AM, Thu %");
    assert_eq!(at("%F %T", 951_782_400).unwrap(), "2000-02-29 00:00:00");
    assert_eq!(at("%F", u64::MAX).unwrap(), "9999-12-31");
    assert!(at("%Q", 0).unwrap_err().to_string().contains("%Q"));
    assert!(at("%", 0).is_err());
    assert!(render("{{ strftime_now('%Y') }}").is_err());
    assert_eq!(render("{{ strftime_now is defined }}").unwrap(), "False");
}

#[test]
fn limits_hold() {
    let too_long = format!("{{{{ x }}}}{}", " ".repeat(SOURCE_BYTES_MAX));
    assert!(matches!(compile(&too_long), Err(TemplateError::TooLarge { .. })));
    let long_tag = format!("{{{{ {}x }}}}", " ".repeat(TAG_BYTES_MAX));
    assert!(matches!(compile(&long_tag), Err(TemplateError::TagTooLong { .. })));
    let endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
    assert!(matches!(render(endless), Err(TemplateError::OutOfFuel)), "{FUEL_MAX} units");
    let mut long = hello();
    long.messages[0]["content"] = "x".repeat(OUTPUT_BYTES_MAX / 2).into();
    let twice =
        compile("{{ messages[0].content }}{{ messages[0].content }}{{ messages[0].content }}");
    assert!(matches!(twice.unwrap().render(&long), Err(TemplateError::OutputTooLong)));
    for source in [
        "{{ 'x' * 1000000000 }}",
        "{{ '{:1000000000}'.format('x') }}",
        "{{ '%1000000000s'|format('x') }}",
        "{{ 'x'|indent(1000000000) }}",
        "{{ 'x'|center(1000000000) }}",
        "{{ [1]|tojson(indent=1000000000) }}",
        "{{ ('x' * 100000).replace('x', 'y' * 100000) }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set ns = namespace(x='xx') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x|tojson }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x|tojson(sort_keys=true) }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ '-'.join(ns.x) }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x|string|length }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ raise_exception(ns.x) }}",
        "{% include 'x' %}",
        "{{ 2 ** 100000000 }}",
    ] {
        assert!(render(source).is_err(), "{source}");
    }
}

#[test]
fn deep_templates_are_refused() {
    let patterns = [
        ("{{ ", "(", "1 }}"),
        ("{{ ", "not ", "1 }}"),
        ("{{ 1", "+1", " }}"),
        ("{{ 1", "|e", " }}"),
        ("{{ x", ".y", " }}"),
        ("{{ x", "[0]", " }}"),
        ("{{ x", "()", " }}"),
        ("{{ ", "-", "1 }}"),
        ("{{ 1", " if 1 else 1", " }}"),
        ("{{ 1", "**1", " }}"),
        ("{{ 1", "<1", " }}"),
        ("{{ 1", " is x", " }}"),
        ("{{ ", "[", "1 }}"),
        ("", "{% if x %}", ""),
        ("{% if 1 %}", "{%elif 1%}", "{% endif %}"),
        ("{{ 1", "~1", "}}"),
        ("{{ 1", " or 1", "}}"),
        ("{{ 1", " in x", "}}"),
    ];
    for (start, repeated, end) in patterns {
        for bytes in [TAG_BYTES_MAX, SOURCE_BYTES_MAX] {
            let count = (bytes - start.len() - end.len()) / repeated.len();
            render(&format!("{start}{}{end}", repeated.repeat(count))).ok();
        }
    }
}

/// What templates are made of, and what breaks them.
const PIECES: [&str; 44] = [
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "-%}",
    "{%-",
    "messages",
    "[0]",
    "[-1]",
    "[::-1]",
    "['role']",
    ".content",
    "|tojson",
    "|trim",
    "|length",
    "|join(',')",
    "|map(attribute='role')",
    "|selectattr('role')",
    " for m in messages ",
    " endfor ",
    " if ",
    " else ",
    " endif ",
    " set x = ",
    "namespace(a=1)",
    ".split('<')",
    ".strip()",
    "'",
    "\"",
    "\\",
    "(",
    ")",
    "~",
    "+",
    " * 99999999 ",
    " ** 9999 ",
    " range(1000000)",
    "\n",
    "é😀",
    "<think>",
    " generation ",
    "raise_exception('x')",
];

fn mutate(random: &mut Random, source: &str) -> String {
    let mut characters: Vec<char> = source.chars().collect();
    for _ in 0..=random.below(4) {
        let at = random.below(characters.len() + 1);
        let end = (at + random.below(8)).min(characters.len());
        let piece = random.pick(&PIECES).chars();
        match random.below(3) {
            0 => drop(characters.splice(at..at, piece)),
            1 => drop(characters.splice(at..end, piece)),
            _ => drop(characters.drain(at..end)),
        }
    }
    characters.into_iter().collect()
}

#[test]
fn hostile_templates_neither_panic_nor_grow() {
    let mut random = Random(4);
    let sources: Vec<String> = NAMES.iter().map(|name| source(name)).collect();
    let inputs = inputs();
    let mut rendered = 0;
    for round in 0..100_000 {
        let source = if round % 2 == 0 {
            (0..random.below(14)).map(|_| *random.pick(&PIECES)).collect()
        } else {
            let source = random.pick(&sources).clone();
            mutate(&mut random, &source)
        };
        let Ok(template) = compile(&source) else { continue };
        let (_, input) = random.pick(&inputs);
        if let Ok(prompt) = template.render(input) {
            assert!(prompt.text.len() <= OUTPUT_BYTES_MAX);
            rendered += 1;
        }
    }
    assert!(rendered > 10_000, "{rendered}");
}

fn any_json(random: &mut Random, depth: usize) -> Value {
    let texts = [
        "role",
        "user",
        "content",
        "</think>",
        "",
        "type",
        "function",
        "tool_calls",
        "é\u{0}",
        "tool",
    ];
    match random.below(if depth == 0 { 5 } else { 7 }) {
        0 => Value::Null,
        1 => (random.below(2) == 0).into(),
        2 => json!(random.next() as i64),
        3 => json!(f64::from_bits(random.next())),
        4 => json!(random.pick(&texts)),
        5 => (0..random.below(4)).map(|_| any_json(random, depth - 1)).collect(),
        _ => (0..random.below(4))
            .map(|_| (random.pick(&texts).to_string(), any_json(random, depth - 1)))
            .collect(),
    }
}

#[test]
fn hostile_messages_neither_panic_nor_grow() {
    let mut random = Random(5);
    let templates: Vec<ChatTemplate> =
        NAMES.iter().map(|name| compile(&source(name)).unwrap()).collect();
    for _ in 0..100_000 {
        let message =
            json!({"role": any_json(&mut random, 0), "content": any_json(&mut random, 2)});
        let chat = ChatInput {
            messages: match random.below(3) {
                0 => any_json(&mut random, 4),
                _ => json!([message, any_json(&mut random, 2)]),
            },
            tools: (random.below(2) == 0).then(|| any_json(&mut random, 3)),
            arguments: any_json(&mut random, 2).as_object().cloned().unwrap_or_default(),
        };
        random.pick(&templates).render(&chat).ok();
    }
}

#[test]
fn deep_messages_are_rendered_or_refused() {
    let mut deep = json!("x");
    for _ in 0..120 {
        deep = json!([deep]);
    }
    let chat = input(&json!({"messages": [{"role": "user", "content": deep}], "tools": [deep]}));
    for name in NAMES {
        compile(&source(name)).unwrap().render(&chat).ok();
    }
    let prompt = compile("{{ tools|tojson }}").unwrap().render(&chat).unwrap();
    assert_eq!(prompt.text.len(), 3 + 2 * 121);
}
