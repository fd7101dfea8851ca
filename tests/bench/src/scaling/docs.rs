//! Tables that a command writes into documents, between two marks.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A document with tables of a run.
#[derive(Debug, Clone, Copy)]
pub(super) enum Document {
    Performance,
    Scaling,
}

impl Document {
    fn path(self) -> PathBuf {
        let name = match self {
            Self::Performance => "PERFORMANCE.md",
            Self::Scaling => "SCALING.md",
        };
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)
    }
}

/// Puts a table where the document has its marks.
pub(super) fn write(document: Document, name: &str, table: &str) -> Result<()> {
    let path = document.path();
    let shown = path.display();
    let text = std::fs::read_to_string(&path).with_context(|| format!("{shown}"))?;
    let text = replaced(&text, name, table).with_context(|| format!("{shown}"))?;
    std::fs::write(&path, text).with_context(|| format!("{shown}"))?;
    eprintln!("wrote the table {name} of {shown}");
    Ok(())
}

fn replaced(text: &str, name: &str, table: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- bench: {name} -->\n"), format!("<!-- end: {name} -->"));
    let (before, rest) = text.split_once(&begin).with_context(|| format!("no line {begin}"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("no line {end}"))?;
    Ok(format!("{before}{begin}{table}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let text = "a\n<!-- bench: fit -->\nold\n<!-- end: fit -->\nb\n";
        let expected = "a\n<!-- bench: fit -->\nnew\n<!-- end: fit -->\nb\n";
        assert_eq!(replaced(text, "fit", "new").unwrap(), expected);
        assert_eq!(replaced(expected, "fit", "new").unwrap(), expected);
        assert!(replaced(text, "other", "new").is_err());
    }

    #[test]
    fn the_documents_have_places_for_all_tables() {
        let places = [
            (Document::Performance, "run"),
            (Document::Scaling, "fit"),
            (Document::Scaling, "check"),
            (Document::Scaling, "distance"),
            (Document::Scaling, "needs"),
        ];
        for (document, name) in places {
            let text = std::fs::read_to_string(document.path()).unwrap();
            assert!(replaced(&text, name, "").is_ok(), "{name}");
        }
    }
}
