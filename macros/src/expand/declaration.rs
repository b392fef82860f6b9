//! The policies that stand on one item, as the runtime reads them.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
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

    /// Each call has the span of what the user wrote, which is where the compiler reports a constant
    /// that breaks a rule.
    fn declared(&self, declared: &Declared) -> TokenStream {
        let krate = &self.krate;
        let name = &declared.name;
        let quotas = declared.quotas.iter().map(quota);
        let resource = declared.resource.iter().map(|(ident, resource)| {
            let method = format_ident!("{}", resource.name(), span = ident.span());
            quote_spanned!(ident.span()=> .#method())
        });
        let status = declared.status.iter().map(|status| quote_spanned!(status.span()=> .status(#status)));
        let message =
            declared.message.iter().map(|message| quote_spanned!(message.span()=> .message(#message)));
        let new = quote_spanned!(name.span()=> #krate::Policy::new(#name));
        quote!(&#new #(#quotas)* #(#resource)* #(#status)* #(#message)*)
    }
}

fn quota(quota: &CheckedQuota) -> TokenStream {
    let count = &quota.count;
    let span = count.span();
    if quota.written == "quota" {
        let window = Duration::from_millis(quota.window_millis);
        let millis = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        return quote_spanned!(span=> .quota(#count, ::core::time::Duration::from_millis(#millis)));
    }
    let method = format_ident!("{}", quota.written, span = span);
    quote_spanned!(span=> .#method(#count))
}
