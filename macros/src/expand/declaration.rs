//! The policies that stand on one item, as the runtime reads them.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Path, parse_quote};

use crate::policy::{CheckedQuota, Declared, Policy, Source};

/// The policies of all `rate_limit` attributes on one item, in the order in which they stand there.
pub(crate) struct Declaration {
    /// The runtime crate.
    pub(crate) krate: Path,
    policies: Vec<Source>,
}

impl Declaration {
    /// `None` if one of the policies is faulty.
    pub(crate) fn new(policies: impl IntoIterator<Item = Option<Policy>>) -> Option<Self> {
        let policies: Vec<Policy> = policies.into_iter().collect::<Option<_>>()?;
        let krate = policies.iter().find_map(|policy| policy.krate.clone());
        Some(Self {
            krate: krate.unwrap_or_else(|| parse_quote!(::axum_rate_limit)),
            policies: policies.into_iter().map(|policy| policy.source).collect(),
        })
    }

    /// Makes the type at the path `carrier` carry the policies, and lists them for the whole program.
    ///
    /// The expressions of the user stand in an `impl`, where no name of ours can come before theirs.
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
            Source::Declared(declared) => self.declared(declared),
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

    fn declared(&self, declared: &Declared) -> TokenStream {
        let krate = &self.krate;
        let name = &declared.name;
        let mut policy = quote_spanned!(name.span()=> #krate::Policy::new(#name));
        for CheckedQuota { written, count, window_millis, .. } in &declared.quotas {
            let window = (written == "quota").then(
                || quote_spanned!(count.span()=> , ::core::time::Duration::from_millis(#window_millis)),
            );
            policy = call(&policy, written, count, &quote!(#count #window));
        }
        if let Some((ident, resource)) = &declared.resource {
            policy = call(&policy, resource.name(), ident, &TokenStream::new());
        }
        if let Some(status) = &declared.status {
            policy = call(&policy, "status", status, &status.to_token_stream());
        }
        if let Some(message) = &declared.message {
            policy = call(&policy, "message", message, &message.to_token_stream());
        }
        quote!(&#policy)
    }
}

/// `(receiver).method(arguments)`, from end to end with the spans of what the user wrote.
///
/// A constant that breaks a rule makes the call panic, which the compiler reports on all of the call:
/// from the parenthesis before it to the one after it.
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
