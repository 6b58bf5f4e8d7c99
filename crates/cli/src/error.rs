//! What went wrong, for a person and for the exit status.

use pgdb_api::errors::ErrorBody;

/// The daemon's own refusal.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) body: ErrorBody,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.body.message)
    }
}

impl std::error::Error for Refused {}

/// Something that was typed wrong and that we noticed ourselves.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// The daemon cannot be reached at all.
#[derive(Debug)]
pub(crate) struct Unreachable {
    pub(crate) url: String,
    pub(crate) why: String,
}

impl std::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "could not reach the daemon at {}: {}", self.url, self.why)
    }
}

impl std::error::Error for Unreachable {}

/// The command did what it should, and its exit status says what it found.
#[derive(Debug)]
pub(crate) struct Found(pub(crate) u8);

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ended with {}", self.0)
    }
}

impl std::error::Error for Found {}

/// What a shell says of a program that wrote to a pipe which nobody reads: 128 and the signal's number.
const UNREAD: u8 = 128 + 13;

/// Whether it is that nobody reads what a command writes any more, as in `pgdb logs NAME -f | head -1`: it ends quietly, as
/// others do. The signal itself stays ignored, for it would also end us where the other side of a connection goes away.
pub(crate) fn is_unread(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// 2 for wrong use, what was found where a command has words for it, 1 for everything else.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Found>() {
        Some(found) => found.0,
        None if error.is::<Usage>() => 2,
        None if is_unread(error) => UNREAD,
        None => 1,
    }
}

/// What to do about an error, where that is known.
pub(crate) fn hint(error: &anyhow::Error) -> Option<String> {
    if error.is::<Unreachable>() {
        return Some("is it running? Start it with `pgdb serve`, or name another with --server or `pgdb config set server.default URL`".to_owned());
    }
    let refused: &Refused = error.downcast_ref()?;
    match refused.status {
        401 => {
            Some("set PGDB_TOKEN to the daemon's token, or run this as the user who can read its token file".to_owned())
        }
        403 => Some("use a token with that scope: `pgdb token create --scope …`".to_owned()),
        500.. if !refused.body.request_id.is_empty() => {
            Some(format!("the daemon's log has more under request id {}", refused.body.request_id))
        }
        423 => refused.body.operation_id.as_ref().map(|id| format!("watch it with `pgdb operations watch {id}`")),
        _ => None,
    }
}
