//! What to do instead of what was typed, where clap cannot know it: words that other tools have.

use clap::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Adds a tip to what is wrong with a command, if there is one.
pub(crate) fn add(error: &mut Error, typed: &[String]) {
    let of = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let has = |word: &str| typed.iter().any(|typed| typed == word);
    let tip = match (error.kind(), of(ContextKind::InvalidSubcommand), of(ContextKind::InvalidArg)) {
        _ if !has("migrate") => None,
        (ErrorKind::InvalidSubcommand, Some("up" | "apply" | "deploy" | "migrate"), _) => {
            Some("`pgdb migrate run` runs what has not been run")
        }
        (ErrorKind::InvalidSubcommand, Some("down" | "rollback" | "undo" | "revert"), _) => {
            Some("there are no ways back: write a new file that takes the change back")
        }
        (ErrorKind::UnknownArgument, _, Some("--dry-run")) if has("run") => {
            Some("`pgdb migrate plan` tells what would run")
        }
        (ErrorKind::UnknownArgument, _, Some("--on")) if has("watch") => {
            Some("watch takes a URL, in DATABASE_URL or --database-url-file; `pgdb url NAME --reveal` prints one")
        }
        _ => None,
    };
    if let Some(tip) = tip {
        // What is spelled alike is something else, and the usage names it.
        if error.remove(ContextKind::SuggestedArg).is_some() {
            error.remove(ContextKind::Usage);
        }
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
}
