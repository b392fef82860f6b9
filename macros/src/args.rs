//! What is written between the parentheses of `#[rate_limit(…)]`.
//!
//! One table, [`ARGUMENTS`], drives the parsing, the search for arguments given twice, the lists in
//! the messages and the search for what a misspelt argument was meant to be. Nothing here knows
//! what an argument is worth: rules across arguments are [`crate::policy`]'s.

use proc_macro2::{Span, TokenStream};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::{Expr, Ident, LitStr, Path, Token};

use crate::errors::Errors;

/// How the value of an argument is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `name = "…"`
    Name,
    /// `per_minute = N`, with the window in milliseconds
    Per(u64),
    /// `quota(N, per = "…")`
    Quota,
    /// `by_resource`
    Resource(Resource),
    /// `status = 429`
    Status,
    /// `message = "…"`
    Message,
    /// `policy = PATH`
    Policy,
    /// `crate = path`
    Crate,
}

/// An argument that the attribute understands.
struct Argument {
    name: &'static str,
    form: Form,
    /// How it is written, for messages.
    usage: &'static str,
}

const SECOND: u64 = 1_000;

/// Every argument, in the order in which messages list them.
const ARGUMENTS: &[Argument] = &[
    argument("name", Form::Name, r#"name = "…""#),
    argument("per_second", Form::Per(SECOND), "per_second = 5"),
    argument("per_minute", Form::Per(60 * SECOND), "per_minute = 5"),
    argument("per_hour", Form::Per(3_600 * SECOND), "per_hour = 5"),
    argument("per_day", Form::Per(86_400 * SECOND), "per_day = 5"),
    argument("quota", Form::Quota, r#"quota(5, per = "90s")"#),
    argument("by_resource", Form::Resource(Resource::Path), "by_resource"),
    argument("by_route", Form::Resource(Resource::Route), "by_route"),
    argument("status", Form::Status, "status = 429"),
    argument("message", Form::Message, r#"message = "…""#),
    argument("policy", Form::Policy, "policy = PATH"),
    argument("crate", Form::Crate, "crate = path"),
];

const fn argument(name: &'static str, form: Form, usage: &'static str) -> Argument {
    Argument { name, form, usage }
}

const PER_WINDOW: &str =
    "write `per_second`, `per_minute`, `per_hour` or `per_day = N`, or `quota(N, per = \"90s\")`";
const MESSAGE: &str = "write `message = \"…\"`";
const STATUS: &str = "write `status = 429`";
const BY_RESOURCE: &str = "write `by_resource` for a quota for each path as asked for, or `by_route` \
                           for each route template";
const BY_CLIENT: &str = "a quota is kept for each client address without being asked for";

/// Words that other libraries use, and what to write here instead.
const FOREIGN: &[(&[&str], &str)] = &[
    (
        &[
            "times",
            "seconds",
            "minutes",
            "hours",
            "milliseconds",
            "limit",
            "limits",
            "rate",
            "requests",
            "max",
            "max_requests",
            "permits",
            "count",
            "amount",
            "n",
            "window",
            "window_ms",
            "window_size",
            "period",
            "duration",
            "interval",
            "per",
            "every",
            "ttl",
            "rps",
            "rpm",
            "expire",
            "permit_limit",
            "calls",
            "refill",
            "refill_interval",
            "replenish",
        ],
        PER_WINDOW,
    ),
    (
        &["limit_per_minutes", "limit_per_minute", "per_minutes", "per_min", "requests_per_minute"],
        "write `per_minute = N`",
    ),
    (
        &["limit_per_second", "limit_per_seconds", "per_seconds", "per_sec", "requests_per_second"],
        "write `per_second = N`",
    ),
    (&["limit_per_hour", "limit_per_hours", "per_hours", "requests_per_hour"], "write `per_hour = N`"),
    (&["limit_per_day", "limit_per_days", "per_days", "requests_per_day"], "write `per_day = N`"),
    (&["status_code", "code", "http_status", "error_code"], STATUS),
    (&["detail", "error_message", "error", "text", "msg", "body"], MESSAGE),
    (&["id", "prefix", "bucket", "policy_name", "zone", "group"], "write `name = \"…\"`"),
    (
        &[
            "resource",
            "per_resource",
            "by_path",
            "per_path",
            "per_endpoint",
            "per_method",
            "endpoint",
            "path",
        ],
        BY_RESOURCE,
    ),
    (&["route", "per_route", "by_template", "by_matched_path"], "write `by_route`"),
    (&["ip", "by_ip", "per_ip", "key_func", "key_extractor", "identifier", "client", "by_client"], BY_CLIENT),
    (&["krate", "crate_path", "crate_name"], "write `crate = path`"),
];

/// What a quota is kept for, besides the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Resource {
    /// `by_resource`: the path as asked for.
    Path,
    /// `by_route`: the template that matched.
    Route,
}

impl Resource {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Path => "by_resource",
            Self::Route => "by_route",
        }
    }
}

/// `N` requests a window, as written.
pub(crate) struct Quota {
    /// How the user wrote it, for messages: `per_minute`, or `quota`.
    pub(crate) written: String,
    pub(crate) span: Span,
    pub(crate) count: Expr,
    pub(crate) window: Window,
}

/// The window of a quota.
pub(crate) enum Window {
    /// Named by the argument, in milliseconds.
    Millis(u64),
    /// humantime's grammar, still to be read.
    Text(LitStr),
}

/// A value and the argument it was given to.
pub(crate) struct Given<T> {
    pub(crate) argument: Ident,
    pub(crate) value: T,
}

/// The arguments of one attribute.
pub(crate) struct Args {
    /// Where the attribute stands, for what is missing.
    pub(crate) span: Span,
    pub(crate) name: Option<Given<LitStr>>,
    pub(crate) quotas: Vec<Quota>,
    pub(crate) resources: Vec<Given<Resource>>,
    pub(crate) status: Option<Given<Expr>>,
    pub(crate) message: Option<Given<Expr>>,
    pub(crate) policy: Option<Given<Path>>,
    pub(crate) krate: Option<Path>,
    /// The arguments that `policy` replaces, as written.
    pub(crate) inline: Vec<Ident>,
    /// Whether an argument was there that could not be read: what is missing may be it.
    pub(crate) incomplete: bool,
}

impl Args {
    /// Reads all it can of `tokens`, and tells `errors` the rest.
    pub(crate) fn parse(tokens: TokenStream, span: Span, errors: &mut Errors) -> Self {
        let mut args = Self {
            span,
            name: None,
            quotas: Vec::new(),
            resources: Vec::new(),
            status: None,
            message: None,
            policy: None,
            krate: None,
            inline: Vec::new(),
            incomplete: false,
        };
        let parse = |input: ParseStream<'_>| {
            args.arguments(input, errors);
            Ok(())
        };
        parse.parse2(tokens).expect("every token is either read or skipped");
        args
    }

    fn arguments(&mut self, input: ParseStream<'_>, errors: &mut Errors) {
        let mut seen: Vec<Ident> = Vec::new();
        while !input.is_empty() {
            if let Err(error) = self.argument(input, &mut seen) {
                self.incomplete = true;
                errors.push(error);
                skip_argument(input);
            }
            if input.is_empty() {
                break;
            }
            if let Err(error) = input.parse::<Token![,]>() {
                self.incomplete = true;
                errors
                    .push(syn::Error::new(error.span(), "arguments are separated by commas: write `,` here"));
                skip_argument(input);
                let _: Option<Token![,]> = input.parse().unwrap_or_default();
            }
        }
    }

    fn argument(&mut self, input: ParseStream<'_>, seen: &mut Vec<Ident>) -> syn::Result<()> {
        let ident = Ident::parse_any(input)
            .map_err(|error| syn::Error::new(error.span(), format!("expected an argument: {}", usages())))?;
        let Some(argument) = ARGUMENTS.iter().find(|argument| ident == argument.name) else {
            return Err(unknown(&ident));
        };
        let repeatable = argument.form == Form::Quota;
        if !repeatable && seen.contains(&ident) {
            return Err(syn::Error::new(
                ident.span(),
                format!("`{ident}` is given twice: keep one of the two"),
            ));
        }
        seen.push(ident.clone());
        if !matches!(argument.form, Form::Policy | Form::Crate) {
            self.inline.push(ident.clone());
        }
        self.value(argument, ident, input)
    }

    fn value(&mut self, argument: &Argument, ident: Ident, input: ParseStream<'_>) -> syn::Result<()> {
        match argument.form {
            Form::Name => {
                let value = equals(argument, input, "a string literal")?;
                self.name = Some(Given { argument: ident, value });
            }
            Form::Per(millis) => {
                let count = equals(argument, input, "how many requests pass in the window")?;
                let span = ident.span();
                let written = argument.name.to_owned();
                self.quotas.push(Quota { written, span, count, window: Window::Millis(millis) });
            }
            Form::Quota => {
                let quota = quota(ident.span(), input)?;
                self.quotas.push(quota);
            }
            Form::Resource(resource) => {
                if input.peek(Token![=]) || input.peek(syn::token::Paren) {
                    return Err(syn::Error::new(
                        input.span(),
                        format!("`{ident}` takes no value: write `{ident}`, or leave it out"),
                    ));
                }
                self.resources.push(Given { argument: ident, value: resource });
            }
            Form::Status => {
                let value = equals(argument, input, "the status of a denial")?;
                self.status = Some(Given { argument: ident, value });
            }
            Form::Message => {
                let value = equals(argument, input, "the text of a denial")?;
                self.message = Some(Given { argument: ident, value });
            }
            Form::Policy => {
                let value = equals(argument, input, "the path of a `const` or `static` `Policy`")?;
                self.policy = Some(Given { argument: ident, value });
            }
            Form::Crate => {
                input
                    .parse::<Token![=]>()
                    .map_err(|error| usage(argument, &error, "where the runtime is"))?;
                self.krate = Some(
                    input
                        .call(Path::parse_mod_style)
                        .map_err(|error| usage(argument, &error, "where the runtime is"))?,
                );
            }
        }
        Ok(())
    }
}

/// `= value`
fn equals<T: Parse>(argument: &Argument, input: ParseStream<'_>, what: &str) -> syn::Result<T> {
    let value = input.parse::<Token![=]>().and_then(|_| input.parse::<T>());
    let value = value.map_err(|error| usage(argument, &error, what))?;
    if input.is_empty() || input.peek(Token![,]) {
        return Ok(value);
    }
    Err(usage(argument, &input.error(""), what))
}

fn usage(argument: &Argument, error: &syn::Error, what: &str) -> syn::Error {
    syn::Error::new(error.span(), format!("`{}` wants {what}: write `{}`", argument.name, argument.usage))
}

/// `(N, per = "90s")`
fn quota(span: Span, input: ParseStream<'_>) -> syn::Result<Quota> {
    const USAGE: &str = "write `quota(5, per = \"90s\")`: how many requests, and in which window";
    if !input.peek(syn::token::Paren) {
        return Err(syn::Error::new(input.span(), USAGE));
    }
    let content;
    let parenthesis = syn::parenthesized!(content in input);
    let fault = |error: &syn::Error| {
        let span = if content.is_empty() { parenthesis.span.close() } else { error.span() };
        syn::Error::new(span, USAGE)
    };
    let read = || -> syn::Result<(Expr, LitStr)> {
        let count = content.parse()?;
        content.parse::<Token![,]>()?;
        let per: Ident = content.parse()?;
        if per != "per" {
            return Err(syn::Error::new(per.span(), ""));
        }
        content.parse::<Token![=]>()?;
        let window = content.parse()?;
        let _: Option<Token![,]> = content.parse()?;
        if content.is_empty() { Ok((count, window)) } else { Err(content.error("")) }
    };
    let result = read().map_err(|error| fault(&error));
    while !content.is_empty() {
        content.step(|cursor| Ok(((), cursor.token_tree().map_or(*cursor, |(_, rest)| rest))))?;
    }
    let (count, window) = result?;
    Ok(Quota { written: "quota".to_owned(), span, count, window: Window::Text(window) })
}

/// Leaves what is left of an argument unread, up to its comma.
fn skip_argument(input: ParseStream<'_>) {
    while !input.is_empty() && !input.peek(Token![,]) {
        let skipped = input.step(|cursor| {
            cursor.token_tree().map(|(_, rest)| ((), rest)).ok_or_else(|| cursor.error("nothing to skip"))
        });
        if skipped.is_err() {
            return;
        }
    }
}

fn unknown(ident: &Ident) -> syn::Error {
    let word = ident.unraw().to_string();
    let foreign = FOREIGN.iter().find(|(words, _)| words.contains(&word.as_str()));
    let message = if let Some((_, instead)) = foreign {
        format!("unknown argument `{word}`: {instead}")
    } else if let Some(nearest) = nearest(&word) {
        format!("unknown argument `{word}`: did you mean `{}`?", nearest.usage)
    } else {
        format!("unknown argument `{word}`: {}", usages())
    };
    syn::Error::new(ident.span(), message)
}

fn nearest(word: &str) -> Option<&'static Argument> {
    ARGUMENTS
        .iter()
        .map(|argument| (strsim::jaro_winkler(word, argument.name), argument))
        .filter(|(similarity, _)| *similarity > 0.84)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, argument)| argument)
}

fn usages() -> String {
    let usages: Vec<String> = ARGUMENTS.iter().map(|argument| format!("`{}`", argument.usage)).collect();
    format!("there are {}", usages.join(", "))
}

/// The span of an expression, without the parentheses that macros put around it.
pub(crate) fn unwrapped(mut expr: &Expr) -> &Expr {
    loop {
        expr = match expr {
            Expr::Group(group) => &group.expr,
            Expr::Paren(paren) => &paren.expr,
            _ => return expr,
        };
    }
}
