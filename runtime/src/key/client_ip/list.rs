//! Splits a header's list into its members, from the last to the first.
//!
//! The nearest proxy has written the last member. Since reading starts there, nothing before a member, such as an
//! open quote, can change what the member means, and nothing before the client's own address is looked at.

/// What is between the commas.
#[derive(Clone, Copy, Debug)]
pub(super) enum Grammar {
    /// Text without commas.
    Plain,
    /// Text whose quoted strings may contain commas.
    Quoting,
    /// The line is its only member.
    Whole,
}

impl Grammar {
    /// Returns the length of the longest member. A proxy writes none that is longer.
    const fn longest(self) -> usize {
        match self {
            Self::Plain | Self::Whole => 256,
            // It may contain the host, which the client chooses.
            Self::Quoting => 16 * 1_024,
        }
    }
}

/// The members of one line, the last first. `None` stands for text that is not a member, and ends the line.
pub(super) struct Members<'a> {
    grammar: Grammar,
    /// What has not been read yet.
    line: Option<&'a [u8]>,
}

impl<'a> Members<'a> {
    pub(super) fn new(grammar: Grammar, line: &'a [u8]) -> Self {
        Self { grammar, line: Some(line) }
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.line.take()?;
        let Ok(comma) = last_comma(line, self.grammar) else { return Some(None) };
        Some(Some(match comma {
            Some(comma) => {
                self.line = Some(&line[..comma]);
                &line[comma + 1..]
            }
            None => line,
        }))
    }
}

/// Finds the comma before the last member: `Ok(None)` if there is no other, an error if the last is malformed or
/// too long.
fn last_comma(line: &[u8], grammar: Grammar) -> Result<Option<usize>, ()> {
    let start = line.len().saturating_sub(grammar.longest() + 1);
    let mut quoted = false;
    for (index, byte) in line.iter().enumerate().skip(start).rev() {
        match (byte, grammar) {
            (b',', Grammar::Plain | Grammar::Quoting) if !quoted => return Ok(Some(index)),
            (b'"', Grammar::Quoting) if !is_escaped(&line[start..index]) => quoted = !quoted,
            // Outside a quoted string nothing is escaped.
            (b'"', Grammar::Quoting) if !quoted => return Err(()),
            _ => {}
        }
    }
    if line.len() > grammar.longest() || quoted { Err(()) } else { Ok(None) }
}

/// Whether the byte after `before` is escaped. A backslash escapes the next byte, even another backslash.
fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(grammar: Grammar, line: &str) -> Vec<Option<&str>> {
        let text = |member: Option<_>| member.map(|member| std::str::from_utf8(member).unwrap());
        Members::new(grammar, line.as_bytes()).map(text).collect()
    }

    #[test]
    fn the_last_comes_first() {
        assert_eq!(members(Grammar::Plain, "a, b,c"), [Some("c"), Some(" b"), Some("a")]);
        assert_eq!(members(Grammar::Plain, "a,,"), [Some(""), Some(""), Some("a")]);
        assert_eq!(members(Grammar::Plain, ""), [Some("")]);
        assert_eq!(members(Grammar::Plain, "a\",b"), [Some("b"), Some("a\"")]);
    }

    #[test]
    fn a_quoted_comma_parts_nothing() {
        let quoting = |line| members(Grammar::Quoting, line);
        assert_eq!(quoting(r#"a="b,c",d"#), [Some("d"), Some(r#"a="b,c""#)]);
        assert_eq!(quoting(r#"a="b\",c\\",d"#), [Some("d"), Some(r#"a="b\",c\\""#)]);
        assert_eq!(quoting(r#""","",x"#), [Some("x"), Some("\"\""), Some("\"\"")]);
    }

    #[test]
    fn an_open_quote_spoils_what_stands_before_it_alone() {
        let quoting = |line| members(Grammar::Quoting, line);
        assert_eq!(quoting(r#"a,b=",c"#), [Some("c"), None]);
        assert_eq!(quoting(r#"a,b\",c"#), [Some("c"), None]);
        assert_eq!(quoting(r#"a,b=""#), [None]);
    }

    #[test]
    fn what_is_over_long_is_no_member() {
        let longest = "x".repeat(Grammar::Plain.longest());
        assert_eq!(members(Grammar::Plain, &longest), [Some(longest.as_str())]);
        assert_eq!(members(Grammar::Plain, &format!("{longest},y")), [Some("y"), Some(longest.as_str())]);
        assert_eq!(members(Grammar::Plain, &format!("y,{longest}")), [Some(longest.as_str()), Some("y")]);
        assert_eq!(members(Grammar::Plain, &format!("y,x{longest}")), [None]);
        assert_eq!(members(Grammar::Plain, &format!("x{longest}")), [None]);
    }

    proptest! {
        #[test]
        fn plain_members_are_those_between_commas(line in "[a-c,\"\\\\ ]{0,20}") {
            let expected: Vec<Option<&str>> = line.rsplit(',').map(Some).collect();
            prop_assert_eq!(members(Grammar::Plain, &line), expected);
        }

        #[test]
        fn well_formed_lines_are_read_the_same_from_both_ends(
            parts in proptest::collection::vec("([a-c=; ]{0,4}|\"([a-c,; ]|\\\\[\"\\\\,])*\"){0,3}", 1..4),
        ) {
            let expected: Vec<Option<&str>> = parts.iter().rev().map(|part| Some(part.as_str())).collect();
            let line = parts.join(",");
            prop_assert_eq!(members(Grammar::Quoting, &line), expected);
        }

        /// What stands before a member does not change it.
        #[test]
        fn nothing_before_a_member_changes_it(sent in "[ -~]{0,30}", own in "[a-c=;]{1,4}(\"[a-c,;]*\")?") {
            let line = format!("{sent},{own}");
            prop_assert_eq!(members(Grammar::Quoting, &line)[0], Some(own.as_str()));
        }
    }
}
