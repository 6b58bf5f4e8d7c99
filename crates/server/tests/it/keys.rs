use crate::support::{ADMIN, Daemon, Outcome};

#[tokio::test]
async fn the_master_key_is_rotated_and_the_ca_is_handed_out() -> Outcome {
    let daemon = Daemon::start().await?;
    let before = daemon.app.sealer.current_key_id();
    let blob = daemon.app.sealer.seal(daemon.app.entropy.as_ref(), "x", &"secret".into())?;
    let answer = daemon.call("POST", "/v1/keys/rotate", ADMIN, "").await?;
    assert_eq!((answer.status.as_u16(), answer.json()["resealed"].as_u64()), (200, Some(0)));
    assert_ne!(answer.json()["key_id"].as_str(), Some(before.as_str()));
    assert!(daemon.app.sealer.open_sealed("x", &blob).is_ok(), "what is on its way can still be opened");

    let ca = daemon.call("GET", "/v1/ca", ADMIN, "").await?;
    assert_eq!(ca.status.as_u16(), 200);
    assert!(ca.text.starts_with("-----BEGIN CERTIFICATE-----") && !ca.text.contains("PRIVATE"));
    assert_eq!(daemon.call("GET", "/v1/ca", ADMIN, "").await?.text, ca.text);
    Ok(())
}

#[tokio::test]
async fn a_shutdown_is_asked_for_and_says_what_becomes_of_the_databases() -> Outcome {
    let daemon = Daemon::start().await?;
    let answer = daemon.call("POST", "/v1/shutdown", ADMIN, r#"{"stop_databases":true}"#).await?;
    assert_eq!(answer.status.as_u16(), 202);
    assert!(daemon.app.shutdown.is_cancelled());
    assert!(daemon.app.stop_databases.load(std::sync::atomic::Ordering::SeqCst));
    Ok(())
}
