//! Checks the rules across the arguments of one attribute: [`Args`] in, a checked [`Policy`] out. The rules of
//! single values are in [`values`](crate::values).
//!
//! Literals are checked here, and faults are reported on the offending token. A constant expression has no value
//! yet: the runtime's `const` builder checks it by the same rules when the compiler evaluates the expansion.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned as _;
use syn::{Expr, ExprLit, Ident, Lit, LitStr, Path};

use crate::args::{Algorithm, Args, Argument, Given, OnStoreError, Quota, Window, ungrouped};
use crate::errors::Errors;
use crate::key::{Callback, Key, KeyPart};
use crate::values::{
    Number, check_count, check_headers, check_message, check_name, check_number, check_status, check_window,
};

/// The most quotas that the runtime's `Policy` holds (`Quota::MAX_PER_POLICY`).
const MAX_QUOTAS: usize = 8;
/// The largest count of a sliding log (`Quota::MAX_LOG`).
const MAX_LOG: u32 = 10_000;

const BURST_RANGE: &str = "write a whole number from 1 to 4294967295, such as `burst = 10`";
const COST_RANGE: &str = "write a whole number from 0 to 4294967295, such as `cost = 2`";

/// What one attribute declares.
pub(crate) struct Policy {
    pub(crate) krate: Option<Path>,
    pub(crate) source: Source,
}

/// Where the policy comes from.
pub(crate) enum Source {
    /// `policy = PATH`
    Shared(Path),
    /// Written out in the attribute.
    Inline(InlinePolicy),
}

/// A policy that an attribute writes out.
pub(crate) struct InlinePolicy {
    pub(crate) name: LitStr,
    pub(crate) quotas: Vec<CheckedQuota>,
    pub(crate) algorithm: Option<(Ident, Algorithm)>,
    pub(crate) burst: Option<Expr>,
    /// `by_resource` or `by_route`, each of which is also a method of the runtime's `Policy`.
    pub(crate) scope: Option<Ident>,
    pub(crate) key: Option<Key>,
    pub(crate) cost: Option<Cost>,
    pub(crate) quotas_by: Option<Callback>,
    pub(crate) skip_if: Option<Callback>,
    pub(crate) give_back_if: Option<Callback>,
    pub(crate) status: Option<Expr>,
    pub(crate) message: Option<Expr>,
    pub(crate) on_store_error: Option<(Ident, OnStoreError)>,
    pub(crate) shadow: Option<Ident>,
}

impl InlinePolicy {
    /// Checks the arguments of the attribute at `span`, and adds the faults to `errors`.
    fn check(args: Args, span: Span, errors: &mut Errors) -> Option<Self> {
        refuse_missing(&args, span, errors);
        let name = args.name.and_then(|name| check_name(name, errors));
        if let Some(extra) = args.quotas.get(MAX_QUOTAS) {
            errors.at(
                extra.span,
                format!("a policy has at most {MAX_QUOTAS} quotas: leave the loosest ones out"),
            );
        }
        let quotas: Vec<_> = args.quotas.into_iter().filter_map(|quota| check_quota(quota, errors)).collect();
        check_binding(&quotas, errors);
        let scope = only_scope(args.scopes, errors);
        let algorithm = args.algorithm.as_ref().map_or(Algorithm::FixedWindow, |(_, algorithm)| *algorithm);
        check_algorithm(algorithm, &quotas, args.quotas_by.as_ref(), errors);
        let burst = args.burst.map(|burst| check_burst(burst, algorithm, &quotas, errors));
        check_headers(args.key.iter().flat_map(|key| &key.0), errors);
        let most = match &burst {
            Some((_, most)) => *most,
            None => quotas.iter().filter_map(|quota| quota.literal).min(),
        };
        // `quotas_by` may allow more.
        let most = most.filter(|_| args.quotas_by.is_none());
        let cost = args.cost.map(|cost| check_cost(cost, most, errors));
        if let Some(status) = &args.status {
            check_status(status, errors);
        }
        if let Some(message) = &args.message {
            check_message(message, errors);
        }
        Some(Self {
            name: name?,
            quotas,
            algorithm: args.algorithm,
            burst: burst.map(|(burst, _)| burst),
            scope,
            key: args.key,
            cost,
            quotas_by: args.quotas_by.map(|quotas_by| quotas_by.value),
            skip_if: args.skip_if,
            give_back_if: args.give_back_if,
            status: args.status,
            message: args.message,
            on_store_error: args.on_store_error,
            shadow: args.shadow,
        })
    }

    /// Returns the text of the policy's functions, if there are any. All attributes that one macro call makes
    /// share a source location, and this text tells apart those with different functions.
    pub(crate) fn functions(&self) -> Option<String> {
        let key = self.key.iter().flat_map(|key| &key.0).filter_map(|part| match part {
            KeyPart::Function(function) => Some(("key", function.to_token_stream())),
            _ => None,
        });
        let cost = self.cost.iter().filter_map(|cost| match cost {
            Cost::Function(function) => Some(("cost", function.to_token_stream())),
            Cost::Constant(_) => None,
        });
        let quotas_by = self.quotas_by.iter().map(|function| ("quotas_by", function.to_token_stream()));
        let skip_if = self.skip_if.iter().map(|function| ("skip_if", function.to_token_stream()));
        let give_back_if =
            self.give_back_if.iter().map(|function| ("give_back_if", function.to_token_stream()));
        let functions = key.chain(cost).chain(quotas_by).chain(skip_if).chain(give_back_if);
        let functions: Vec<String> =
            functions.map(|(argument, function)| format!("{argument} = {function}")).collect();
        (!functions.is_empty()).then(|| functions.join(", "))
    }
}

/// `cost = …`
pub(crate) enum Cost {
    Constant(Expr),
    Function(Expr),
}

/// A quota whose window, and whose count if it is a literal, are in range.
pub(crate) struct CheckedQuota {
    pub(crate) argument: &'static Argument,
    /// How the user wrote the window, if the argument does not imply it.
    pub(crate) window: Option<LitStr>,
    pub(crate) span: Span,
    pub(crate) count: Expr,
    pub(crate) literal: Option<u32>,
    pub(crate) window_millis: u64,
}

impl Policy {
    /// Parses and checks the arguments of the attribute at `span`. Returns `None` if anything is wrong with
    /// them, and adds the faults to `errors`.
    pub(crate) fn read(tokens: TokenStream, span: Span, errors: &mut Errors) -> Option<Self> {
        let mut own = Errors::default();
        refuse_self(tokens.clone(), &mut own);
        let policy = Self::check(Args::parse(tokens, &mut own), span, &mut own);
        let sound = own.is_empty();
        errors.append(own);
        policy.filter(|_| sound)
    }

    fn check(mut args: Args, span: Span, errors: &mut Errors) -> Option<Self> {
        let krate = args.krate.take();
        let source = match args.policy.take() {
            Some(path) => {
                refuse_inline(&args.inline, errors);
                Source::Shared(path)
            }
            None => Source::Inline(InlinePolicy::check(args, span, errors)?),
        };
        Some(Self { krate, source })
    }
}

/// Refuses `Self`, which the expansion would move into an `impl` for another type.
fn refuse_self(tokens: TokenStream, errors: &mut Errors) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if ident == "Self" => {
                errors.at(ident.span(), "`Self` is not available here: write the name of the type instead");
            }
            TokenTree::Group(group) => refuse_self(group.stream(), errors),
            _ => {}
        }
    }
}

/// Refuses arguments beside `policy`.
fn refuse_inline(inline: &[Ident], errors: &mut Errors) {
    for argument in inline {
        errors.at(
            argument.span(),
            format!(
                "`{argument}` is given beside `policy`, which replaces it: put it into the constant, or leave \
                 `policy` out"
            ),
        );
    }
}

/// Refuses an attribute without a name, or without a quota.
fn refuse_missing(args: &Args, span: Span, errors: &mut Errors) {
    if !args.is_named() {
        errors.at(
            span,
            "a policy needs a name, which it has in the store, the headers and the logs: \
             write `name = \"…\"`",
        );
    }
    if !args.has_quota() {
        errors.at(
            span,
            "a policy needs at least one quota: write `per_second`, `per_minute`, `per_hour` or \
             `per_day = N`, `quota(N, per = \"90s\")`, or `policy = PATH` to use one declared elsewhere",
        );
    }
}

/// Returns the first of the scopes, and refuses the others.
fn only_scope(scopes: Vec<Ident>, errors: &mut Errors) -> Option<Ident> {
    let mut scopes = scopes.into_iter();
    let first = scopes.next()?;
    for other in scopes {
        errors.at(
            other.span(),
            format!(
                "`{first}` and `{other}` exclude each other: keep `by_resource` for a quota for each path as asked \
                 for, or `by_route` for one for each route template"
            ),
        );
    }
    Some(first)
}

/// Refuses quotas that the algorithm can't count.
fn check_algorithm(
    algorithm: Algorithm,
    quotas: &[CheckedQuota],
    quotas_by: Option<&Given<Callback>>,
    errors: &mut Errors,
) {
    for quota in quotas {
        let Some(count) = quota.literal else { continue };
        match algorithm {
            Algorithm::SlidingLog if count > MAX_LOG => errors.at(
                quota.span,
                format!(
                    "a sliding log keeps every request, so its counts go up to {MAX_LOG}: write a smaller one, or \
                     `algorithm = sliding_window`"
                ),
            ),
            Algorithm::TokenBucket if u64::from(count) > quota.window_millis.saturating_mul(1_000) => errors.at(
                quota.span,
                "a token bucket refills at most once a microsecond: write a smaller count",
            ),
            _ => {}
        }
    }
    if let (Algorithm::SlidingLog, Some(quotas_by)) = (algorithm, quotas_by) {
        errors.at(
            quotas_by.argument.span(),
            "a sliding log keeps every request, so its quotas must be known: write `algorithm = sliding_window`, \
             or leave `quotas_by` out",
        );
    }
}

/// Checks the burst, and returns it with its value if it is a literal.
fn check_burst(
    burst: Given<Expr>,
    algorithm: Algorithm,
    quotas: &[CheckedQuota],
    errors: &mut Errors,
) -> (Expr, Option<u32>) {
    if algorithm != Algorithm::TokenBucket {
        errors.at(
            burst.argument.span(),
            "`burst` belongs to a token bucket: write `algorithm = token_bucket`, or leave `burst` out",
        );
    }
    let number = check_number(&burst.value, "a burst of 0 would deny every request", BURST_RANGE, errors);
    let literal = number.and_then(Number::literal);
    // The burst applies to the quota with the shortest window.
    let shortest = quotas.iter().map(|quota| quota.window_millis).min();
    let longer = quotas.iter().filter(|quota| Some(quota.window_millis) != shortest);
    let least = longer.filter_map(|quota| Some((quota.literal?, quota))).min_by_key(|(count, _)| *count);
    if let (Some(value), Some((count, quota))) = (literal, least)
        && value >= count
    {
        errors.at(
            burst.value.span(),
            format!(
                "a burst of {value} can never pass at once, since `{}` allows no more: write a smaller one",
                describe(quota)
            ),
        );
    }
    (burst.value, literal)
}

/// Checks the cost. `most` is how many units pass at once, if that is known.
fn check_cost(cost: Expr, most: Option<u32>, errors: &mut Errors) -> Cost {
    // Constants and functions are told apart by the case of their names, the only hint there is.
    let is_function = |path: &Path| {
        path.segments.last().is_some_and(|last| last.ident.to_string().contains(|c: char| c.is_lowercase()))
    };
    match ungrouped(&cost) {
        Expr::Closure(_) => Cost::Function(cost),
        Expr::Path(path) if is_function(&path.path) => Cost::Function(cost),
        Expr::Lit(ExprLit { lit: Lit::Int(int), .. })
            if int.base10_digits() == "0" && matches!(int.suffix(), "" | "u32") =>
        {
            Cost::Constant(cost)
        }
        _ => {
            let number = check_number(&cost, "the cost is a `u32`", COST_RANGE, errors);
            if let (Some(Number::Literal(literal)), Some(most)) = (number, most)
                && literal > most
            {
                let fault = format!(
                    "a cost of {literal} can never pass, since at most {most} pass at once: write a smaller one"
                );
                errors.push(syn::Error::new_spanned(&cost, fault));
            }
            Cost::Constant(cost)
        }
    }
}

fn check_quota(quota: Quota, errors: &mut Errors) -> Option<CheckedQuota> {
    let count = check_count(quota.argument, &quota.count, errors);
    let (millis, window) = match quota.window {
        Window::Millis(millis) => (Some(millis), None),
        Window::Text(text) => (check_window(&text, errors), Some(text)),
    };
    Some(CheckedQuota {
        literal: count?.literal(),
        window_millis: millis?,
        window,
        argument: quota.argument,
        span: quota.span,
        count: quota.count,
    })
}

/// Refuses quotas that another one makes pointless.
fn check_binding(quotas: &[CheckedQuota], errors: &mut Errors) {
    for (index, quota) in quotas.iter().enumerate() {
        if let Some(first) = quotas[..index].iter().find(|other| other.window_millis == quota.window_millis) {
            errors.at(
                quota.span,
                format!(
                    "this quota has the same window as `{}`, so that only the smaller of the two can bind: \
                     leave one out",
                    describe(first)
                ),
            );
            continue;
        }
        let stricter = quotas.iter().find(|other| {
            other.window_millis > quota.window_millis
                && matches!((other.literal, quota.literal), (Some(other), Some(own)) if other <= own)
        });
        if let Some(stricter) = stricter {
            errors.at(
                quota.span,
                format!(
                    "this quota can never bind, since `{}` allows no more over a longer window: leave `{}` out, \
                     or give it a smaller count",
                    describe(stricter),
                    describe(quota),
                ),
            );
        }
    }
}

fn describe(quota: &CheckedQuota) -> String {
    let count = quota.literal.map_or_else(|| "…".to_owned(), |count| count.to_string());
    match &quota.window {
        Some(window) => format!("quota({count}, per = \"{}\")", window.value()),
        None => format!("{} = {count}", quota.argument.name),
    }
}
