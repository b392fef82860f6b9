//! The ratios as a picture.

use std::fmt;

use crate::report::Report;

pub(crate) struct Chart<'a>(pub(crate) &'a Report<'a>);

impl fmt::Display for Chart<'_> {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = self.0;
        Ok(())
    }
}
