//! The crash test: every kind of operation is killed before, inside and after each of its steps, made to fail in each,
//! killed again while that is taken back, and made to run steps twice. After every one of these the operation has to
//! end, what it was about has to be whole or gone, and nothing may be left over.
//!
//! A new kind of operation joins by a [`driver::Scenario`], a line in [`SCENARIOS`] and a `#[test]` that drives it;
//! the test at the end fails until it does.

mod deploy;
mod destroy;
mod driver;
mod engines;
mod migrations;
mod password;
mod power;
mod previews;
mod restore;
mod templates;

use driver::{Scenario, drive, drive_on};
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::on::On;
use pgdb_testkit::on_runtimes;

/// The kinds of operations that are driven here.
const SCENARIOS: &[&str] = &[
    deploy::Deploy::KIND,
    destroy::Destroy::KIND,
    power::Start::KIND,
    power::Stop::KIND,
    power::Restart::KIND,
    password::RotatePassword::KIND,
    restore::Restore::KIND,
    engines::Install::KIND,
    previews::EnsureCold::KIND,
    previews::Delete::KIND,
    previews::Reset::KIND,
    previews::PoolFill::KIND,
    previews::PoolDrop::KIND,
    previews::PrepareTemplate::KIND,
    <templates::Refresh as templates::Way>::KIND,
    <templates::Build as templates::Way>::KIND,
    <templates::Migrate as templates::Way>::KIND,
    templates::Rollback::KIND,
    templates::Delete::KIND,
    migrations::Rollout::KIND,
];

on_runtimes!(
    process, docker;
    a_deploy_is_whole_or_gone,
    a_deploy_from_a_volume_never_loses_the_volume,
    a_destroy_reaches_its_end,
    a_destroy_that_keeps_data_never_loses_it,
    a_start_reaches_its_end,
    a_stop_reaches_its_end,
    a_restart_reaches_its_end,
    a_new_password_is_valid_or_the_old_one_is,
    a_restore_replaces_everything_or_nothing,
);

async fn a_deploy_is_whole_or_gone(on: &On) {
    drive_on(on, deploy::Deploy).await;
}

async fn a_deploy_from_a_volume_never_loses_the_volume(on: &On) {
    drive_on(on, deploy::DeployFromVolume).await;
}

async fn a_destroy_reaches_its_end(on: &On) {
    drive_on(on, destroy::Destroy { keep_data: false }).await;
}

async fn a_destroy_that_keeps_data_never_loses_it(on: &On) {
    drive_on(on, destroy::Destroy { keep_data: true }).await;
}

async fn a_start_reaches_its_end(on: &On) {
    drive_on(on, power::Start).await;
}

async fn a_stop_reaches_its_end(on: &On) {
    drive_on(on, power::Stop).await;
}

async fn a_restart_reaches_its_end(on: &On) {
    drive_on(on, power::Restart).await;
}

async fn a_new_password_is_valid_or_the_old_one_is(on: &On) {
    drive_on(on, password::RotatePassword).await;
}

async fn a_restore_replaces_everything_or_nothing(on: &On) {
    drive_on(on, restore::Restore).await;
}

#[tokio::test]
async fn a_destroy_takes_the_records_of_previews_along() {
    drive(destroy::DestroyWithPreviews).await;
}

#[tokio::test]
async fn an_engine_is_installed_or_not() {
    drive(engines::Install).await;
}

#[tokio::test]
async fn a_preview_is_whole_or_gone() {
    drive(previews::EnsureCold).await;
}

#[tokio::test]
async fn a_preview_out_of_the_pool_is_whole_or_gone() {
    drive(previews::EnsureWarm).await;
}

#[tokio::test]
async fn a_preview_that_was_found_is_never_lost() {
    drive(previews::EnsureFound).await;
}

#[tokio::test]
async fn a_delete_of_a_preview_reaches_its_end() {
    drive(previews::Delete).await;
}

#[tokio::test]
async fn a_reset_of_a_preview_reaches_its_end() {
    drive(previews::Reset).await;
}

#[tokio::test]
async fn an_entry_of_the_pool_is_whole_or_gone() {
    drive(previews::PoolFill).await;
}

#[tokio::test]
async fn the_removal_of_an_entry_reaches_its_end() {
    drive(previews::PoolDrop).await;
}

#[tokio::test]
async fn the_preparation_of_a_template_reaches_its_end() {
    drive(previews::PrepareTemplate).await;
}

#[tokio::test]
async fn a_refresh_from_a_dump_gives_the_new_template_or_the_old_one() {
    drive(templates::Remade(templates::Refresh { from_dump: true })).await;
}

#[tokio::test]
async fn a_refresh_from_a_source_gives_the_new_template_or_the_old_one() {
    drive(templates::Remade(templates::Refresh { from_dump: false })).await;
}

#[tokio::test]
async fn a_build_gives_the_new_template_or_the_old_one() {
    drive(templates::Remade(templates::Build)).await;
}

#[tokio::test]
async fn migrations_of_a_template_give_the_new_one_or_the_old_one() {
    drive(templates::Remade(templates::Migrate)).await;
}

#[tokio::test]
async fn a_rollout_applies_everything_once() {
    drive(migrations::Rollout).await;
}

#[tokio::test]
async fn a_rollback_exchanges_both_templates_or_none() {
    drive(templates::Rollback).await;
}

#[tokio::test]
async fn a_delete_of_a_template_reaches_its_end() {
    drive(templates::Delete).await;
}

#[tokio::test]
async fn every_kind_of_operation_is_driven_here() {
    let daemon = Daemon::start(driver::BINARY).await;
    let kinds = daemon.get("/v1/operations/kinds").await.expect(200);
    let kinds: Vec<&str> = kinds["items"].as_array().expect("items").iter().filter_map(|kind| kind.as_str()).collect();
    assert!(kinds.contains(&"instance.deploy"), "{kinds:?}");
    let strangers: Vec<_> = kinds.iter().filter(|kind| !SCENARIOS.contains(kind)).collect();
    assert!(strangers.is_empty(), "no scenario of the crash test for {strangers:?}");
}
