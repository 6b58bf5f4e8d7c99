//! The vocabulary of durable operations.

macro_rules! text_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ::serde::Serialize, ::serde::Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// Every value, in the order of its declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word stored and sent for it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The value for a stored or received word.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use text_enum;

text_enum! {
    /// Where an operation, or one step of it, stands.
    OperationState {
        /// Written down, not begun.
        Pending = "pending",
        /// At work, or waiting to try again.
        Running = "running",
        /// Reached its goal.
        Succeeded = "succeeded",
        /// Ended short of its goal with nothing left to undo, or with an undo that could not be finished.
        Failed = "failed",
        /// Taking back what its steps did.
        Undoing = "undoing",
        /// Ended short of its goal; everything it did is taken back.
        Undone = "undone",
    }
}

impl OperationState {
    /// Whether nothing more will happen.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Undone)
    }
}
