//! Words that follow a number.

/// `1 layer`, `3 layers`.
pub(crate) fn counted(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {one}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_no_plural() {
        let said = [0, 1, 2].map(|number| counted(number, "layer"));
        assert_eq!(said, ["0 layers", "1 layer", "2 layers"]);
    }
}
