//! Medians and means, and numbers in a readable form.

/// A mean, and its standard error; `None` if there is but one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) mean: f64,
    pub(crate) error: Option<f64>,
}

impl Estimate {
    /// Returns the mean of `values`, if there are any.
    #[expect(clippy::cast_precision_loss, reason = "there are few values")]
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let error = (values.len() > 1).then(|| (squares / (count - 1.0) / count).sqrt());
        (!values.is_empty()).then_some(Self { mean, error })
    }
}

/// Returns the median.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[middle - 1], upper) })
}

/// Formats a rounded number with separators, such as `12,345`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are positive and small")]
pub(crate) fn thousands(value: f64) -> String {
    let digits = (value.round() as u64).to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a number with this many decimals, or a dash if there is none.
pub(crate) fn or_dash(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_well() {
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(thousands(999.6), "1,000");
        assert_eq!(thousands(0.0), "0");
        assert_eq!(or_dash(Some(1.25), 1), "1.2");
        assert_eq!(or_dash(None, 1), "-");
    }

    #[test]
    fn the_mean_of_a_few() {
        let estimate = |mean, error| Some(Estimate { mean, error });
        assert_eq!(Estimate::of(&[1.0, 2.0, 3.0]), estimate(2.0, Some((1.0_f64 / 3.0).sqrt())));
        assert_eq!(Estimate::of(&[2.0]), estimate(2.0, None));
        assert_eq!(Estimate::of(&[]), None);
    }

    #[test]
    fn the_middle_of_a_few() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }
}
