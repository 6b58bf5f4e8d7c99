use super::*;
use crate::store::Store;
use crate::system::SystemEntropy;
use rusqlite::params;
use std::sync::Arc;

const COLUMNS: &[SealedColumn] = &[SealedColumn { table: "tests", key: "key", column: "value", purpose: "password" }];

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn open(folder: &Path, used: &BTreeSet<KeyId>) -> Result<Arc<Sealer>, KeyError> {
    Sealer::open(folder, None, &SystemEntropy, used).map(Arc::new)
}

async fn store(folder: &Path) -> Result<Store, Box<dyn std::error::Error>> {
    let store = Store::open(&folder.join("state.db"))?;
    store
        .write(|connection| Ok(connection.execute_batch("CREATE TABLE tests (key TEXT PRIMARY KEY, value BLOB)")?))
        .await?;
    Ok(store)
}

async fn put(store: &Store, sealer: &Sealer, key: &'static str, secret: &str) -> Result<(), Problem> {
    let blob = sealer.seal(&SystemEntropy, &COLUMNS[0].aad(key), &SecretString::from(secret.to_owned()))?;
    store
        .write(move |connection| {
            connection.execute("INSERT INTO tests (key, value) VALUES (?1, ?2)", params![key, blob])?;
            Ok(())
        })
        .await
}

async fn get(store: &Store, sealer: &Sealer, key: &'static str) -> Result<String, Problem> {
    let blob: Vec<u8> = store
        .read(move |connection| {
            Ok(connection.query_row("SELECT value FROM tests WHERE key = ?1", [key], |row| row.get(0))?)
        })
        .await?;
    Ok(sealer.open_sealed(&COLUMNS[0].aad(key), &blob)?.expose_secret().to_owned())
}

async fn used(store: &Store) -> Result<BTreeSet<KeyId>, Problem> {
    store.read(|connection| used_keys(connection, COLUMNS)).await
}

#[test]
fn a_sealed_secret_opens_for_its_owner_alone_and_unchanged() -> Outcome {
    let folder = tempfile::tempdir()?;
    let sealer = open(folder.path(), &BTreeSet::new())?;
    let blob = sealer.seal(&SystemEntropy, "instances/a/password", &"s3cret".into())?;
    assert_eq!(sealer.open_sealed("instances/a/password", &blob)?.expose_secret(), "s3cret");
    assert!(sealer.open_sealed("instances/b/password", &blob).is_err());
    for index in 0..blob.len() {
        let mut changed = blob.clone();
        changed[index] ^= 1;
        assert!(sealer.open_sealed("instances/a/password", &changed).is_err(), "byte {index}");
        assert!(sealer.open_sealed("instances/a/password", &blob[..index]).is_err(), "length {index}");
    }
    // The same key is found again.
    assert_eq!(
        open(folder.path(), &BTreeSet::new())?.open_sealed("instances/a/password", &blob)?.expose_secret(),
        "s3cret"
    );
    Ok(())
}

#[tokio::test]
async fn a_rotation_may_crash_between_any_two_of_its_phases() -> Outcome {
    let folder = tempfile::tempdir()?;
    let store = store(folder.path()).await?;
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let file = folder.path().join("master.key");
    let lines = || std::fs::read_to_string(&file).map(|text| text.lines().count());
    let sealer = open(folder.path(), &BTreeSet::new())?;
    put(&store, &sealer, "a", "alpha").await?;

    // Crash after phase 1: the file has both keys, nothing was sealed anew.
    let keyring = keyring::read(&file)?.ok_or("no key file")?;
    keyring.with_new(Key::generate(&SystemEntropy)).write(&file)?;
    let sealer = open(folder.path(), &used(&store).await?)?;
    assert_eq!(get(&store, &sealer, "a").await?, "alpha");
    sealer.settle(&store, &entropy, COLUMNS).await?;
    assert_eq!((lines()?, used(&store).await?.len()), (1, 1));

    // Crash after phase 2: everything is sealed anew, the file still has both keys.
    let rotated = sealer.rotate(&store, &entropy, COLUMNS).await?;
    assert_eq!((rotated.resealed, lines()?), (1, 2));
    let sealer = open(folder.path(), &used(&store).await?)?;
    assert_eq!(get(&store, &sealer, "a").await?, "alpha");
    sealer.settle(&store, &entropy, COLUMNS).await?;
    assert_eq!(lines()?, 1);
    let sealer = open(folder.path(), &used(&store).await?)?;
    assert_eq!(get(&store, &sealer, "a").await?, "alpha");
    Ok(())
}

#[tokio::test]
async fn what_was_sealed_before_and_written_after_a_rotation_is_not_lost() -> Outcome {
    let folder = tempfile::tempdir()?;
    let store = store(folder.path()).await?;
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let sealer = open(folder.path(), &BTreeSet::new())?;
    let late = sealer.seal(&SystemEntropy, &COLUMNS[0].aad("late"), &"omega".into())?;
    sealer.rotate(&store, &entropy, COLUMNS).await?;
    store.write(move |connection| Ok(connection.execute("INSERT INTO tests VALUES ('late', ?1)", [late])?)).await?;
    sealer.settle(&store, &entropy, COLUMNS).await?;
    let sealer = open(folder.path(), &used(&store).await?)?;
    assert_eq!(get(&store, &sealer, "late").await?, "omega");
    Ok(())
}

#[tokio::test]
async fn a_missing_key_stops_the_start_and_names_the_file() -> Outcome {
    let folder = tempfile::tempdir()?;
    let store = store(folder.path()).await?;
    let sealer = open(folder.path(), &BTreeSet::new())?;
    put(&store, &sealer, "a", "alpha").await?;
    let file = folder.path().join("master.key");
    let used = used(&store).await?;

    std::fs::remove_file(&file)?;
    let message = open(folder.path(), &used).err().ok_or("started without its key")?.to_string();
    assert!(message.contains("master.key is missing"), "{message}");
    assert!(!file.exists(), "no key may be made in place of the lost one");

    crate::files::write_secret(&file, "00".repeat(32).as_bytes())?;
    let message = open(folder.path(), &used).err().ok_or("started with another key")?.to_string();
    assert!(message.contains("master.key") && message.contains("is not in"), "{message}");

    crate::files::write_secret(&file, b"nonsense")?;
    let message = open(folder.path(), &used).err().ok_or("took nonsense")?.to_string();
    assert!(message.contains("key 1") && !message.contains("nonsense"), "{message}");
    Ok(())
}

#[tokio::test]
async fn keys_from_the_environment_are_resealed_to_the_first_one() -> Outcome {
    let folder = tempfile::tempdir()?;
    let store = store(folder.path()).await?;
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let (old, new) = ("11".repeat(32), "IiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiI=");
    let open =
        |text: String| Sealer::open(folder.path(), Some(&text.into()), &SystemEntropy, &BTreeSet::new()).map(Arc::new);
    let sealer = open(old.clone())?;
    put(&store, &sealer, "a", "alpha").await?;
    let problem = sealer.rotate(&store, &entropy, COLUMNS).await.err().ok_or("rotated a key that is not ours")?;
    assert_eq!(problem.code, "master_key_from_environment");

    let sealer = open(format!("{new},{old}"))?;
    assert_eq!(sealer.rotate(&store, &entropy, COLUMNS).await?.resealed, 1);
    let sealer = open(new.to_owned())?;
    assert_eq!(get(&store, &sealer, "a").await?, "alpha");
    assert!(!folder.path().join("master.key").exists());
    Ok(())
}
