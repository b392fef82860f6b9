//! Checks single values, with faults on the offending token: names, numbers, windows, headers, statuses, texts.

use std::time::Duration;

use syn::{Expr, ExprLit, ExprUnary, Lit, LitFloat, LitInt, LitStr, UnOp};

use crate::args::{Argument, ungrouped};
use crate::errors::Errors;
use crate::key::KeyPart;

const MAX_NAME: usize = 64;
const MIN_WINDOW: Duration = Duration::from_millis(1);
const MAX_WINDOW: Duration = Duration::from_secs(366 * 24 * 60 * 60);

pub(crate) fn check_name(name: LitStr, errors: &mut Errors) -> Option<LitStr> {
    let value = name.value();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let fault = if value.is_empty() {
        "the name is empty: write 1 to 64 characters of `A-Z a-z 0-9 _ - .`, such as `name = \"login\"`"
            .to_owned()
    } else if let Some(c) = value.chars().find(|c| !allowed(*c)) {
        let instead: String = value.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
        format!(
            "the name holds `{}`: write 1 to 64 characters of `A-Z a-z 0-9 _ - .`, such as `name = \"{}\"`",
            c.escape_debug(),
            instead.chars().take(MAX_NAME).collect::<String>(),
        )
    } else if value.len() > MAX_NAME {
        format!(
            "the name has {} characters: write at most {MAX_NAME}, such as `name = \"{}\"`",
            value.len(),
            &value[..MAX_NAME],
        )
    } else if let Some(suffix) = Some(name.suffix()).filter(|suffix| !suffix.is_empty()) {
        format!("the name ends in `{suffix}`: write `name = \"{value}\"`")
    } else {
        return Some(name);
    };
    errors.at(name.span(), fault);
    None
}

/// A number from 1 to `u32::MAX`, as far as the macro can tell.
pub(crate) enum Number {
    Literal(u32),
    /// An expression that the compiler evaluates later.
    Constant,
}

/// Why an expression is no [`Number`].
enum NumberFault<'a> {
    Zero,
    TooLarge(&'a LitInt),
    WrongSuffix {
        number: u32,
        suffix: &'a str,
    },
    Negative,
    Fraction(&'a LitFloat),
    /// A literal of another kind, such as a string.
    NotANumber,
}

impl Number {
    pub(crate) fn literal(self) -> Option<u32> {
        match self {
            Self::Literal(number) => Some(number),
            Self::Constant => None,
        }
    }

    fn read(expr: &Expr) -> Result<Self, NumberFault<'_>> {
        match ungrouped(expr) {
            Expr::Lit(ExprLit { lit: Lit::Int(int), .. }) => {
                match (int.base10_digits().parse(), int.suffix()) {
                    (Ok(0), _) => Err(NumberFault::Zero),
                    (Ok(number), "" | "u32") => Ok(Self::Literal(number)),
                    (Ok(number), suffix) => Err(NumberFault::WrongSuffix { number, suffix }),
                    (Err(_), _) => Err(NumberFault::TooLarge(int)),
                }
            }
            Expr::Lit(ExprLit { lit: Lit::Float(float), .. }) => Err(NumberFault::Fraction(float)),
            Expr::Lit(_) => Err(NumberFault::NotANumber),
            Expr::Unary(ExprUnary { op: UnOp::Neg(_), expr, .. })
                if matches!(ungrouped(expr), Expr::Lit(_)) =>
            {
                Err(NumberFault::Negative)
            }
            _ => Ok(Self::Constant),
        }
    }

    /// Reads a number, and reports its fault in the words of `describe`.
    fn check(
        expr: &Expr,
        errors: &mut Errors,
        describe: impl FnOnce(NumberFault<'_>) -> String,
    ) -> Option<Self> {
        Self::read(expr).map_err(|fault| errors.push(syn::Error::new_spanned(expr, describe(fault)))).ok()
    }
}

/// Checks the count of a quota, which is given by `argument`.
pub(crate) fn check_count(argument: &Argument, count: &Expr, errors: &mut Errors) -> Option<Number> {
    let range = format!("write a whole number from 1 to {}, such as `{}`", u32::MAX, argument.usage);
    Number::check(count, errors, |fault| match fault {
        NumberFault::Zero => format!("a quota of 0 would deny every request: {range}"),
        NumberFault::TooLarge(int) => format!("`{}` is too large: {range}", int.base10_digits()),
        NumberFault::WrongSuffix { number, suffix } => {
            format!("the count is a `u32`, not `{suffix}`: write `{number}`")
        }
        NumberFault::Negative => format!("a quota can't be negative: {range}"),
        NumberFault::Fraction(float) => {
            format!("`{float}` is not a whole number: {range}, or a longer window")
        }
        NumberFault::NotANumber => format!("a quota is counted in requests: {range}"),
    })
}

/// Checks a burst or a cost. `zero` says what is wrong with 0, and `range` what to write instead.
pub(crate) fn check_number(number: &Expr, zero: &str, range: &str, errors: &mut Errors) -> Option<Number> {
    Number::check(number, errors, |fault| match fault {
        NumberFault::Zero => format!("{zero}: {range}"),
        NumberFault::TooLarge(int) => format!("`{}` is too large: {range}", int.base10_digits()),
        NumberFault::WrongSuffix { number, suffix } => {
            format!("this is a `u32`, not `{suffix}`: write `{number}`")
        }
        NumberFault::Negative => format!("this can't be negative: {range}"),
        NumberFault::Fraction(_) | NumberFault::NotANumber => format!("this is not a whole number: {range}"),
    })
}

pub(crate) fn check_window(text: &LitStr, errors: &mut Errors) -> Option<u64> {
    const INSTEAD: &str = "write `per = \"90s\"`, \"15m\" or \"1h 30m\", from \"1ms\" to \"366d\"";
    let value = text.value();
    let fault = match humantime::parse_duration(&value) {
        Err(error) => format!("`{value}` is not a window ({error}): {INSTEAD}"),
        Ok(_) if has_calendar_unit(&value) => {
            format!(
                "`{value}` has months or years, which have no length that all agree on (`M` is a month, and `m` a \
                     minute): write it in days, as `per = \"30d\"` or \"365d\""
            )
        }
        Ok(window) if window < MIN_WINDOW => format!("`{value}` is shorter than a millisecond: {INSTEAD}"),
        Ok(window) if window > MAX_WINDOW => format!("`{value}` is longer than 366 days: {INSTEAD}"),
        Ok(window) if window.subsec_nanos() % 1_000_000 != 0 => {
            format!("`{value}` is not a whole number of milliseconds: {INSTEAD}")
        }
        Ok(window) => return Some(window.as_secs() * 1_000 + u64::from(window.subsec_millis())),
    };
    errors.at(text.span(), fault);
    None
}

/// Whether a window is given in months or years, which humantime takes as 30.44 and 365.25 days.
fn has_calendar_unit(window: &str) -> bool {
    let units = window.split(|character: char| !character.is_ascii_alphabetic());
    units.into_iter().any(|unit| unit == "M" || unit.starts_with("month") || unit.starts_with('y'))
}

pub(crate) fn check_headers<'a>(key: impl Iterator<Item = &'a KeyPart>, errors: &mut Errors) {
    for name in key.filter_map(KeyPart::header_name) {
        let Expr::Lit(ExprLit { lit, .. }) = ungrouped(name) else { continue };
        let is_name = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
        };
        if !matches!(lit, Lit::Str(name) if is_name(&name.value())) {
            errors.at(lit.span(), "this is not a header name: write `header(\"x-api-key\")` or the like");
        }
    }
}

pub(crate) fn check_status(status: &Expr, errors: &mut Errors) {
    const INSTEAD: &str = "write a status from 400 to 599, such as `status = 429`";
    let fault = match ungrouped(status) {
        Expr::Lit(ExprLit { lit: Lit::Int(int), .. }) => match int.base10_parse::<u16>() {
            Ok(400..=599) if matches!(int.suffix(), "" | "u16") => return,
            Ok(400..=599) => format!("the status is a `u16`: write `status = {}`", int.base10_digits()),
            _ => format!("`{}` is not an error status: {INSTEAD}", int.base10_digits()),
        },
        Expr::Lit(_) | Expr::Unary(ExprUnary { op: UnOp::Neg(_), .. }) => {
            format!("the status is a whole number: {INSTEAD}")
        }
        Expr::Path(path) if path.path.segments.iter().any(|segment| segment.ident == "StatusCode") => {
            format!("the status is a number: {INSTEAD}, or append `.as_u16()`")
        }
        _ => return,
    };
    errors.push(syn::Error::new_spanned(status, fault));
}

pub(crate) fn check_message(message: &Expr, errors: &mut Errors) {
    let fault = match ungrouped(message) {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) if text.value().trim().is_empty() => {
            "the message is empty: write what a client should read, or leave `message` out for \
             `Rate limit exceeded.`"
        }
        Expr::Lit(ExprLit { lit: Lit::Str(_), .. }) => return,
        Expr::Lit(_) | Expr::Unary(ExprUnary { op: UnOp::Neg(_), .. }) => {
            "the message is a string: write `message = \"…\"`"
        }
        _ => return,
    };
    errors.push(syn::Error::new_spanned(message, fault));
}
