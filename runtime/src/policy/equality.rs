//! Whether two policies are the same rule.

use std::ptr::fn_addr_eq;

use super::{Cost, Policy};

impl Policy {
    /// Whether `other` is the same rule, wherever it is declared.
    ///
    /// Functions count as the same only if both policies have one declaration. A program can't compare functions
    /// otherwise, since their addresses are not unique.
    pub(crate) fn is_same_rule(&self, other: &Self) -> bool {
        self.agrees(other, self.declaration() == other.declaration())
    }

    /// Whether `other` is the same rule if its functions are.
    pub(crate) fn is_same_but_for_functions(&self, other: &Self) -> bool {
        self.agrees(other, true)
    }

    /// Whether `other` is the same rule. Functions in the same place count as the same if `functions_agree`.
    fn agrees(&self, other: &Self, functions_agree: bool) -> bool {
        let Self { name, quotas, algorithm, scope, key, cost, quotas_by, skip_if, .. } = self;
        let Self { give_back_if, status, message, on_store_error, shadow, .. } = self;
        let keys_agree = || {
            key.len() == other.key.len()
                && key.iter().zip(other.key).all(|(one, other)| one.agrees(other, functions_agree))
        };
        let costs_agree = || match (cost, &other.cost) {
            (Cost::Fixed(one), Cost::Fixed(other)) => one == other,
            (Cost::By(_), Cost::By(_)) => functions_agree,
            _ => false,
        };
        let agree = |one: bool, other: bool| one == other && (!one || functions_agree);
        (name, quotas, algorithm, scope) == (&other.name, &other.quotas, &other.algorithm, &other.scope)
            && (status, message, on_store_error, shadow)
                == (&other.status, &other.message, &other.on_store_error, &other.shadow)
            && agree(quotas_by.is_some(), other.quotas_by.is_some())
            && agree(skip_if.is_some(), other.skip_if.is_some())
            && agree(give_back_if.is_some(), other.give_back_if.is_some())
            && keys_agree()
            && costs_agree()
    }
}

impl Policy {
    /// Whether `other`, which counts the same, denies and gives back as this one does.
    pub(crate) fn has_same_terms(&self, other: &Self) -> bool {
        let gives_back_alike = match (self.give_back_if, other.give_back_if) {
            (Some(one), Some(other)) => fn_addr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        gives_back_alike && (self.shadow, self.on_store_error) == (other.shadow, other.on_store_error)
    }
}

/// Policies are equal if they are the same rule, declared in the same place.
impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        self.is_same_rule(other) && self.declaration() == other.declaration()
    }
}

impl Eq for Policy {}

#[cfg(test)]
mod tests {
    use http::request::Parts;

    use super::*;
    use crate::key::KeyPart;

    #[test]
    fn the_place_tells_two_equal_rules_apart() {
        let one = Policy::new("same").per_second(1);
        let other = Policy::new("same").per_second(1);
        assert!(one.is_same_rule(&other));
        assert_ne!(one, other);
        assert_eq!(one, one.clone());
    }

    #[test]
    fn functions_of_one_place_are_told_apart_by_their_text() {
        fn made(user: fn(&Parts) -> Option<String>, text: &'static str) -> Policy {
            let key: &'static [KeyPart] = Vec::leak(vec![KeyPart::By(user)]);
            Policy::new("made").per_second(1).key(key).__functions(text)
        }
        let (one, again, other) =
            (made(|_| None, "key = a"), made(|_| None, "key = a"), made(|_| Some(String::new()), "key = b"));
        assert_eq!(one.location(), other.location());
        assert!(one.is_same_rule(&again));
        assert_eq!(one, again);
        assert!(!one.is_same_rule(&other));
        assert_ne!(one, other);
    }
}
