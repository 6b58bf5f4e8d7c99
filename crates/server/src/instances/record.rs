//! Instances as rows.

use crate::problem::Problem;
use crate::store::rows::{from_micros, micros};
use jiff::Timestamp;
use pgdb_core::instance::{DesiredState, InstanceState, RequestedSettings, RuntimeKind};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

/// One instance.
#[derive(Debug, Clone)]
pub struct InstanceRecord {
    /// Our identifier, for its whole life.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// What it runs on.
    pub runtime: RuntimeKind,
    /// PostgreSQL major.
    pub major: u16,
    /// The address its server listens on.
    pub listen: IpAddr,
    /// Its TCP port; never changes once it has run.
    pub port: u16,
    /// Database.
    pub db: String,
    /// Role.
    pub user: String,
    /// The role's password, sealed.
    pub password: Vec<u8>,
    /// The password that a rotation is about to set, sealed.
    pub next_password: Option<Vec<u8>>,
    /// The password of our administrator on its server, sealed. None where that comes over a private socket, or, on a
    /// server that was taken over, is the role itself.
    pub admin_password: Option<Vec<u8>>,
    /// The container engine's id of its container, when it was last seen.
    pub container: Option<String>,
    /// Volume name of the contract.
    pub volume: String,
    /// The system identifier of its data.
    pub system_identifier: u64,
    /// Requested disk in GB.
    pub size_gb: Option<u32>,
    /// What was chosen at deploy.
    pub settings: RequestedSettings,
    /// Whether its server insists on TLS.
    pub tls: bool,
    /// Whether its role is a superuser.
    pub superuser: bool,
    /// Whether a destroy is refused.
    pub protected: bool,
    /// What it should be.
    pub desired: DesiredState,
    /// What it is seen to be.
    pub state: InstanceState,
    /// Why it is degraded.
    pub reason: Option<String>,
    /// Bytes of disk when last measured.
    pub disk_bytes: Option<u64>,
    /// When it was asked for.
    pub created_at: Timestamp,
}

impl InstanceRecord {
    /// Its subject in operations and the audit log.
    pub fn subject(&self) -> String {
        subject(&self.name)
    }

    /// The associated data of its sealed password.
    pub fn password_aad(&self) -> String {
        password_aad(&self.id)
    }

    /// Whether it takes more disk than was asked for.
    pub fn over_quota(&self) -> bool {
        match (self.disk_bytes, self.size_gb) {
            (Some(used), Some(size)) => used > u64::from(size) * 1_000_000_000,
            _ => false,
        }
    }
}

/// The subject of the instance of this name.
pub fn subject(name: &str) -> String {
    format!("instance/{name}")
}

/// The associated data of the sealed password of our administrator on the instance with this id.
pub fn admin_password_aad(id: &str) -> String {
    format!("instances/{id}/admin_password")
}

/// The associated data of the sealed password of the instance with this id.
pub fn password_aad(id: &str) -> String {
    format!("instances/{id}/password")
}

const COLUMNS: &str = "id, name, runtime, major, listen, port, db, user, password, next_password, volume, \
    system_identifier, size_gb, max_connections, memory_mb, tls, superuser, protected, desired, state, reason, \
    disk_bytes, created_at, admin_password, container";

/// Writes a new instance; `name_taken` when there is one of that name.
pub fn insert(connection: &Connection, instance: &InstanceRecord) -> Result<(), Problem> {
    if by_name(connection, &instance.name)?.is_some() {
        return Err(name_taken(&instance.name));
    }
    connection.execute(
        &format!(
            "INSERT INTO instances ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, \
             ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25)"
        ),
        params![
            instance.id,
            instance.name,
            instance.runtime.as_str(),
            instance.major,
            instance.listen.to_string(),
            instance.port,
            instance.db,
            instance.user,
            instance.password,
            instance.next_password,
            instance.volume,
            instance.system_identifier.cast_signed(),
            instance.size_gb,
            instance.settings.max_connections,
            instance.settings.memory_mb,
            instance.tls,
            instance.superuser,
            instance.protected,
            instance.desired.as_str(),
            instance.state.as_str(),
            instance.reason,
            instance.disk_bytes,
            micros(instance.created_at),
            instance.admin_password,
            instance.container
        ],
    )?;
    Ok(())
}

/// The contract's answer to a second deploy of a name.
pub fn name_taken(name: &str) -> Problem {
    Problem::conflict("name_taken", format!("database name '{name}' already exists"))
}

/// One instance by its name.
pub fn by_name(connection: &Connection, name: &str) -> Result<Option<InstanceRecord>, Problem> {
    one(connection, "name = ?1", name)
}

/// One instance by its id.
pub fn by_id(connection: &Connection, id: &str) -> Result<Option<InstanceRecord>, Problem> {
    one(connection, "id = ?1", id)
}

fn one(connection: &Connection, filter: &str, value: &str) -> Result<Option<InstanceRecord>, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM instances WHERE {filter}");
    Ok(connection.prepare_cached(&sql)?.query_row([value], read).optional()?)
}

/// Every instance, by name.
pub fn all(connection: &Connection) -> Result<Vec<InstanceRecord>, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM instances ORDER BY name");
    let records = connection.prepare_cached(&sql)?.query_map([], read)?.collect::<Result<_, _>>()?;
    Ok(records)
}

/// How many instances there are in each state.
pub fn count_by_state(connection: &Connection) -> Result<Vec<(String, i64)>, Problem> {
    let sql = "SELECT state, count(*) FROM instances GROUP BY state";
    let rows = connection
        .prepare_cached(sql)?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Every port that is given out.
pub fn ports(connection: &Connection) -> Result<BTreeSet<u16>, Problem> {
    let ports = connection
        .prepare_cached("SELECT port FROM instances")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(ports)
}

/// Removes an instance's row.
pub fn delete(connection: &Connection, id: &str) -> Result<(), Problem> {
    connection.execute("DELETE FROM instances WHERE id = ?1", [id])?;
    Ok(())
}

/// Notes what an instance is seen to be, and why.
pub fn set_state(connection: &Connection, id: &str, state: InstanceState, reason: Option<&str>) -> Result<(), Problem> {
    connection
        .execute("UPDATE instances SET state = ?2, reason = ?3 WHERE id = ?1", params![id, state.as_str(), reason])?;
    Ok(())
}

/// Notes which container an instance's server runs in.
pub fn set_container(connection: &Connection, id: &str, container: &str) -> Result<(), Problem> {
    connection.execute("UPDATE instances SET container = ?2 WHERE id = ?1", params![id, container])?;
    Ok(())
}

/// Notes whose data it has turned out to be: a superuser's, as the original daemon makes its roles.
pub fn set_originals_owner(connection: &Connection, id: &str, user: &str, db: &str) -> Result<(), Problem> {
    let sql = "UPDATE instances SET user = ?2, db = ?3, superuser = 1 WHERE id = ?1";
    connection.execute(sql, params![id, user, db])?;
    Ok(())
}

/// The names of volumes that instances have.
pub fn volumes_in_use(connection: &Connection) -> Result<BTreeSet<String>, Problem> {
    let sql = "SELECT volume FROM instances";
    Ok(connection.prepare_cached(sql)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Notes what an instance should be.
pub fn set_desired(connection: &Connection, id: &str, desired: DesiredState) -> Result<(), Problem> {
    connection.execute("UPDATE instances SET desired = ?2 WHERE id = ?1", params![id, desired.as_str()])?;
    Ok(())
}

/// Gives an instance that has never run another port.
pub fn set_port(connection: &Connection, id: &str, port: u16) -> Result<(), Problem> {
    connection.execute("UPDATE instances SET port = ?2 WHERE id = ?1", params![id, port])?;
    Ok(())
}

/// Locks an instance against a destroy, or unlocks it.
pub fn set_protected(connection: &Connection, id: &str, protected: bool) -> Result<(), Problem> {
    connection.execute("UPDATE instances SET protected = ?2 WHERE id = ?1", params![id, protected])?;
    Ok(())
}

/// Notes the password that is about to be set.
pub fn set_next_password(connection: &Connection, id: &str, sealed: &[u8]) -> Result<(), Problem> {
    connection.execute("UPDATE instances SET next_password = ?2 WHERE id = ?1", params![id, sealed])?;
    Ok(())
}

/// Makes the noted password the valid one.
pub fn take_next_password(connection: &Connection, id: &str) -> Result<(), Problem> {
    connection.execute(
        "UPDATE instances SET password = coalesce(next_password, password), next_password = NULL WHERE id = ?1",
        [id],
    )?;
    Ok(())
}

/// Forgets the noted password.
pub fn drop_next_password(connection: &Connection, id: &str) -> Result<(), Problem> {
    connection.execute("UPDATE instances SET next_password = NULL WHERE id = ?1", [id])?;
    Ok(())
}

/// Notes how much disk an instance takes.
pub fn set_disk_bytes(connection: &Connection, id: &str, bytes: u64) -> Result<(), Problem> {
    connection.execute("UPDATE instances SET disk_bytes = ?2 WHERE id = ?1", params![id, bytes])?;
    Ok(())
}

/// What is known of data that a destroy kept.
#[derive(Debug, Clone)]
pub struct VolumeRecord {
    /// What it runs on.
    pub runtime: RuntimeKind,
    /// PostgreSQL major.
    pub major: u16,
    /// Database in it.
    pub db: String,
    /// Role in it.
    pub user: String,
    /// The system identifier of the data.
    pub system_identifier: u64,
}

/// Notes data that a destroy kept, under a name of its own: an earlier row is never replaced.
pub fn insert_volume(connection: &Connection, name: &str, from: &InstanceRecord, at: Timestamp) -> Result<(), Problem> {
    connection.execute(
        "INSERT INTO volumes (name, runtime, major, db, user, system_identifier, kept_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            name,
            from.runtime.as_str(),
            from.major,
            from.db,
            from.user,
            from.system_identifier.cast_signed(),
            micros(at)
        ],
    )?;
    Ok(())
}

/// Kept data by its volume name.
pub fn volume(connection: &Connection, name: &str) -> Result<Option<VolumeRecord>, Problem> {
    let sql = "SELECT runtime, major, db, user, system_identifier FROM volumes WHERE name = ?1";
    let found = connection.query_row(sql, [name], |row| {
        Ok(VolumeRecord {
            runtime: RuntimeKind::parse(&row.get::<_, String>("runtime")?).unwrap_or(RuntimeKind::Process),
            major: row.get("major")?,
            db: row.get("db")?,
            user: row.get("user")?,
            system_identifier: row.get::<_, i64>("system_identifier")?.cast_unsigned(),
        })
    });
    Ok(found.optional()?)
}

/// Refuses kept data that is gone, or that another deploy is taking into use.
pub fn check_volume_free(connection: &Connection, name: &str) -> Result<(), Problem> {
    if volume(connection, name)?.is_none() {
        return Err(Problem::conflict("volume_not_found", format!("no data is kept under the volume name '{name}'")));
    }
    check_not_taken(connection, name)
}

/// The same of data that no row tells of.
pub fn check_strange_volume_free(connection: &Connection, name: &str) -> Result<(), Problem> {
    if volumes_in_use(connection)?.contains(name) {
        let message = format!("a database of pgdb has the volume '{name}'; `pgdb status` shows which");
        return Err(Problem::conflict("volume_in_use", message));
    }
    check_not_taken(connection, name)
}

fn check_not_taken(connection: &Connection, name: &str) -> Result<(), Problem> {
    let sql = "SELECT count(*) FROM operations WHERE state IN ('pending', 'running', 'undoing') \
               AND json_extract(input, '$.from_volume') = ?1";
    let taken: i64 = connection.query_row(sql, [name], |row| row.get(0))?;
    if taken > 0 {
        let message = format!("the data kept under '{name}' is being taken into use by another deploy");
        return Err(Problem::conflict("volume_in_use", message));
    }
    Ok(())
}

/// The names of all kept data, and of data that a deploy is just taking into use: until it has ended, the name is
/// where an undo puts the data back.
pub fn volumes(connection: &Connection) -> Result<BTreeSet<String>, Problem> {
    let sql = "SELECT name FROM volumes ORDER BY name";
    Ok(connection.prepare_cached(sql)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Notes that kept data lies under another name now.
pub fn rename_volume(connection: &Connection, from: &str, to: &str) -> Result<(), Problem> {
    connection.execute("UPDATE volumes SET name = ?2 WHERE name = ?1", [from, to])?;
    Ok(())
}

/// Forgets kept data, once it is in use again.
pub fn delete_volume(connection: &Connection, name: &str) -> Result<(), Problem> {
    connection.execute("DELETE FROM volumes WHERE name = ?1", [name])?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<InstanceRecord> {
    let word = |column: &str| row.get::<_, String>(column);
    Ok(InstanceRecord {
        id: row.get("id")?,
        name: row.get("name")?,
        runtime: RuntimeKind::parse(&word("runtime")?).unwrap_or(RuntimeKind::Process),
        major: row.get("major")?,
        listen: word("listen")?.parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        port: row.get("port")?,
        db: row.get("db")?,
        user: row.get("user")?,
        password: row.get("password")?,
        next_password: row.get("next_password")?,
        volume: row.get("volume")?,
        system_identifier: row.get::<_, i64>("system_identifier")?.cast_unsigned(),
        size_gb: row.get("size_gb")?,
        settings: RequestedSettings { max_connections: row.get("max_connections")?, memory_mb: row.get("memory_mb")? },
        tls: row.get("tls")?,
        superuser: row.get("superuser")?,
        protected: row.get("protected")?,
        desired: DesiredState::parse(&word("desired")?).unwrap_or(DesiredState::Stopped),
        state: InstanceState::parse(&word("state")?).unwrap_or(InstanceState::Degraded),
        reason: row.get("reason")?,
        disk_bytes: row.get("disk_bytes")?,
        created_at: from_micros(row.get("created_at")?),
        admin_password: row.get("admin_password")?,
        container: row.get("container")?,
    })
}
