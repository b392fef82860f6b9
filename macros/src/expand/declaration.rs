//! Generates the policies of one item, in the form that the runtime reads.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Path, parse_quote};

use crate::args::{Algorithm, OnStoreError};
use crate::errors::Errors;
use crate::key::KeyPart;
use crate::policy::{CheckedQuota, Cost, InlinePolicy, Policy, Source};

/// The policies of all `rate_limit` attributes on one item, in the order in which they stand there.
pub(crate) struct Declaration {
    /// The runtime crate.
    pub(crate) krate: Path,
    policies: Vec<Source>,
}

impl Declaration {
    /// Gathers the policies, or returns `None` if one of them is faulty.
    pub(crate) fn new(policies: impl IntoIterator<Item = Option<Policy>>) -> Option<Self> {
        let policies: Vec<Policy> = policies.into_iter().collect::<Option<_>>()?;
        let krate = policies.iter().find_map(|policy| policy.krate.clone());
        Some(Self {
            krate: krate.unwrap_or_else(|| parse_quote!(::axum_rate_limit)),
            policies: policies.into_iter().map(|policy| policy.source).collect(),
        })
    }

    /// Reports policies that have the name of an earlier one, but differ from it.
    pub(crate) fn check_names(&self, errors: &mut Errors) {
        let inline = self.policies.iter().filter_map(|policy| match policy {
            Source::Inline(policy) => Some(policy),
            Source::Shared(_) => None,
        });
        let policies: Vec<&InlinePolicy> = inline.collect();
        for (index, policy) in policies.iter().enumerate() {
            let is_namesake = |before: &&&InlinePolicy| before.name.value() == policy.name.value();
            let Some(namesake) = policies[..index].iter().find(is_namesake) else { continue };
            if self.expression(namesake).to_string() != self.expression(policy).to_string() {
                let name = policy.name.value();
                errors.at(
                    policy.name.span(),
                    format!(
                        "another `rate_limit` of this item is called `{name}`, and declares something else: \
                         write all quotas of a policy in one attribute, or give this one a name of its own"
                    ),
                );
            }
        }
    }

    /// Makes the type at the path `carrier` carry the policies, and registers them for the whole program.
    ///
    /// The user's expressions go into an `impl`, where no name of ours can shadow theirs.
    ///
    /// ```text
    /// // Input:  name = "hardwork", per_minute = LIMIT
    /// // Output:
    /// impl Policies for carrier {
    ///     const POLICIES: &'static [&'static Policy] = &[&Policy::new("hardwork").per_minute(LIMIT)];
    /// }
    /// inventory::submit! { Declaration::new(<carrier as Policies>::POLICIES) }
    /// ```
    pub(crate) fn carried_by(&self, carrier: &TokenStream) -> TokenStream {
        let krate = &self.krate;
        let policies = self.policies.iter().map(|policy| match policy {
            Source::Shared(path) => quote_spanned!(path.span()=> &#path),
            Source::Inline(policy) => self.expression(policy),
        });
        quote! {
            impl #krate::__private::Policies for #carrier {
                const POLICIES: &'static [&'static #krate::Policy] = &[#(#policies),*];
            }
            #krate::__private::inventory::submit! {
                #krate::__private::Declaration::new(<#carrier as #krate::__private::Policies>::POLICIES)
            }
        }
    }

    /// Returns a reference to the policy, made by the calls of the runtime's `const` builder.
    fn expression(&self, policy: &InlinePolicy) -> TokenStream {
        let krate = &self.krate;
        let name = &policy.name;
        // The policy's location is where the call begins, so the call begins with the span of the name.
        let mut place = krate.clone();
        if let Some(colons) = &mut place.leading_colon {
            colons.spans = [name.span(); 2];
        }
        let mut expression = quote_spanned!(name.span()=> #place::Policy::new(#name));
        for CheckedQuota { argument, count, window, window_millis, .. } in &policy.quotas {
            let duration = window.is_some().then(
                || quote_spanned!(count.span()=> , ::core::time::Duration::from_millis(#window_millis)),
            );
            expression = call(&expression, argument.name, count, &quote!(#count #duration));
        }
        let mut add = |method: &str, written: &dyn ToTokens, arguments: TokenStream| {
            expression = call(&expression, method, &written.to_token_stream(), &arguments);
        };
        if let Some((ident, algorithm)) = &policy.algorithm {
            add("algorithm", ident, algorithm_value(krate, *algorithm, ident.span()));
        }
        if let Some(burst) = &policy.burst {
            add("burst", burst, burst.to_token_stream());
        }
        if let Some(scope) = &policy.scope {
            add(&scope.to_string(), scope, TokenStream::new());
        }
        if let Some(key) = &policy.key {
            let parts = key.0.iter().map(|part| key_part(krate, part));
            let headers = key.0.iter().filter_map(KeyPart::header_name);
            add("key", &quote!(#(#headers)*), quote!(&[#(#parts),*]));
        }
        // Before the cost, which is checked against the declared quotas only if they apply to all requests.
        if let Some(quotas_by) = &policy.quotas_by {
            add("quotas_by", quotas_by, quotas_by.to_token_stream());
        }
        match &policy.cost {
            Some(Cost::Constant(cost)) => add("cost", cost, cost.to_token_stream()),
            Some(Cost::Function(cost)) => add("cost_by", cost, cost.to_token_stream()),
            None => {}
        }
        if let Some(skip_if) = &policy.skip_if {
            add("skip_if", skip_if, skip_if.to_token_stream());
        }
        if let Some(give_back_if) = &policy.give_back_if {
            add("give_back_if", give_back_if, give_back_if.to_token_stream());
        }
        if let Some(status) = &policy.status {
            add("status", status, status.to_token_stream());
        }
        if let Some(message) = &policy.message {
            add("message", message, message.to_token_stream());
        }
        if let Some((ident, on_store_error)) = &policy.on_store_error {
            add("on_store_error", ident, on_store_error_value(krate, *on_store_error, ident.span()));
        }
        if let Some(shadow) = &policy.shadow {
            add("shadow", shadow, TokenStream::new());
        }
        if let Some(functions) = policy.functions() {
            // The same text may mean another function in another module.
            let functions = quote!(::core::concat!(::core::module_path!(), ": ", #functions));
            expression = call(&expression, "__functions", name, &functions);
        }
        quote!(&#expression)
    }
}

fn algorithm_value(krate: &Path, algorithm: Algorithm, span: Span) -> TokenStream {
    match algorithm {
        Algorithm::FixedWindow => quote_spanned!(span=> #krate::Algorithm::FixedWindow),
        Algorithm::SlidingWindow => quote_spanned!(span=> #krate::Algorithm::SlidingWindow),
        Algorithm::SlidingLog => quote_spanned!(span=> #krate::Algorithm::SlidingLog),
        Algorithm::TokenBucket => {
            quote_spanned!(span=> #krate::Algorithm::TokenBucket { burst: ::core::option::Option::None })
        }
    }
}

fn on_store_error_value(krate: &Path, on_store_error: OnStoreError, span: Span) -> TokenStream {
    match on_store_error {
        OnStoreError::Local => quote_spanned!(span=> #krate::OnStoreError::Local),
        OnStoreError::Allow => quote_spanned!(span=> #krate::OnStoreError::Allow),
        OnStoreError::Deny => quote_spanned!(span=> #krate::OnStoreError::Deny),
    }
}

fn key_part(krate: &Path, part: &KeyPart) -> TokenStream {
    match part {
        KeyPart::Ip(word) => quote_spanned!(word.span()=> #krate::KeyPart::Ip),
        KeyPart::Global(word) => quote_spanned!(word.span()=> #krate::KeyPart::Global),
        KeyPart::Header(word, name) => quote_spanned!(word.span()=> #krate::KeyPart::Header(#name)),
        KeyPart::Function(function) => quote_spanned!(function.span()=> #krate::KeyPart::By(#function)),
    }
}

/// Returns `(receiver).method(arguments)`, with the spans of what the user wrote from end to end.
///
/// A constant that breaks a rule makes the call panic, and the compiler reports that on the whole call: from the
/// parenthesis before it to the one after it.
fn call(
    receiver: &TokenStream,
    method: &str,
    written: &impl ToTokens,
    arguments: &TokenStream,
) -> TokenStream {
    let mut spans = written.to_token_stream().into_iter().map(|token| token.span());
    let first = spans.next().unwrap_or_else(Span::call_site);
    let receiver = parenthesized(receiver, first);
    let method = Ident::new(method, first);
    let arguments = parenthesized(arguments, spans.last().unwrap_or(first));
    quote_spanned!(first=> #receiver.#method #arguments)
}

fn parenthesized(tokens: &TokenStream, span: Span) -> Group {
    let mut group = Group::new(Delimiter::Parenthesis, tokens.clone());
    group.set_span(span);
    group
}
