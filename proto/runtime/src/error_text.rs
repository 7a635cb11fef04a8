//! Errors as text for logs, conditions and people.

/// An error and what caused it, on one line. A cause that the text above it repeats already is left out.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    #[test]
    fn every_cause_is_told_once() {
        let lowest = Box::new(Layer { text: "refused", source: None });
        let middle = Box::new(Layer { text: "cannot dial: refused", source: Some(lowest) });
        let error = Layer { text: "cannot join", source: Some(middle) };
        assert_eq!(chain(&error), "cannot join: cannot dial: refused");
    }
}
