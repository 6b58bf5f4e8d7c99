use crate::support::Outcome;
use std::collections::BTreeSet;
use std::path::Path;

/// Calls whose first text is an error's code.
const MAKERS: [&str; 10] = [
    "Problem::invalid(",
    "Problem::not_found(",
    "Problem::conflict(",
    "Problem::locked(",
    "Problem::busy(",
    "Problem::upstream(",
    "HttpError::new(",
    "Self::busy(",
    "Self::new(",
    " invalid(",
];

fn codes_in(folder: &Path, codes: &mut BTreeSet<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            codes_in(&path, codes)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path)?;
            for maker in MAKERS {
                for rest in text.split(maker).skip(1) {
                    let word = rest.split(';').next().and_then(|call| call.split('"').nth(1)).unwrap_or_default();
                    let code = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                    codes.extend(code.then(|| word.to_owned()));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn every_error_code_has_a_page() -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut codes: BTreeSet<String> = ["internal", "forbidden", "disk_full"].map(str::to_owned).into();
    codes_in(&root.join("src"), &mut codes)?;
    assert!(codes.len() >= 18, "{codes:?}");
    let pages = root.join("../../docs/errors");
    let missing: Vec<&String> = codes.iter().filter(|code| !pages.join(format!("{code}.md")).exists()).collect();
    assert!(missing.is_empty(), "write docs/errors/<code>.md for {missing:?}");
    Ok(())
}
