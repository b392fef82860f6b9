//! The table of all arguments, and the words that some of them take.

use syn::ext::IdentExt;
use syn::{Ident, LitStr};

use crate::words;

/// What an argument is for. The four of one window each are of one kind, and so are the two of a scope.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `name = "…"`
    Name,
    /// `per_minute = N`, with the window in milliseconds
    Per(u64),
    /// `quota(N, per = "…")`
    Quota,
    /// `by_resource` or `by_route`
    Scope,
    /// `status = 429`
    Status,
    /// `message = "…"`
    Message,
    /// `policy = PATH`
    Policy,
    /// `algorithm = token_bucket`
    Algorithm,
    /// `burst = 10`
    Burst,
    /// `key = ip`
    Key,
    /// `cost = 2`, or a function
    Cost,
    /// `quotas_by = function`
    QuotasBy,
    /// `skip_if = function`
    SkipIf,
    /// `give_back_if = function`
    GiveBackIf,
    /// `on_store_error = local`
    OnStoreError,
    /// `shadow`
    Shadow,
    /// `crate = path`
    Crate,
}

/// An argument that the attribute understands.
pub(crate) struct Argument {
    pub(crate) name: &'static str,
    pub(super) kind: Kind,
    /// How it is written, for messages.
    pub(crate) usage: &'static str,
}

const SECOND: u64 = 1_000;

/// Every argument, in the order in which messages list them.
pub(super) const ARGUMENTS: &[Argument] = &[
    argument("name", Kind::Name, r#"name = "…""#),
    argument("per_second", Kind::Per(SECOND), "per_second = 5"),
    argument("per_minute", Kind::Per(60 * SECOND), "per_minute = 5"),
    argument("per_hour", Kind::Per(3_600 * SECOND), "per_hour = 5"),
    argument("per_day", Kind::Per(86_400 * SECOND), "per_day = 5"),
    argument("quota", Kind::Quota, r#"quota(5, per = "90s")"#),
    argument("algorithm", Kind::Algorithm, "algorithm = token_bucket"),
    argument("burst", Kind::Burst, "burst = 10"),
    argument("by_resource", Kind::Scope, "by_resource"),
    argument("by_route", Kind::Scope, "by_route"),
    argument("key", Kind::Key, "key = ip"),
    argument("cost", Kind::Cost, "cost = 2"),
    argument("quotas_by", Kind::QuotasBy, "quotas_by = function"),
    argument("skip_if", Kind::SkipIf, "skip_if = function"),
    argument("give_back_if", Kind::GiveBackIf, "give_back_if = function"),
    argument("status", Kind::Status, "status = 429"),
    argument("message", Kind::Message, r#"message = "…""#),
    argument("on_store_error", Kind::OnStoreError, "on_store_error = local"),
    argument("shadow", Kind::Shadow, "shadow"),
    argument("policy", Kind::Policy, "policy = PATH"),
    argument("crate", Kind::Crate, "crate = path"),
];

const fn argument(name: &'static str, kind: Kind, usage: &'static str) -> Argument {
    Argument { name, kind, usage }
}

/// `algorithm = …`
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    FixedWindow,
    SlidingWindow,
    SlidingLog,
    TokenBucket,
}

/// `on_store_error = …`
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnStoreError {
    Local,
    Allow,
    Deny,
}

pub(super) const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("fixed_window", Algorithm::FixedWindow),
    ("sliding_window", Algorithm::SlidingWindow),
    ("sliding_log", Algorithm::SlidingLog),
    ("token_bucket", Algorithm::TokenBucket),
];

pub(super) const ON_STORE_ERROR: &[(&str, OnStoreError)] =
    &[("local", OnStoreError::Local), ("allow", OnStoreError::Allow), ("deny", OnStoreError::Deny)];

/// Returns what an unknown argument was probably meant to be, if anything, and the error to report.
pub(super) fn unknown_argument(ident: &Ident) -> (Option<Kind>, syn::Error) {
    let word = ident.unraw().to_string();
    let snake_case = in_snake_case(&word);
    let foreign = words::FOREIGN.iter().find(|(words, ..)| words.contains(&snake_case.as_str()));
    let (meant, instead) = if let Some((_, kind, instead)) = foreign {
        (*kind, (*instead).to_owned())
    } else if is_constant(&word) {
        (Some(Kind::Policy), format!("for a constant, write `policy = {word}`"))
    } else if has_length(&snake_case) {
        (Some(Kind::Quota), "write `quota(N, per = \"90s\")`".to_owned())
    } else if let Some(nearest) = nearest(&snake_case) {
        (Some(nearest.kind), format!("did you mean `{}`?", nearest.usage))
    } else {
        (None, usages())
    };
    (meant, syn::Error::new(ident.span(), format!("unknown argument `{word}`: {instead}")))
}

/// Whether a word is written like a constant, and is no argument in capitals.
fn is_constant(word: &str) -> bool {
    let is_capital = |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
    word.chars().all(is_capital) && ARGUMENTS.iter().all(|argument| !argument.name.eq_ignore_ascii_case(word))
}

/// Whether a word gives a window a length of its own, as `per_5_minutes` does, which is not near to `per_minute`.
fn has_length(word: &str) -> bool {
    word.strip_prefix("per_").is_some_and(|window| window.starts_with(|first: char| first.is_ascii_digit()))
}

/// `windowMs` and `windowMS` are `window_ms`.
pub(super) fn in_snake_case(word: &str) -> String {
    let (mut snake_case, mut before) = (String::new(), 'A');
    for letter in word.chars() {
        if letter.is_ascii_uppercase() && before.is_ascii_lowercase() {
            snake_case.push('_');
        }
        snake_case.push(letter.to_ascii_lowercase());
        before = letter;
    }
    snake_case
}

/// Returns what a string in the place of an argument was probably meant to be, and the error to report.
pub(super) fn bare_string(text: &LitStr) -> (Kind, syn::Error) {
    let value = text.value();
    let (meant, fault) = if value.contains('/') || value.contains(' ') {
        (Kind::Quota, "limits are arguments: write `per_second = 10, per_hour = 200` or the like".to_owned())
    } else {
        (Kind::Name, format!("the name is an argument: write `name = \"{value}\"`"))
    };
    (meant, syn::Error::new(text.span(), fault))
}

fn nearest(word: &str) -> Option<&'static Argument> {
    ARGUMENTS
        .iter()
        .map(|argument| (strsim::jaro_winkler(word, argument.name), argument))
        .filter(|(similarity, _)| *similarity > 0.84)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, argument)| argument)
}

pub(super) fn usages() -> String {
    let usages: Vec<String> = ARGUMENTS.iter().map(|argument| format!("`{}`", argument.usage)).collect();
    format!("there are {}", usages.join(", "))
}

#[cfg(test)]
mod tests {
    use super::ARGUMENTS;

    #[test]
    fn all_arguments_are_documented() {
        for argument in ARGUMENTS {
            let documented = include_str!("../../arguments.md")
                .lines()
                .filter_map(|row| row.split('|').nth(1))
                .flat_map(|usages| usages.split('`'))
                .any(|usage| usage.split(&[' ', '(']).next() == Some(argument.name));
            assert!(documented, "`{}` is not in arguments.md", argument.name);
        }
    }
}
