//! `preview.reset`: a preview's database is dropped and made anew. Goes forward only: what it held was to go anyway.

use super::super::record::{self, PasswordMark, Ready};
use super::super::world::PreviewWorld;
use super::{copied, place, step, unknown_step};
use crate::operations::{OperationKind, StepContext, StepDone, StepError, StepPlan};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The kind.
pub const RESET: &str = "preview.reset";

/// What a reset makes anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetInput {
    /// The server.
    pub target: String,
    /// The template.
    pub template: String,
    /// The pull request's number.
    pub number: u64,
    /// The template's generation.
    pub generation: u64,
}

pub(super) struct Reset(pub(super) Arc<PreviewWorld>);

#[async_trait]
impl OperationKind for Reset {
    fn kind(&self) -> &str {
        RESET
    }

    fn plan(&self, _: &Value) -> Vec<StepPlan> {
        let long = Duration::from_secs(3600);
        vec![
            step("disconnect"),
            step("drop_database").timeout(Duration::from_secs(600)),
            step("make_role"),
            step("clone").timeout(long),
            step("hand_over").timeout(long),
        ]
    }

    fn joinable(&self) -> bool {
        true
    }

    fn undoes(&self) -> bool {
        false
    }

    async fn run(&self, step: &str, cx: &StepContext) -> Result<StepDone, StepError> {
        let input: ResetInput = cx.input()?;
        let place = place(&self.0, &input.target, &input.template, input.number).await?;
        match step {
            "disconnect" => self.0.disconnect(&place.server, &place.db).await?,
            "drop_database" => self.0.drop_database(&place.server, &place.db).await?,
            "make_role" => {
                let mark = self.0.mend_role(&place).await?;
                return Ok(StepDone::output(json!({ "salt": mark.salt })));
            }
            "clone" => {
                let done = self.0.clone_template(&place, &place.db).await?;
                return Ok(copied(&input.target, &input.template, done));
            }
            "hand_over" => {
                self.0.hand_over(&place, &place.db, &place.role).await?;
                let password = self.0.password(&place.server, &place.db, &place.role).await?;
                let salt = cx.output::<Value>("make_role")?["salt"].as_str().map(str::to_owned);
                let mark = PasswordMark { fingerprint: Some(password.fingerprint), salt };
                let ready = Ready { news: false, generation: input.generation, mark };
                let (target, db) = (place.server.key.clone(), place.db);
                return Ok(StepDone::commit(move |connection| match record::by_db(connection, &target, &db)? {
                    Some(preview) => record::set_ready(connection, &preview.id, &ready),
                    None => Ok(()),
                }));
            }
            other => return Err(unknown_step(RESET, other)),
        }
        Ok(StepDone::empty())
    }

    async fn undo(&self, _: &str, _: &StepContext) -> Result<(), StepError> {
        Ok(())
    }
}
