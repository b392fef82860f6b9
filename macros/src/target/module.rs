//! Parses a module, and checks that each of its routes is going to be limited.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{Parse, ParseStream};
use syn::{
    Attribute, FnArg, Ident, ImplItem, Item, ItemConst, ItemStatic, Signature, Token, TraitItem, Type,
    Visibility,
};

use super::{CARRIER, Function, aliased_error, at_function};
use crate::errors::Errors;
use crate::returns::{Returned, RouterNames, wrapped_error};

/// An inline module, split into its functions and everything else.
pub(crate) struct Module {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) ident: Ident,
    pub(crate) inner: Vec<Attribute>,
    pub(crate) items: Vec<ModuleItem>,
}

/// An item directly inside a module.
pub(crate) enum ModuleItem {
    /// A function that returns a router.
    Router(Function),
    /// A function that returns anything else.
    Function(Function),
    /// Not a function.
    Other(Item),
}

impl Module {
    pub(super) fn parse(attrs: Vec<Attribute>, vis: Visibility, input: ParseStream<'_>) -> syn::Result<Self> {
        let keyword: Token![mod] = input.parse()?;
        let ident: Ident = input.parse()?;
        if input.peek(Token![;]) {
            return Err(syn::Error::new(
                keyword.span,
                format!(
                    "the attribute can't see the file of `mod {ident};`: put `#[rate_limit]` on the router function \
                     in that file, or write the module inline as `mod {ident} {{ … }}`"
                ),
            ));
        }
        let content;
        syn::braced!(content in input);
        let inner = content.call(Attribute::parse_inner)?;
        let mut items: Vec<ModuleItem> = Vec::new();
        while !content.is_empty() {
            items.push(content.parse()?);
        }
        let others: Vec<&Item> = items.iter().filter_map(ModuleItem::other).collect();
        let names = RouterNames::given_by(&others);
        let items = items.into_iter().map(|item| item.judged_by(&names)).collect();
        let module = Self { attrs, vis, ident, inner, items };
        module.check(&names)?;
        Ok(module)
    }

    /// Refuses a module with routes that would not be limited, or without any that would.
    fn check(&self, names: &RouterNames) -> syn::Result<()> {
        let mut faults = Errors::default();
        self.items.iter().filter_map(|item| item.fault(names)).for_each(|fault| faults.push(fault));
        faults.into_result()?;
        if self.items.iter().any(ModuleItem::is_carrier) {
            return Err(aliased_error(&self.ident));
        }
        if !self.items.iter().any(|item| matches!(item, ModuleItem::Router(_))) {
            return Err(syn::Error::new(
                self.ident.span(),
                "nothing in this module is limited, since no function directly inside it returns `Router` or \
                 `MethodRouter`: write such a function here, or put `#[rate_limit]` on the handlers",
            ));
        }
        Ok(())
    }
}

impl Parse for ModuleItem {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let ahead = input.fork();
        let _attrs = ahead.call(Attribute::parse_outer)?;
        let _vis: Visibility = ahead.parse()?;
        if !at_function(&ahead) {
            return input.parse().map(Self::Other);
        }
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        Function::parse(attrs, vis, input).map(Self::Function)
    }
}

impl ModuleItem {
    /// Returns the item if it is not a function.
    fn other(&self) -> Option<&Item> {
        match self {
            Self::Other(item) => Some(item),
            Self::Router(_) | Self::Function(_) => None,
        }
    }

    /// Turns a function into a router function, if it returns what `names` says is a router.
    fn judged_by(self, names: &RouterNames) -> Self {
        match self {
            Self::Function(function) if matches!(names.classify(&function.sig.output), Returned::Router) => {
                Self::Router(function)
            }
            other => other,
        }
    }

    /// Returns why the item can't be in a limited module, where its routes would silently not be limited.
    fn fault(&self, names: &RouterNames) -> Option<syn::Error> {
        match self {
            Self::Router(function) => {
                function.attrs.iter().find(|attr| is_conditional_limit(attr)).map(conditional_limit_error)
            }
            Self::Function(function) => match names.classify(&function.sig.output) {
                Returned::Wrapped(ty) => Some(wrapped_error(ty)),
                _ => function.sig.inputs.iter().find(|input| is_filled(input, names)).map(filled_error),
            },
            Self::Other(Item::Static(ItemStatic { ty, .. }) | Item::Const(ItemConst { ty, .. }))
                if names.holds_router(ty) =>
            {
                Some(elsewhere_error(ty))
            }
            Self::Other(item) => {
                let names = names.inside(item);
                let mut unseen = associated_functions(item).filter(|signature| {
                    matches!(names.classify(&signature.output), Returned::Router | Returned::Wrapped(_))
                });
                unseen.next().map(|signature| elsewhere_error(&signature.output))
            }
        }
    }

    /// Whether this is the struct that [`crate::expand`] adds to a module.
    fn is_carrier(&self) -> bool {
        matches!(self, Self::Other(Item::Struct(item)) if item.ident == CARRIER)
    }
}

/// Whether the argument is a router that the function adds routes to.
fn is_filled(input: &FnArg, names: &RouterNames) -> bool {
    let FnArg::Typed(typed) = input else { return false };
    matches!(&*typed.ty, Type::Reference(ty) if ty.mutability.is_some() && names.is_router(&ty.elem))
}

fn filled_error(input: &FnArg) -> syn::Error {
    syn::Error::new_spanned(
        input,
        "routes that are added to a router elsewhere are not limited: return a `Router` with these routes, and merge \
         it there",
    )
}

fn elsewhere_error(routers: &impl ToTokens) -> syn::Error {
    syn::Error::new_spanned(
        routers,
        "only functions directly inside the module are limited, and not what is in an `impl`, a `trait`, a constant \
         or a static: write such a function, or move this out of the module",
    )
}

/// Returns the functions of an `impl` or a `trait`.
fn associated_functions(item: &Item) -> Box<dyn Iterator<Item = &Signature> + '_> {
    match item {
        Item::Impl(item) => Box::new(item.items.iter().filter_map(|item| match item {
            ImplItem::Fn(function) => Some(&function.sig),
            _ => None,
        })),
        Item::Trait(item) => Box::new(item.items.iter().filter_map(|item| match item {
            TraitItem::Fn(function) => Some(&function.sig),
            _ => None,
        })),
        _ => Box::new(std::iter::empty()),
    }
}

/// Whether a `#[cfg_attr]` may become a `rate_limit` attribute.
fn is_conditional_limit(attr: &Attribute) -> bool {
    fn names_limit(list: TokenStream) -> bool {
        let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
        let mut attributes = list.into_iter().skip_while(|token| !is_comma(token));
        while let Some(token) = attributes.next() {
            match token {
                TokenTree::Ident(ident) if ident == "rate_limit" => return true,
                TokenTree::Ident(ident) if ident == "cfg_attr" => {
                    if let Some(TokenTree::Group(nested)) = attributes.next()
                        && names_limit(nested.stream())
                    {
                        return true;
                    }
                }
                _ => {}
            }
        }
        false
    }
    attr.path().is_ident("cfg_attr")
        && attr.meta.require_list().is_ok_and(|list| names_limit(list.tokens.clone()))
}

fn conditional_limit_error(attr: &Attribute) -> syn::Error {
    syn::Error::new_spanned(
        attr,
        "the compiler expands this only after the module's `rate_limit`, too late to decide the two together: \
         write the function twice, with `#[cfg(…)] #[rate_limit(…)]` and with `#[cfg(not(…))]`, or put the \
         conditional limit on its handlers",
    )
}
