//! What can go wrong.

use pgdb_core::infra::plan::Impossible;
use pgdb_core::infra::refusal;

/// Why something could not be done. Its text is for people.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The provider did not answer, however often it was asked.
    #[error("could not {doing}: no answer from {endpoint} in {attempts} attempts: {why}")]
    Silent {
        /// The request in words.
        doing: String,
        /// Where it went.
        endpoint: String,
        /// How often.
        attempts: u32,
        /// What happened to the last one.
        why: String,
    },
    /// The provider refused.
    #[error("could not {doing}: {}", refusal::words(code, message))]
    Refused {
        /// The request in words.
        doing: String,
        /// The HTTP status.
        status: u16,
        /// The provider's code; empty if it gave none.
        code: String,
        /// The provider's words.
        message: String,
    },
    /// The provider's answer is not what its documentation says.
    #[error("could not {doing}: the answer makes no sense ({why}); is HCLOUD_ENDPOINT right?")]
    Nonsense {
        /// The request in words.
        doing: String,
        /// What is wrong with it.
        why: String,
    },
    /// What the provider had begun failed there.
    #[error("could not {doing}: {}", refusal::words(code, message))]
    ActionFailed {
        /// What was begun, in words.
        doing: String,
        /// The provider's code.
        code: String,
        /// The provider's words.
        message: String,
    },
    /// It takes too long.
    #[error("gave up waiting after {seconds} s: {what}; the provider may still be at it")]
    Slow {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// What is there does not go with what is wanted.
    #[error(transparent)]
    Impossible(#[from] Impossible),
    /// What was asked for is wrong.
    #[error("{0}")]
    Usage(String),
    /// A file of ours.
    #[error("could not {doing}: {source}")]
    File {
        /// What was tried.
        doing: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A program on this machine or on the server failed.
    #[error("{0}")]
    Tool(String),
}

impl Error {
    /// The provider's code, if it refused with one.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } | Self::ActionFailed { code, .. } => code,
            _ => "",
        }
    }

    /// Turns an error of the file system into ours.
    pub(crate) fn file(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::File { doing, source }
    }
}
