//! What a function returns, as far as its signature tells.

use syn::{GenericArgument, Path, PathArguments, ReturnType, Type, TypeParamBound};

/// What a function returns.
pub(crate) enum Kind<'a> {
    Router,
    Future,
    /// A router inside something else, `Result<Router, _>` say.
    Wrapped(&'a Type),
    Other,
}

pub(crate) fn wrapped(ty: &Type) -> syn::Error {
    syn::Error::new_spanned(
        ty,
        "only a router itself can be limited: write a function that returns the `Router` under \
         `#[rate_limit]` (an `async fn … -> Router` if it waits), and another one elsewhere that wraps it",
    )
}

pub(crate) fn kind(output: &ReturnType) -> Kind<'_> {
    let ReturnType::Type(_, ty) = output else { return Kind::Other };
    if is_router(ty) {
        return Kind::Router;
    }
    if holds_router(ty) {
        return Kind::Wrapped(ty);
    }
    match unwrapped(ty) {
        Type::ImplTrait(bounds) if bounds.bounds.iter().any(is_future) => Kind::Future,
        Type::Path(path) if ends_in(&path.path, &["Pin", "BoxFuture", "LocalBoxFuture"]) => Kind::Future,
        _ => Kind::Other,
    }
}

/// What a router comes in that is fallible, late, shared or one of many; a handler's `Json<Router>` is an answer.
const WRAPPERS: &[&str] = &[
    "Result",
    "Option",
    "Box",
    "Rc",
    "Arc",
    "Pin",
    "BoxFuture",
    "LocalBoxFuture",
    "Ready",
    "Cow",
    "LazyLock",
    "OnceLock",
    "OnceCell",
    "Mutex",
    "RwLock",
    "Vec",
    "VecDeque",
    "HashMap",
    "BTreeMap",
    "IntoMakeService",
    "IntoMakeServiceWithConnectInfo",
    "NormalizePath",
];

/// Whether there is a router in a value of this type, or to be had of it.
fn holds_router(ty: &Type) -> bool {
    match unwrapped(ty) {
        Type::Path(path) if is_wrapper(&path.path) => arguments(&path.path).any(holds_router),
        Type::Path(_) => is_router(ty),
        Type::Tuple(tuple) => tuple.elems.iter().any(holds_router),
        Type::Array(array) => holds_router(&array.elem),
        Type::Slice(slice) => holds_router(&slice.elem),
        Type::Reference(reference) => holds_router(&reference.elem),
        Type::ImplTrait(bounds) => bounds.bounds.iter().any(gives_router),
        Type::TraitObject(bounds) => bounds.bounds.iter().any(gives_router),
        Type::BareFn(function) => returns_router(&function.output),
        _ => false,
    }
}

/// Whether it is one of these, or an alias that is called so: `AppResult`, `io::Result`.
fn is_wrapper(path: &Path) -> bool {
    let is_alias = |name: &String| ["Result", "Option", "Future"].iter().any(|end| name.ends_with(end));
    ends_in(path, WRAPPERS) || path.segments.last().is_some_and(|last| is_alias(&last.ident.to_string()))
}

/// Whether a router is to be had of what has this bound, `Future<Output = Router>` or `Fn() -> Router` say.
fn gives_router(bound: &TypeParamBound) -> bool {
    let TypeParamBound::Trait(bound) = bound else { return false };
    match bound.path.segments.last().map(|last| &last.arguments) {
        Some(PathArguments::AngleBracketed(arguments)) => {
            arguments.args.iter().any(|argument| match argument {
                GenericArgument::Type(ty) => holds_router(ty),
                GenericArgument::AssocType(associated) => holds_router(&associated.ty),
                GenericArgument::Constraint(constraint) => constraint.bounds.iter().any(gives_router),
                _ => false,
            })
        }
        Some(PathArguments::Parenthesized(function)) => returns_router(&function.output),
        _ => false,
    }
}

fn returns_router(output: &ReturnType) -> bool {
    matches!(output, ReturnType::Type(_, ty) if holds_router(ty))
}

/// Whether the type is called a router: `AppRouter` may be an alias. Should it be none, the guard says so.
fn is_router(ty: &Type) -> bool {
    path_of(ty)
        .and_then(|path| path.segments.last())
        .is_some_and(|last| last.ident.to_string().ends_with("Router"))
}

fn is_future(bound: &TypeParamBound) -> bool {
    matches!(bound, TypeParamBound::Trait(bound) if ends_in(&bound.path, &["Future"]))
}

pub(crate) fn path_of(ty: &Type) -> Option<&Path> {
    match unwrapped(ty) {
        Type::Path(path) => Some(&path.path),
        _ => None,
    }
}

fn unwrapped(mut ty: &Type) -> &Type {
    loop {
        ty = match ty {
            Type::Group(group) => &group.elem,
            Type::Paren(paren) => &paren.elem,
            _ => return ty,
        };
    }
}

pub(crate) fn ends_in(path: &Path, names: &[&str]) -> bool {
    path.segments.last().is_some_and(|last| names.iter().any(|name| last.ident == name))
}

fn arguments(path: &Path) -> impl Iterator<Item = &Type> {
    let arguments = path.segments.last().and_then(|last| match &last.arguments {
        PathArguments::AngleBracketed(arguments) => Some(&arguments.args),
        _ => None,
    });
    arguments.into_iter().flatten().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}
