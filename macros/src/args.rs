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
use crate::key::{Function, Key};
use crate::words;

/// How the value of an argument is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
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
    argument("algorithm", Form::Algorithm, "algorithm = token_bucket"),
    argument("burst", Form::Burst, "burst = 10"),
    argument("by_resource", Form::Resource(Resource::Path), "by_resource"),
    argument("by_route", Form::Resource(Resource::Route), "by_route"),
    argument("key", Form::Key, "key = ip"),
    argument("cost", Form::Cost, "cost = 2"),
    argument("quotas_by", Form::QuotasBy, "quotas_by = function"),
    argument("skip_if", Form::SkipIf, "skip_if = function"),
    argument("give_back_if", Form::GiveBackIf, "give_back_if = function"),
    argument("status", Form::Status, "status = 429"),
    argument("message", Form::Message, r#"message = "…""#),
    argument("on_store_error", Form::OnStoreError, "on_store_error = local"),
    argument("shadow", Form::Shadow, "shadow"),
    argument("policy", Form::Policy, "policy = PATH"),
    argument("crate", Form::Crate, "crate = path"),
];

const fn argument(name: &'static str, form: Form, usage: &'static str) -> Argument {
    Argument { name, form, usage }
}

/// What a quota is kept for, besides the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Resource {
    /// `by_resource`: the path as asked for.
    Path,
    /// `by_route`: the template that matched.
    Route,
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

const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("fixed_window", Algorithm::FixedWindow),
    ("sliding_window", Algorithm::SlidingWindow),
    ("sliding_log", Algorithm::SlidingLog),
    ("token_bucket", Algorithm::TokenBucket),
];

const ON_STORE_ERROR: &[(&str, OnStoreError)] =
    &[("local", OnStoreError::Local), ("allow", OnStoreError::Allow), ("deny", OnStoreError::Deny)];

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
    pub(crate) algorithm: Option<Given<(Ident, Algorithm)>>,
    pub(crate) burst: Option<Given<Expr>>,
    pub(crate) key: Option<Given<Key>>,
    pub(crate) cost: Option<Given<Expr>>,
    pub(crate) quotas_by: Option<Given<Function>>,
    pub(crate) skip_if: Option<Given<Function>>,
    pub(crate) give_back_if: Option<Given<Function>>,
    pub(crate) status: Option<Given<Expr>>,
    pub(crate) message: Option<Given<Expr>>,
    pub(crate) on_store_error: Option<Given<(Ident, OnStoreError)>>,
    pub(crate) shadow: Option<Ident>,
    pub(crate) policy: Option<Given<Path>>,
    pub(crate) krate: Option<Path>,
    /// The arguments that `policy` replaces, as written.
    pub(crate) inline: Vec<Ident>,
    /// What arguments that could not be read were meant to be, so that it is not called missing, too.
    unread: Vec<Form>,
}

impl Args {
    /// Reads all it can of `tokens`, and tells `errors` the rest.
    pub(crate) fn parse(tokens: TokenStream, span: Span, errors: &mut Errors) -> Self {
        let mut args = Self {
            span,
            name: None,
            quotas: Vec::new(),
            resources: Vec::new(),
            algorithm: None,
            burst: None,
            key: None,
            cost: None,
            quotas_by: None,
            skip_if: None,
            give_back_if: None,
            status: None,
            message: None,
            on_store_error: None,
            shadow: None,
            policy: None,
            krate: None,
            inline: Vec::new(),
            unread: Vec::new(),
        };
        let parse = |input: ParseStream<'_>| {
            args.arguments(input, errors);
            Ok(())
        };
        // Every token is either read or skipped, but for those left over inside brackets, which syn tells of.
        if let Err(error) = parse.parse2(tokens)
            && errors.is_empty()
        {
            errors.push(error);
        }
        args
    }

    /// Whether a name is given, be it a faulty one.
    pub(crate) fn is_named(&self) -> bool {
        self.name.is_some() || self.unread.iter().any(|form| matches!(form, Form::Name | Form::Policy))
    }

    /// Whether a quota is given, be it a faulty one.
    pub(crate) fn has_quota(&self) -> bool {
        let is_quota = |form: &Form| matches!(form, Form::Per(_) | Form::Quota | Form::Policy);
        !self.quotas.is_empty() || self.unread.iter().any(is_quota)
    }

    fn arguments(&mut self, input: ParseStream<'_>, errors: &mut Errors) {
        let mut seen: Vec<Ident> = Vec::new();
        while !input.is_empty() {
            if let Err(error) = self.argument(input, &mut seen) {
                errors.push(error);
                skip_argument(input);
            }
            if !input.is_empty() && input.parse::<Token![,]>().is_err() {
                errors.at(input.span(), "arguments are separated by commas: write `,` here");
                let _: Option<Token![;]> = input.parse().unwrap_or_default();
            }
        }
    }

    fn argument(&mut self, input: ParseStream<'_>, seen: &mut Vec<Ident>) -> syn::Result<()> {
        let ident = Ident::parse_any(input)
            .map_err(|error| syn::Error::new(error.span(), format!("expected an argument: {}", usages())))?;
        let Some(argument) = ARGUMENTS.iter().find(|argument| ident == argument.name) else {
            let (meant, error) = unknown(&ident);
            self.unread.extend(meant);
            return Err(error);
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
        let value = self.value(argument, ident, input);
        if value.is_err() {
            self.unread.push(argument.form);
        }
        value
    }

    fn value(&mut self, argument: &Argument, ident: Ident, input: ParseStream<'_>) -> syn::Result<()> {
        match argument.form {
            Form::Name => {
                let value = equals(argument, &ident, input, "a string literal")?;
                self.name = Some(Given { argument: ident, value });
            }
            Form::Per(millis) => {
                let count = equals(argument, &ident, input, "how many requests pass in the window")?;
                let span = ident.span();
                let written = argument.name.to_owned();
                self.quotas.push(Quota { written, span, count, window: Window::Millis(millis) });
            }
            Form::Quota => {
                let quota = quota(ident.span(), input)?;
                self.quotas.push(quota);
            }
            Form::Algorithm => {
                let value = word(argument, &ident, input, ALGORITHMS)?;
                self.algorithm = Some(Given { argument: ident, value });
            }
            Form::Burst => {
                let value = equals(argument, &ident, input, "how many requests may pass at once")?;
                self.burst = Some(Given { argument: ident, value });
            }
            Form::Key => {
                let what = "`ip`, `global`, `header(\"x-api-key\")`, a function, or a tuple of these";
                let value = equals(argument, &ident, input, what)?;
                self.key = Some(Given { argument: ident, value });
            }
            Form::Cost => {
                let what = "a constant, or a `fn(&Parts) -> u32`";
                let value = equals(argument, &ident, input, what)?;
                self.cost = Some(Given { argument: ident, value });
            }
            Form::QuotasBy => {
                let what = "a `fn(&Parts) -> Option<Quotas>`";
                let value = equals(argument, &ident, input, what)?;
                self.quotas_by = Some(Given { argument: ident, value });
            }
            Form::SkipIf => {
                let what = "a `fn(&Parts) -> bool`, by its path or as a closure that captures nothing";
                let value = equals(argument, &ident, input, what)?;
                self.skip_if = Some(Given { argument: ident, value });
            }
            Form::GiveBackIf => {
                let what =
                    "a `fn(&response::Parts) -> bool`, by its path or as a closure that captures nothing";
                let value = equals(argument, &ident, input, what)?;
                self.give_back_if = Some(Given { argument: ident, value });
            }
            Form::OnStoreError => {
                let value = word(argument, &ident, input, ON_STORE_ERROR)?;
                self.on_store_error = Some(Given { argument: ident, value });
            }
            Form::Shadow => {
                no_value(&ident, input)?;
                self.shadow = Some(ident);
            }
            Form::Resource(resource) => {
                no_value(&ident, input)?;
                self.resources.push(Given { argument: ident, value: resource });
            }
            Form::Status => {
                let value = equals(argument, &ident, input, "the status of a denial")?;
                self.status = Some(Given { argument: ident, value });
            }
            Form::Message => {
                let value = equals(argument, &ident, input, "the text of a denial")?;
                self.message = Some(Given { argument: ident, value });
            }
            Form::Policy => {
                let what = "the path of a `const` or `static` `Policy`";
                let value = equals(argument, &ident, input, what)?;
                self.policy = Some(Given { argument: ident, value });
            }
            Form::Crate => {
                let ModStyle(path) = equals(argument, &ident, input, "where the runtime is")?;
                self.krate = Some(path);
            }
        }
        Ok(())
    }
}

fn no_value(ident: &Ident, input: ParseStream<'_>) -> syn::Result<()> {
    if input.peek(Token![=]) || input.peek(syn::token::Paren) {
        let message = format!("`{ident}` takes no value: write `{ident}`, or leave it out");
        return Err(syn::Error::new(input.span(), message));
    }
    Ok(())
}

/// `= word`, one of a list.
fn word<T: Copy>(
    argument: &Argument,
    ident: &Ident,
    input: ParseStream<'_>,
    words: &[(&str, T)],
) -> syn::Result<(Ident, T)> {
    let list: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
    let list = list.join(", ");
    let value: Ident = equals(argument, ident, input, &format!("one of {list}"))?;
    match words.iter().find(|(word, _)| value == word) {
        Some((_, meaning)) => Ok((value, *meaning)),
        None => Err(syn::Error::new(
            value.span(),
            format!("`{value}` is no value of `{}`: there are {list}", argument.name),
        )),
    }
}

/// A path without generic arguments.
struct ModStyle(Path);

impl Parse for ModStyle {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        input.call(Path::parse_mod_style).map(Self)
    }
}

/// `= value`
fn equals<T: Parse>(
    argument: &Argument,
    ident: &Ident,
    input: ParseStream<'_>,
    what: &str,
) -> syn::Result<T> {
    let ahead = input.fork();
    let nothing = ahead.parse::<Option<Token![=]>>().is_ok() && at_end(&ahead);
    let fault = |span: Span| {
        let span = if nothing { ident.span() } else { span };
        syn::Error::new(span, format!("`{}` wants {what}: write `{}`", argument.name, argument.usage))
    };
    let value = input.parse::<Token![=]>().and_then(|_| input.parse::<T>());
    let value = value.map_err(|error| {
        // What was written to be read says more than what could not be parsed.
        let says_what_to_write = error.to_string().contains("write `");
        if says_what_to_write { error } else { fault(error.span()) }
    })?;
    // Another argument right here lacks its comma, which is not the fault of this one.
    if at_end(input) || input.peek(Token![;]) || input.peek(Ident::peek_any) {
        return Ok(value);
    }
    Err(fault(input.span()))
}

fn at_end(input: ParseStream<'_>) -> bool {
    input.is_empty() || input.peek(Token![,])
}

/// `(N, per = "90s")`
fn quota(span: Span, input: ParseStream<'_>) -> syn::Result<Quota> {
    const USAGE: &str = "write `quota(5, per = \"90s\")`: how many requests, and in which window";
    if !input.peek(syn::token::Paren) {
        return Err(syn::Error::new(if at_end(input) { span } else { input.span() }, USAGE));
    }
    let content;
    syn::parenthesized!(content in input);
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
    let result = read().map_err(|error| syn::Error::new(error.span(), USAGE));
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

/// What an unknown argument was meant to be, if that can be told, and what to say of it.
fn unknown(ident: &Ident) -> (Option<Form>, syn::Error) {
    let word = ident.unraw().to_string();
    let foreign = words::FOREIGN.iter().find(|(words, ..)| words.contains(&word.as_str()));
    let (meant, instead) = if let Some((_, form, instead)) = foreign {
        (*form, (*instead).to_owned())
    } else if let Some(nearest) = nearest(&word.to_lowercase()) {
        (Some(nearest.form), format!("did you mean `{}`?", nearest.usage))
    } else {
        (None, usages())
    };
    (meant, syn::Error::new(ident.span(), format!("unknown argument `{word}`: {instead}")))
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

/// An expression without the parentheses that macros put around it.
pub(crate) fn unwrapped(mut expr: &Expr) -> &Expr {
    loop {
        expr = match expr {
            Expr::Group(group) => &group.expr,
            Expr::Paren(paren) => &paren.expr,
            _ => return expr,
        };
    }
}
