//! Templates: the databases that previews are cloned from. Made anew from a source, a dump or files, checked, and only
//! then put in the place of the one before, which is kept.

pub(crate) mod checks;
pub mod record;
pub mod routes;
mod service;
mod source;
mod steps;

pub(crate) use service::locked;
pub use service::{TemplateService, Which};
pub(crate) use steps::MIGRATE;
pub use steps::kinds;
