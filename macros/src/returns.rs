//! Classifies what a function returns, as far as its signature tells.

use std::collections::HashSet;

use syn::{
    GenericArgument, Item, ItemEnum, ItemImpl, ItemStruct, ItemType, ItemUse, Path, PathArguments,
    ReturnType, Type, TypeParamBound, UseTree,
};

/// What a function returns.
pub(crate) enum Returned<'a> {
    Router,
    Future,
    /// A router inside another type, such as `Result<Router, _>`.
    Wrapped(&'a Type),
    Other,
}

pub(crate) fn wrapped_error(ty: &Type) -> syn::Error {
    syn::Error::new_spanned(
        ty,
        "only a router itself can be limited: write a function that returns the `Router` under \
         `#[rate_limit]` (an `async fn … -> Router` if it waits), and another one elsewhere that wraps it. A \
         type that is not axum's router needs a name that does not end in `Router`",
    )
}

/// The names of router types, as far as the macro can see them.
#[derive(Clone, Default)]
pub(crate) struct RouterNames {
    /// Names of routers, except those that end in `Router`.
    routers: HashSet<String>,
    /// Names of types that a router comes in.
    wrapped: HashSet<String>,
}

impl RouterNames {
    /// Collects the names that a module gives to types: `use axum::Router as Routes`, `type Routes = Router`,
    /// `struct Apis { public: Router }`.
    pub(crate) fn given_by(items: &[&Item]) -> Self {
        let mut names = Self::default();
        for item in items {
            if let Item::Use(ItemUse { tree, .. }) = item {
                names.rename(tree);
            }
        }
        // A type may refer to a later one.
        loop {
            let known = names.routers.len() + names.wrapped.len();
            for item in items {
                match item {
                    Item::Type(alias) if names.is_router(&alias.ty) => {
                        names.routers.insert(alias.ident.to_string());
                    }
                    Item::Type(ItemType { ident, .. })
                    | Item::Struct(ItemStruct { ident, .. })
                    | Item::Enum(ItemEnum { ident, .. })
                        if types_in(item).any(|ty| names.holds_router(ty)) =>
                    {
                        names.wrapped.insert(ident.to_string());
                    }
                    _ => {}
                }
            }
            if names.routers.len() + names.wrapped.len() == known {
                return names;
            }
        }
    }

    /// Returns the names as they are inside of an item: in the `impl` of a type that holds a router, so does `Self`.
    pub(crate) fn inside(&self, item: &Item) -> Self {
        let mut names = self.clone();
        if let Item::Impl(ItemImpl { self_ty, .. }) = item
            && self.holds_router(self_ty)
            && !self.is_router(self_ty)
        {
            names.wrapped.insert("Self".to_owned());
        }
        names
    }

    fn rename(&mut self, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => self.rename(&path.tree),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.rename(tree)),
            UseTree::Rename(rename) if rename.ident.to_string().ends_with("Router") => {
                self.routers.insert(rename.rename.to_string());
            }
            UseTree::Rename(_) | UseTree::Name(_) | UseTree::Glob(_) => {}
        }
    }

    pub(crate) fn classify<'a>(&self, output: &'a ReturnType) -> Returned<'a> {
        let ReturnType::Type(_, ty) = output else { return Returned::Other };
        if self.is_router(ty) {
            return Returned::Router;
        }
        if self.holds_router(ty) {
            return Returned::Wrapped(ty);
        }
        match ungrouped(ty) {
            Type::ImplTrait(bounds) if bounds.bounds.iter().any(is_future) => Returned::Future,
            Type::Path(path) if ends_in(&path.path, &["Pin", "BoxFuture", "LocalBoxFuture"]) => {
                Returned::Future
            }
            _ => Returned::Other,
        }
    }

    /// Whether a value of this type contains a router, or yields one.
    pub(crate) fn holds_router(&self, ty: &Type) -> bool {
        match ungrouped(ty) {
            Type::Path(path) if ends_in(&path.path, ANSWERS) => false,
            Type::Path(path) => {
                self.is_router(ty)
                    || ends_in(&path.path, SERVICES)
                    || is_one_of(&path.path, &self.wrapped)
                    || arguments(&path.path).any(|ty| self.holds_router(ty))
            }
            Type::Tuple(tuple) => tuple.elems.iter().any(|ty| self.holds_router(ty)),
            Type::Array(array) => self.holds_router(&array.elem),
            Type::Slice(slice) => self.holds_router(&slice.elem),
            Type::Reference(reference) => self.holds_router(&reference.elem),
            Type::ImplTrait(bounds) => bounds.bounds.iter().any(|bound| self.gives_router(bound)),
            Type::TraitObject(bounds) => bounds.bounds.iter().any(|bound| self.gives_router(bound)),
            Type::FnPtr(function) => self.returns_router(&function.output),
            _ => false,
        }
    }

    /// Whether a type with this bound yields a router, such as `Future<Output = Router>` or `Fn() -> Router`.
    fn gives_router(&self, bound: &TypeParamBound) -> bool {
        let TypeParamBound::Trait(bound) = bound else { return false };
        // A router is itself a service.
        if ends_in(&bound.path, &["Service"]) {
            return true;
        }
        // A layer names services, but contains none.
        if ends_in(&bound.path, &["Layer"]) {
            return false;
        }
        match bound.path.segments.last().map(|last| &last.arguments) {
            Some(PathArguments::AngleBracketed(arguments)) => {
                arguments.args.iter().any(|argument| match argument {
                    GenericArgument::Type(ty) => self.holds_router(ty),
                    GenericArgument::AssocType(associated) => self.holds_router(&associated.ty),
                    GenericArgument::Constraint(constraint) => {
                        constraint.bounds.iter().any(|bound| self.gives_router(bound))
                    }
                    _ => false,
                })
            }
            Some(PathArguments::Parenthesized(function)) => self.returns_router(&function.output),
            _ => false,
        }
    }

    fn returns_router(&self, output: &ReturnType) -> bool {
        matches!(output, ReturnType::Type(_, ty) if self.holds_router(ty))
    }

    /// Whether the type has the name of a router. `AppRouter` may be an alias; if it is no router, the guard
    /// does not compile, and says so.
    pub(crate) fn is_router(&self, ty: &Type) -> bool {
        let Some(path) = path_of(ty) else { return false };
        let is_called_so =
            path.segments.last().is_some_and(|last| last.ident.to_string().ends_with("Router"));
        is_called_so || is_one_of(path, &self.routers)
    }
}

/// Returns the types that a value of the type that is defined here consists of.
fn types_in(item: &Item) -> Box<dyn Iterator<Item = &Type> + '_> {
    match item {
        Item::Type(alias) => Box::new(std::iter::once(&*alias.ty)),
        Item::Struct(item) => Box::new(item.fields.iter().map(|field| &field.ty)),
        Item::Enum(item) => {
            let fields = item.variants.iter().flat_map(|variant| &variant.fields);
            Box::new(fields.map(|field| &field.ty))
        }
        _ => Box::new(std::iter::empty()),
    }
}

/// Types that are responses whatever they contain: a `Router` in one of them is not axum's.
const ANSWERS: &[&str] = &["Json", "Form", "Html", "Extension"];

/// Types that a router can be turned into.
const SERVICES: &[&str] = &[
    "RouterIntoService",
    "RouterAsService",
    "IntoMakeService",
    "IntoMakeServiceWithConnectInfo",
    "BoxService",
    "BoxCloneService",
    "BoxCloneSyncService",
];

/// Whether the path is one of these names, with or without generic arguments.
fn is_one_of(path: &Path, names: &HashSet<String>) -> bool {
    let mut segments = path.segments.iter();
    let (Some(only), None) = (segments.next(), segments.next()) else { return false };
    names.contains(&only.ident.to_string())
}

fn is_future(bound: &TypeParamBound) -> bool {
    matches!(bound, TypeParamBound::Trait(bound) if ends_in(&bound.path, &["Future"]))
}

pub(crate) fn path_of(ty: &Type) -> Option<&Path> {
    match ungrouped(ty) {
        Type::Path(path) => Some(&path.path),
        _ => None,
    }
}

fn ungrouped(mut ty: &Type) -> &Type {
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
