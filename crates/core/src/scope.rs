//! What a token may do.

use crate::operation::text_enum;

text_enum! {
    /// One right of a token. Each route asks for one.
    Scope {
        /// Everything, tokens and keys included.
        Admin = "admin",
        /// See instances, without their passwords.
        InstancesRead = "instances:read",
        /// Deploy, change and destroy instances.
        InstancesWrite = "instances:write",
        /// See the passwords of instances.
        InstancesReveal = "instances:reveal",
        /// See operations.
        OperationsRead = "operations:read",
        /// Read the audit log.
        AuditRead = "audit:read",
        /// Ensure and delete previews.
        Previews = "previews",
        /// Refresh, build and roll back the templates of previews.
        Templates = "templates",
        /// Run migrations in the databases of instances, templates and previews.
        Migrations = "migrations",
        /// Manage REST instances.
        Rest = "rest",
    }
}

/// The scopes of one caller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// A set of scopes, sorted and without repeats.
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Self {
        let mut scopes: Vec<Scope> = scopes.into_iter().collect();
        scopes.sort_unstable();
        scopes.dedup();
        Self(scopes)
    }

    /// Whether the caller may do what `scope` stands for; `admin` may do everything.
    pub fn allow(&self, scope: Scope) -> bool {
        self.0.contains(&Scope::Admin) || self.0.contains(&scope)
    }

    /// The scopes, sorted.
    pub fn as_slice(&self) -> &[Scope] {
        &self.0
    }

    /// The scopes separated by single spaces, as stored.
    pub fn to_text(&self) -> String {
        self.0.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// Reads what [`Self::to_text`] wrote; unknown words are left out.
    pub fn from_text(text: &str) -> Self {
        Self::new(text.split_whitespace().filter_map(Scope::parse))
    }
}
