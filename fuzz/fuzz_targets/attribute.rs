//! Fuzzes the attribute: any arguments on any item must give a limited item or an error.
//!
//! The first line of an input holds the arguments, and the rest is an item. The arguments are tried on that
//! item, if there is one, and always on a handler:
//!
//! ```text
//! name = "hardwork", per_minute = 5
//! async fn calculate() {}
//! ```
#![no_main]
#![allow(dead_code)] // the procedural macro, which uses the rest, is not included

#[path = "../../macros/src/args/mod.rs"]
mod args;
#[path = "../../macros/src/errors.rs"]
mod errors;
#[path = "../../macros/src/expand/mod.rs"]
mod expand;
#[path = "../../macros/src/key.rs"]
mod key;
#[path = "../../macros/src/policy.rs"]
mod policy;
#[path = "../../macros/src/returns.rs"]
mod returns;
#[path = "../../macros/src/target/mod.rs"]
mod target;
#[path = "../../macros/src/values.rs"]
mod values;
#[path = "../../macros/src/words.rs"]
mod words;

use libfuzzer_sys::fuzz_target;
use proc_macro2::{TokenStream, TokenTree};

const HANDLER: &str = "async fn handler(Path(id): Path<u32>) -> String { id.to_string() }";
const WINDOWS: [&str; 4] = ["per_second", "per_minute", "per_hour", "per_day"];
const OTHERS: [&str; 17] = [
    "name",
    "quota",
    "algorithm",
    "burst",
    "by_resource",
    "by_route",
    "key",
    "cost",
    "quotas_by",
    "skip_if",
    "give_back_if",
    "status",
    "message",
    "on_store_error",
    "shadow",
    "policy",
    "crate",
];

/// The compiler has its own limits on nesting.
const MAX_DEPTH: usize = 40;

fuzz_target!(|input: &[u8]| {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let (args, item) = input.split_once('\n').unwrap_or((input, ""));
    if depth(input) > MAX_DEPTH {
        return;
    }
    let Ok(args) = args.parse::<TokenStream>() else { return };
    let Ok(item) = item.parse::<TokenStream>() else { return };

    let handler: TokenStream = HANDLER.parse().expect("tokens");
    let expansion = expand::rate_limit(args.clone(), &handler);
    syn::parse2::<syn::File>(expansion.clone()).expect("items");
    let faulty = has(&expansion, "compile_error");
    assert!(faulty || limits(&expansion), "nothing limits {expansion}");
    if let Some(fault) = fault(&args) {
        assert!(faulty, "{fault}: {args}");
    }
    if !item.is_empty() {
        let expansion = expand::rate_limit(args, &item);
        assert!(has(&expansion, "compile_error") || limits(&expansion), "nothing limits {expansion}");
    }
});

/// Returns what is plainly wrong with the arguments, if anything.
fn fault(args: &TokenStream) -> Option<&'static str> {
    let tokens: Vec<TokenTree> = args.clone().into_iter().collect();
    // Commas separate arguments, except inside a generic type or a closure.
    if tokens.iter().any(|token| matches!(token, TokenTree::Punct(punct) if "<|".contains(punct.as_char()))) {
        return None;
    }
    let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
    let arguments: Vec<&[TokenTree]> =
        tokens.split(is_comma).filter(|argument| !argument.is_empty()).collect();
    let names: Vec<String> = arguments.iter().map(|argument| argument[0].to_string()).collect();
    let is_known = |name: &String| WINDOWS.contains(&name.as_str()) || OTHERS.contains(&name.as_str());
    let given = |wanted: &str| names.iter().filter(|name| *name == wanted).count();
    let has_quota = given("quota") > 0 || WINDOWS.iter().any(|window| given(window) > 0);
    let is_zero = |argument: &&[TokenTree]| {
        argument.len() == 3
            && WINDOWS.contains(&argument[0].to_string().as_str())
            && argument[1].to_string() == "="
            && argument[2].to_string() == "0"
    };
    let faults = [
        (!names.iter().all(is_known), "unknown"),
        (given("name") == 0 && given("policy") == 0, "no name"),
        (!has_quota && given("policy") == 0, "no quota"),
        (WINDOWS.iter().chain(&OTHERS).any(|name| *name != "quota" && given(name) > 1), "given twice"),
        (given("by_resource") > 0 && given("by_route") > 0, "two resources"),
        (given("policy") > 0 && (has_quota || given("name") > 0), "policy beside others"),
        (arguments.iter().any(is_zero), "zero"),
    ];
    faults.into_iter().find(|(is_faulty, _)| *is_faulty).map(|(_, fault)| fault)
}

/// Whether policies are declared, and something checks them.
fn limits(expansion: &TokenStream) -> bool {
    has(expansion, "POLICIES") && (has(expansion, "Permit") || has(expansion, "guard"))
}

fn has(tokens: &TokenStream, word: &str) -> bool {
    tokens.clone().into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == word,
        TokenTree::Group(group) => has(&group.stream(), word),
        _ => false,
    })
}

/// Returns how deep brackets and prefix operators nest at most, roughly.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for c in text.chars() {
        match c {
            '(' | '[' | '{' | '<' | '&' | '*' | '!' | '-' => depth += 1,
            ')' | ']' | '}' | '>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}
