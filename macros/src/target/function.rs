//! Parses a function, and checks that it can be limited.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::{ToTokens, TokenStreamExt};
use syn::parse::ParseStream;
use syn::{AttrStyle, Attribute, FnArg, PatType, Path, Receiver, Signature, Token, Visibility};

use super::{CARRIER, PLACES, Target, aliased_error};
use crate::returns::{ends_in, path_of};

/// The most extractors that axum's `Handler` takes; the attribute needs one of them.
const MAX_EXTRACTORS: usize = 16;

/// A function whose body is left as raw tokens.
pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    pub(crate) body: Group,
}

impl Function {
    pub(super) fn parse(
        mut attrs: Vec<Attribute>,
        vis: Visibility,
        input: ParseStream<'_>,
    ) -> syn::Result<Self> {
        let sig: Signature = input.parse()?;
        if input.peek(Token![;]) {
            return Err(syn::Error::new_spanned(
                &sig,
                format!("this function has no body to guard: {PLACES}"),
            ));
        }
        let content;
        let brace = syn::braced!(content in input);
        // A router function's body moves into a closure, where inner attributes are not allowed.
        attrs.extend(content.call(Attribute::parse_inner)?.into_iter().map(outer));
        let mut body = Group::new(Delimiter::Brace, content.parse()?);
        body.set_span(brace.span.join());
        Ok(Self { attrs, vis, sig, body })
    }

    /// Replaces the body. The span stays, since lints take it for part of the function.
    pub(crate) fn fill(&mut self, body: TokenStream) {
        let span = self.body.span();
        self.body = Group::new(Delimiter::Brace, body);
        self.body.set_span(span);
    }

    /// Makes the function a handler. What axum would refuse once the permit is added is refused here, in clearer
    /// words.
    pub(super) fn into_handler(self) -> syn::Result<Target> {
        let inputs = self.sig.inputs.iter().filter(|input| !is_conditional(input));
        if let Some(last) = inputs.skip(MAX_EXTRACTORS - 1).last() {
            return Err(syn::Error::new_spanned(
                last,
                format!(
                    "an axum handler takes at most {MAX_EXTRACTORS} extractors and the limit is one of them, so \
                     that {} are left: gather some of these in a tuple, or in a struct that derives \
                     `FromRequestParts`, or limit the router function instead",
                    MAX_EXTRACTORS - 1,
                ),
            ));
        }
        let permit = self.sig.inputs.first().and_then(|input| match input {
            FnArg::Typed(typed) => path_of(&typed.ty).filter(|path| is_permit(path)),
            FnArg::Receiver(_) => None,
        });
        if permit.is_some() {
            return Err(aliased_error(&self.sig.ident));
        }
        Ok(Target::Handler(self))
    }

    /// Makes the function a router function, unless it is guarded already: then its body has a carrier directly
    /// inside, or names that of the module.
    pub(super) fn into_router(self) -> syn::Result<Target> {
        let is_carrier = |token| matches!(token, TokenTree::Ident(ident) if ident == CARRIER);
        if self.body.stream().into_iter().any(is_carrier) {
            return Err(aliased_error(&self.sig.ident));
        }
        Ok(Target::Router(self))
    }
}

impl ToTokens for Function {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.append_all(&self.attrs);
        self.vis.to_tokens(tokens);
        self.sig.to_tokens(tokens);
        self.body.to_tokens(tokens);
    }
}

fn outer(attr: Attribute) -> Attribute {
    Attribute { style: AttrStyle::Outer, ..attr }
}

/// Whether this is the extractor that [`crate::expand`] inserts, and no other of that name.
fn is_permit(path: &Path) -> bool {
    ends_in(path, &["Permit"]) && path.segments.iter().any(|segment| segment.ident == "__private")
}

/// Whether a `#[cfg]` may remove this argument.
fn is_conditional(input: &FnArg) -> bool {
    let (FnArg::Typed(PatType { attrs, .. }) | FnArg::Receiver(Receiver { attrs, .. })) = input;
    attrs.iter().any(|attr| attr.path().is_ident("cfg"))
}
