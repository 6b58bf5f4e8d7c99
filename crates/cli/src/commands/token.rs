//! `pgdb token create|list|revoke`.

use super::Context;
use crate::client::segment;
use crate::error::Usage;
use clap::{Args, Subcommand};
use pgdb_api::tokens::{CreateToken, CreatedToken, TokenInfo, TokensResponse};
use pgdb_core::duration::parse_seconds;
use pgdb_core::scope::Scope;

/// Access tokens.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Token {
    /// Make a token; its text is shown once.
    Create(Create),
    /// All tokens, without their texts.
    List,
    /// Make a token stop working at once.
    Revoke {
        /// Its id, `tk_…`.
        id: String,
    },
}

/// Make a token; its text is shown once.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// A label for people.
    #[arg(long)]
    name: String,
    /// What it may do; can be given more than once. One of: admin, instances:read, instances:write,
    /// instances:reveal, operations:read, audit:read, previews, templates, migrations, rest.
    #[arg(long = "scope", required = true, value_delimiter = ',')]
    scopes: Vec<String>,
    /// When it stops working, from now: 90s, 15m, 12h, 30d. Never when left out.
    #[arg(long, value_name = "DURATION", value_parser = parse_seconds)]
    expires: Option<u64>,
}

impl Token {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        match self {
            Self::Create(create) => create.run(cx).await,
            Self::List => list(cx).await,
            Self::Revoke { id } => {
                let info: TokenInfo = cx.client.delete(&format!("/v1/tokens/{}", segment(&id))).await?;
                cx.printer.either(&info, |printer| printer.line(format!("revoked: {}", info.id)))
            }
        }
    }
}

impl Create {
    async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        if let Some(unknown) = self.scopes.iter().find(|scope| Scope::parse(scope).is_none()) {
            let known: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
            return Err(Usage(format!("there is no scope '{unknown}'; there are: {}", known.join(", "))).into());
        }
        let wanted = CreateToken { name: self.name, scopes: self.scopes, expires_in_seconds: self.expires };
        let created: CreatedToken = cx.client.post("/v1/tokens", &wanted).await?;
        cx.printer.either(&created, |printer| {
            printer.note(format!(
                "{} with {}; its text is not shown again:",
                created.info.id,
                created.info.scopes.join(", ")
            ));
            printer.line(&created.token);
        })
    }
}

async fn list(cx: &Context<'_>) -> anyhow::Result<()> {
    let tokens: TokensResponse = cx.client.get("/v1/tokens").await?;
    cx.printer.either(&tokens, |printer| {
        let rows = tokens.items.iter().map(|token| {
            let ends = match (token.revoked_at, token.expires_at) {
                (Some(_), _) => "revoked".to_owned(),
                (None, Some(at)) => at.to_string(),
                (None, None) => "never".to_owned(),
            };
            vec![token.id.clone(), token.name.clone(), token.scopes.join(","), ends]
        });
        printer.table(&["ID", "NAME", "SCOPES", "ENDS"], rows.collect());
    })
}
