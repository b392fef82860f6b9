//! Parses the item that the attribute stands on, by peeking and with bodies left as raw tokens.
//!
//! The body of an annotated function, or of a function directly inside an annotated module, is never parsed, so
//! whatever the compiler accepts there passes through.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, TokenStreamExt};
use syn::parse::{Parse, ParseStream};
use syn::{
    AttrStyle, Attribute, FnArg, Ident, ImplItem, Item, LitStr, Path, ReturnType, Signature, Token,
    TraitItem, Type, Visibility,
};

use crate::errors::Errors;
use crate::returns::{Returned, RouterNames, ends_in, path_of, wrapped_error};

const PLACES: &str = "put `#[rate_limit]` on an `async fn` handler, on a function that returns `Router` or \
                      `MethodRouter`, or on a `mod { … }` that contains such functions";

/// The name of the struct that carries the policies of the attribute in a router function or a module.
const CARRIER: &str = "__RateLimit";

/// The most extractors that axum's `Handler` takes; the attribute needs one of them.
const MAX_EXTRACTORS: usize = 16;

/// An item that can be limited.
pub(crate) enum Target {
    /// A handler.
    Handler(Function),
    /// A function that returns a router.
    Router(Function),
    /// An inline module with functions that return routers.
    Module(Module),
}

/// A function whose body is left as raw tokens.
pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    pub(crate) body: Group,
}

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

impl Target {
    /// Parses what follows the attributes of an item.
    pub(crate) fn parse(attrs: Vec<Attribute>, input: ParseStream<'_>) -> syn::Result<Self> {
        let vis: Visibility = input.parse()?;
        if input.peek(Token![mod]) {
            return Module::parse(attrs, vis, input).map(Self::Module);
        }
        if !at_function(input) {
            return Err(misplaced(input));
        }
        let function = Function::parse(attrs, vis, input)?;
        if let Some(receiver) = function.sig.receiver() {
            return Err(syn::Error::new_spanned(
                receiver,
                "a method can be neither a handler nor a router function here: move it out of the `impl` block, \
                 without `self`, and take what it needs as `State` or as an argument",
            ));
        }
        match RouterNames::default().classify(&function.sig.output) {
            Returned::Router => function.router(),
            Returned::Future => function.handler(),
            Returned::Wrapped(ty) => Err(wrapped_error(ty)),
            Returned::Other if function.sig.asyncness.is_some() => function.handler(),
            Returned::Other => Err(syn::Error::new_spanned(
                if let ReturnType::Type(_, ty) = &function.sig.output {
                    ty.to_token_stream()
                } else {
                    function.sig.ident.to_token_stream()
                },
                "this function is not a handler, since it is not `async`, and does not return a router: make it `async`, \
                 return `impl Future`, or write `Router`, `MethodRouter` or an alias that ends in `Router` as its \
                 return type",
            )),
        }
    }
}

impl Function {
    fn parse(mut attrs: Vec<Attribute>, vis: Visibility, input: ParseStream<'_>) -> syn::Result<Self> {
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

    /// Refuses what axum would refuse once the permit is added, but with a clear message.
    fn handler(self) -> syn::Result<Target> {
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
            return Err(aliased(&self.sig.ident));
        }
        Ok(Target::Handler(self))
    }

    /// Refuses a body that is guarded already: it has a carrier directly inside, or names that of its module.
    fn router(self) -> syn::Result<Target> {
        let is_carrier = |token| matches!(token, TokenTree::Ident(ident) if ident == CARRIER);
        if self.body.stream().into_iter().any(is_carrier) {
            return Err(aliased(&self.sig.ident));
        }
        Ok(Target::Router(self))
    }
}

impl Module {
    fn parse(attrs: Vec<Attribute>, vis: Visibility, input: ParseStream<'_>) -> syn::Result<Self> {
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
        let others = items.iter().filter_map(|item| match item {
            ModuleItem::Other(item) => Some(item),
            _ => None,
        });
        let names = RouterNames::given_by(&others.collect::<Vec<_>>());
        let items: Vec<ModuleItem> = items.into_iter().map(|item| item.judged_by(&names)).collect();
        let mut faults = Errors::default();
        items.iter().filter_map(|item| item.fault(&names)).for_each(|fault| faults.push(fault));
        faults.into_result()?;
        if items.iter().any(ModuleItem::is_carrier) {
            return Err(aliased(&ident));
        }
        if !items.iter().any(|item| matches!(item, ModuleItem::Router(_))) {
            return Err(syn::Error::new(
                ident.span(),
                "nothing in this module is limited, since no function directly inside it returns `Router` or \
                 `MethodRouter`: write such a function here, or put `#[rate_limit]` on the handlers",
            ));
        }
        Ok(Self { attrs, vis, ident, inner, items })
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
                function.attrs.iter().find(|attr| is_conditional_limit(attr)).map(conditional)
            }
            Self::Function(function) => match names.classify(&function.sig.output) {
                Returned::Wrapped(ty) => Some(wrapped_error(ty)),
                _ => function.sig.inputs.iter().find(|input| is_filled(input, names)).map(filled),
            },
            Self::Other(Item::Static(item)) if names.holds_router(&item.ty) => Some(elsewhere(&item.ty)),
            Self::Other(Item::Const(item)) if names.holds_router(&item.ty) => Some(elsewhere(&item.ty)),
            Self::Other(item) => {
                let mut unseen = associated(item).filter(|signature| {
                    matches!(names.classify(&signature.output), Returned::Router | Returned::Wrapped(_))
                });
                unseen.next().map(|signature| elsewhere(&signature.output))
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

fn filled(input: &FnArg) -> syn::Error {
    syn::Error::new_spanned(
        input,
        "routes that are added to a router elsewhere are not limited: return a `Router` with these routes, and merge \
         it there",
    )
}

fn elsewhere(routers: &impl ToTokens) -> syn::Error {
    syn::Error::new_spanned(
        routers,
        "only functions directly inside the module are limited, and not what is in an `impl`, a `trait`, a constant \
         or a static: write such a function, or move this out of the module",
    )
}

/// Returns the functions of an `impl` or a `trait`.
fn associated(item: &Item) -> Box<dyn Iterator<Item = &Signature> + '_> {
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

/// Whether this is a `rate_limit` attribute, whatever path comes before that name.
pub(crate) fn is_limit(attr: &Attribute) -> bool {
    ends_in(attr.path(), &["rate_limit"])
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
    let (FnArg::Typed(syn::PatType { attrs, .. }) | FnArg::Receiver(syn::Receiver { attrs, .. })) = input;
    attrs.iter().any(|attr| attr.path().is_ident("cfg"))
}

/// Whether a function begins here, rather than a constant, an `extern` block, an `unsafe impl` or the like.
fn at_function(input: ParseStream<'_>) -> bool {
    let ahead = input.fork();
    loop {
        if ahead.peek(Token![fn]) {
            return true;
        }
        let qualifier = ahead.peek(Token![const])
            || ahead.peek(Token![async])
            || ahead.peek(Token![unsafe])
            || ahead.peek(Token![extern])
            || ahead.peek(LitStr);
        if !qualifier || ahead.parse::<TokenTree>().is_err() {
            return false;
        }
    }
}

/// The error for attributes that do not see each other because one of them goes by another name.
fn aliased(ident: &Ident) -> syn::Error {
    syn::Error::new(
        ident.span(),
        "several `rate_limit` attributes are decided together only if each is called that: write \
         `#[rate_limit(…)]` for each, and not an alias from `use … as …`",
    )
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

fn conditional(attr: &Attribute) -> syn::Error {
    syn::Error::new_spanned(
        attr,
        "the compiler expands this only after the module's `rate_limit`, too late to decide the two together: \
         write the function twice, with `#[cfg(…)] #[rate_limit(…)]` and with `#[cfg(not(…))]`, or put the \
         conditional limit on its handlers",
    )
}

fn misplaced(input: ParseStream<'_>) -> syn::Error {
    let what = [
        (input.peek(Token![struct]), "a struct"),
        (input.peek(Token![enum]), "an enum"),
        (input.peek(Token![union]), "a union"),
        (input.peek(Token![trait]), "a trait"),
        (input.peek(Token![impl]), "an `impl` block"),
        (input.peek(Token![use]), "an import"),
        (input.peek(Token![const]), "a constant"),
        (input.peek(Token![static]), "a static"),
        (input.peek(Token![type]), "a type alias"),
        (input.peek(Token![let]), "a variable"),
    ];
    let what = what.iter().find(|(here, _)| *here).map_or("this", |(_, what)| what);
    let span = if input.is_empty() { Span::call_site() } else { input.span() };
    syn::Error::new(span, format!("{what} can't be limited: {PLACES}"))
}
