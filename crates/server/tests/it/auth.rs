use crate::support::{ADMIN, Daemon, Outcome, WEAK, open, secrets};
use axum::body::Body;
use axum::http::Request;
use base64::Engine;
use pgdb_server::config::EnvSecrets;

#[tokio::test]
async fn a_token_works_until_it_expires_even_when_the_clock_is_set_back() -> Outcome {
    let daemon = Daemon::start().await?;
    let (token, _) = daemon.token(&["audit:read"], Some(60)).await?;
    let status = async || daemon.call("GET", "/v1/audit", &token, "").await.map(|answer| answer.status.as_u16());
    assert_eq!(status().await?, 200);
    daemon.clock.set_back(3_600_000);
    daemon.clock.pass(59_000);
    assert_eq!(status().await?, 200);
    daemon.clock.pass(1_000);
    assert_eq!(status().await?, 401, "a clock that was set back prolongs no token");
    Ok(())
}

#[tokio::test]
async fn a_revoked_token_stops_at_once_and_stays_revoked_after_a_restart() -> Outcome {
    let daemon = Daemon::start().await?;
    let (token, id) = daemon.token(&["audit:read"], None).await?;
    let (kept, _) = daemon.token(&["audit:read"], Some(600)).await?;
    let path = format!("/v1/tokens/{id}");
    let first = daemon.call("DELETE", &path, ADMIN, "").await?;
    let second = daemon.call("DELETE", &path, ADMIN, "").await?;
    assert_eq!((first.status.as_u16(), &first.text), (200, &second.text));
    assert_eq!(daemon.call("GET", "/v1/audit", &token, "").await?.status.as_u16(), 401);
    let listed = daemon.call("GET", "/v1/tokens", ADMIN, "").await?;
    assert_eq!(listed.json()["items"].as_array().map(Vec::len), Some(2));
    assert!(!listed.text.contains(&token), "the text is shown once");

    let app = open(daemon.folder.path(), &secrets(ADMIN), daemon.clock.clone()).await?;
    assert!(app.tokens.verify(&token, app.clock.as_ref()).is_none());
    assert!(app.tokens.verify(&kept, app.clock.as_ref()).is_some());
    Ok(())
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_have() -> Outcome {
    let daemon = Daemon::start().await?;
    let own = pgdb_core::scope::Scopes::new([pgdb_core::scope::Scope::Rest]);
    let wanted = |scope: &str| pgdb_api::tokens::CreateToken {
        name: "a".into(),
        scopes: vec![scope.into()],
        expires_in_seconds: None,
    };
    let app = &daemon.app;
    for scope in ["admin", "previews"] {
        let refused = app.tokens.create(&own, wanted(scope), app.clock.as_ref(), app.entropy.as_ref()).await;
        assert_eq!(refused.err().map(|problem| problem.code), Some("forbidden"));
    }
    assert!(app.tokens.create(&own, wanted("rest"), app.clock.as_ref(), app.entropy.as_ref()).await.is_ok());
    // And over HTTP only an admin gets that far.
    let (token, _) = daemon.token(&["rest"], None).await?;
    let answer = daemon.call("POST", "/v1/tokens", &token, r#"{"name":"a","scopes":["rest"]}"#).await?;
    assert_eq!((answer.status.as_u16(), answer.code()), (403, "forbidden".to_owned()));
    assert!(answer.text.contains("admin"), "the missing scope is named");
    Ok(())
}

#[tokio::test]
async fn each_bootstrap_token_grants_its_own_surface() -> Outcome {
    let secrets = EnvSecrets {
        pgdb_token: Some(ADMIN.to_owned().into()),
        api_auth_token: Some("a-previews-token".to_owned().into()),
        internal_api_key: Some("a-rest-token".to_owned().into()),
        ..EnvSecrets::default()
    };
    let daemon = Daemon::start_with(secrets).await?;
    for (token, expected) in [(ADMIN, 200), ("a-previews-token", 403), ("a-rest-token", 403), ("wrong", 401), ("", 401)]
    {
        let answer = daemon.call("GET", "/v1/audit", token, "").await?;
        assert_eq!(answer.status.as_u16(), expected, "{token}");
        assert_eq!(answer.header("www-authenticate").is_some(), expected == 401);
    }
    let scopes = |token: &str| {
        daemon.app.tokens.verify(token, daemon.app.clock.as_ref()).map(|identity| identity.scopes.to_text())
    };
    assert_eq!(scopes("a-previews-token").as_deref(), Some("previews"));
    assert_eq!(scopes("a-rest-token").as_deref(), Some("rest"));
    Ok(())
}

#[tokio::test]
async fn with_no_token_given_one_is_made_and_kept() -> Outcome {
    let daemon = Daemon::start_with(EnvSecrets::default()).await?;
    let path = daemon.folder.path().join("token");
    let token = std::fs::read_to_string(&path)?;
    assert_eq!(token.len(), 43);
    assert_eq!(daemon.call("GET", "/v1/version", &token, "").await?.status.as_u16(), 200);
    open(daemon.folder.path(), &EnvSecrets::default(), daemon.clock.clone()).await?;
    assert_eq!(std::fs::read_to_string(&path)?, token);
    Ok(())
}

#[tokio::test]
async fn other_ways_to_send_a_token_are_taken_only_where_they_belong() -> Outcome {
    let daemon = Daemon::start().await?;
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("any:{ADMIN}"));
    let basic = format!("Basic {basic}");
    let status = async |path: &str, name: &str, value: &str| {
        let request = Request::get(path).header(name, value).body(Body::empty())?;
        daemon.send(request).await.map(|answer| answer.status.as_u16())
    };
    assert_eq!(status("/docs/", "authorization", &basic).await?, 200);
    assert_eq!(status("/docs/", "authorization", &format!("bearer {ADMIN}")).await?, 200);
    assert_eq!(status("/v1/version", "authorization", &basic).await?, 401, "a browser would send it by itself");
    assert_eq!(status("/v1/version", "x-internal-key", ADMIN).await?, 401);
    assert_eq!(status("/v1/version", "authorization", ADMIN).await?, 401);
    let page = daemon.call("GET", "/docs/", "", "").await?;
    assert_eq!(page.header("www-authenticate").map(|value| value.starts_with("Basic")), Some(true));
    let page = daemon.call("GET", "/docs/", ADMIN, "").await?;
    assert!(page.text.contains("swagger") && !page.text.contains("//unpkg") && !page.text.contains("cdn"));
    assert!(page.header("content-security-policy").is_some_and(|policy| policy.contains("script-src 'self'")));
    assert_eq!(daemon.call("GET", "/docs/swagger-ui-bundle.js", ADMIN, "").await?.status.as_u16(), 200);
    Ok(())
}

#[tokio::test]
async fn guessing_is_slowed_down_without_locking_strong_tokens_out() -> Outcome {
    let daemon = Daemon::start().await?;
    let guess = async |client: [u8; 4], token: &str| daemon.call_from(client, "GET", "/v1/version", token, "").await;
    let (one, two) = ([192, 0, 2, 1], [192, 0, 2, 2]);
    for _ in 0..10 {
        assert_eq!(guess(one, "wrong").await?.status.as_u16(), 401);
    }
    let refused = guess(one, "wrong").await?;
    assert_eq!((refused.status.as_u16(), refused.code()), (429, "too_many_failed_logins".to_owned()));
    assert_eq!(refused.header("retry-after"), Some("6"));
    assert_eq!(guess(one, ADMIN).await?.status.as_u16(), 200, "a right and strong token passes");
    assert_eq!(guess(one, "").await?.status.as_u16(), 401, "no token is no guess");
    assert_eq!(guess(two, "wrong").await?.status.as_u16(), 401, "others are not affected");
    daemon.clock.pass(6_000);
    assert_eq!(guess(one, "wrong").await?.status.as_u16(), 401);
    assert_eq!(guess(one, "wrong").await?.status.as_u16(), 429);
    Ok(())
}

#[tokio::test]
async fn a_guesser_does_not_learn_that_a_weak_token_was_right() -> Outcome {
    let daemon = Daemon::start_with(secrets(WEAK)).await?;
    let status =
        async |token: &str| daemon.call("GET", "/v1/version", token, "").await.map(|answer| answer.status.as_u16());
    assert_eq!(status(WEAK).await?, 200);
    for _ in 0..10 {
        status("wrong").await?;
    }
    assert_eq!((status("wrong").await?, status(WEAK).await?), (429, 429));
    daemon.clock.pass(6_000);
    assert_eq!(status(WEAK).await?, 200);
    Ok(())
}
