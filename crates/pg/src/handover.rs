//! Templates whose objects have a holder, and clones of them whose objects get an owner.
//!
//! What is in a template belongs to a holder role that owns no database. In a clone everything that is the holder's
//! goes to the clone's own role with one statement, `REASSIGN OWNED BY`, which would take databases along if the holder
//! had any. Works for an operator that is no superuser but may create roles, and repeated changes nothing.

use crate::connect::Client;
use crate::error::PgError;
use crate::quote::{identifier, literal};
use crate::scram::is_verifier;

/// Everything in a database that somebody owns, but for the ledger of migrations where it is the operator's, whose it
/// stays (see [`keep_ledger`]): the keyword of `ALTER … OWNER`, the name, the owner. Not what
/// PostgreSQL came with, not the members of extensions, not sequences of columns, whose tables take them along; nor what
/// only a superuser can own (event triggers, languages, foreign-data wrappers), nor extensions, which have no `ALTER`.
const OWNED: &str = "
    WITH found (position, keyword, name, owner, classid, objid) AS (
        SELECT 1, 'SCHEMA', format('%I', nspname), nspowner, 'pg_namespace'::regclass, oid FROM pg_namespace
        UNION ALL
        SELECT 2, CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
                       WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END,
               format('%I.%I', nspname, relname), relowner, 'pg_class'::regclass, c.oid
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c') AND relpersistence <> 't' AND NOT EXISTS (
            SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND relkind = 'S'
            AND d.refclassid = 'pg_class'::regclass AND deptype IN ('a', 'i'))
        UNION ALL
        SELECT 3, CASE typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, format('%I.%I', nspname, typname), typowner,
               'pg_type'::regclass, t.oid
        FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace WHERE typtype IN ('d', 'e', 'r')
        UNION ALL
        SELECT 4, 'ROUTINE', format('%I.%I(%s)', nspname, proname, pg_get_function_identity_arguments(p.oid)), proowner,
               'pg_proc'::regclass, p.oid
        FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
        UNION ALL
        SELECT 5, 'STATISTICS', format('%I.%I', nspname, stxname), stxowner, 'pg_statistic_ext'::regclass, s.oid
        FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = stxnamespace
        UNION ALL
        SELECT 6, 'COLLATION', format('%I.%I', nspname, collname), collowner, 'pg_collation'::regclass, l.oid
        FROM pg_collation l JOIN pg_namespace n ON n.oid = collnamespace
        UNION ALL
        SELECT 7, 'OPERATOR', oid::regoperator::text, oprowner, 'pg_operator'::regclass, oid FROM pg_operator
        UNION ALL
        SELECT 8, 'OPERATOR FAMILY', format('%I.%I USING %I', nspname, opfname, amname), opfowner,
               'pg_opfamily'::regclass, f.oid
        FROM pg_opfamily f JOIN pg_namespace n ON n.oid = opfnamespace JOIN pg_am a ON a.oid = opfmethod
        UNION ALL
        SELECT 9, 'OPERATOR CLASS', format('%I.%I USING %I', nspname, opcname, amname), opcowner,
               'pg_opclass'::regclass, c.oid
        FROM pg_opclass c JOIN pg_namespace n ON n.oid = opcnamespace JOIN pg_am a ON a.oid = opcmethod
        UNION ALL
        SELECT 10, 'CONVERSION', format('%I.%I', nspname, conname), conowner, 'pg_conversion'::regclass, c.oid
        FROM pg_conversion c JOIN pg_namespace n ON n.oid = connamespace
        UNION ALL
        SELECT 11, 'TEXT SEARCH DICTIONARY', format('%I.%I', nspname, dictname), dictowner, 'pg_ts_dict'::regclass, d.oid
        FROM pg_ts_dict d JOIN pg_namespace n ON n.oid = dictnamespace
        UNION ALL
        SELECT 12, 'TEXT SEARCH CONFIGURATION', format('%I.%I', nspname, cfgname), cfgowner, 'pg_ts_config'::regclass, c.oid
        FROM pg_ts_config c JOIN pg_namespace n ON n.oid = cfgnamespace
        UNION ALL
        SELECT 13, 'LARGE OBJECT', oid::text, lomowner, 'pg_largeobject'::regclass, oid FROM pg_largeobject_metadata
        UNION ALL
        SELECT 14, 'PUBLICATION', format('%I', pubname), pubowner, 'pg_publication'::regclass, oid FROM pg_publication
        UNION ALL
        SELECT 15, 'SERVER', format('%I', srvname), srvowner, 'pg_foreign_server'::regclass, oid FROM pg_foreign_server
    )
    SELECT keyword, name, pg_get_userbyid(owner)::text FROM found
    WHERE objid >= 16384 AND NOT EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = found.classid AND d.objid = found.objid AND deptype IN ('e', 'i'))
    AND NOT (keyword || ' ' || name IN ('SCHEMA pgdb', 'TABLE pgdb.migrations')
             AND pg_get_userbyid(owner) = current_user)
    ORDER BY position, name";

/// Something in a database that somebody owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// `TABLE`, `SCHEMA`…
    pub keyword: String,
    /// Its name, quoted and with its schema.
    pub name: String,
    /// Its owner.
    pub owner: String,
}

/// What stands in the way of a template's preparation: objects of others, which can be neither moved nor granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strangers(pub Vec<Owned>);

/// Sees to it that there is a role that nobody logs in as.
pub async fn ensure_group(client: &Client, role: &str) -> Result<(), PgError> {
    if !role_exists(client, role).await? {
        client.batch("create the role", &format!("CREATE ROLE {} NOLOGIN", identifier(role)?)).await?;
    }
    Ok(())
}

/// Sees to it that there is a role that people look into previews with.
pub async fn ensure_dev(client: &Client, role: &str) -> Result<(), PgError> {
    if !role_exists(client, role).await? {
        client.batch("create the role", &format!("CREATE ROLE {} LOGIN", identifier(role)?)).await?;
    }
    Ok(())
}

/// Whether there is a role of this name.
pub async fn role_exists(client: &Client, role: &str) -> Result<bool, PgError> {
    let sql = "SELECT FROM pg_roles WHERE rolname = $1";
    Ok(!client.query("look for the role", sql, &[role]).await?.is_empty())
}

/// Whether the client is a superuser.
pub async fn is_superuser(client: &Client) -> Result<bool, PgError> {
    let sql = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user";
    Ok(client.query("look at the operator's rights", sql, &[]).await?.first().is_some_and(|row| row.get(0)))
}

/// Lets the operator act as a role. From PostgreSQL 16 on, who creates a role may only hand it on.
async fn act_as(client: &Client, role: &str) -> Result<(), PgError> {
    let set = if client.major() >= 16 { " AND pg_has_role(current_user, $1, 'SET')" } else { "" };
    let sql = format!(
        "SELECT rolsuper OR (pg_has_role(current_user, $1, 'USAGE'){set}) FROM pg_roles WHERE rolname = current_user"
    );
    let rows = client.query("look at the operator's rights", &sql, &[role]).await?;
    // Only where it is needed: what changes a shared catalog can collide with what others do there.
    if rows.first().is_some_and(|row| row.get(0)) {
        return Ok(());
    }
    let with = if client.major() >= 16 { " WITH INHERIT TRUE, SET TRUE" } else { "" };
    client.batch("join the role", &format!("GRANT {} TO CURRENT_USER{with}", identifier(role)?)).await
}

/// What in a template is not its holder's.
pub(crate) async fn strangers_to(client: &Client, holder: &str) -> Result<Vec<Owned>, PgError> {
    Ok(owned(client).await?.into_iter().filter(|owned| owned.owner != holder).collect())
}

/// Gives everything in a template that is the operator's to its holder, which is made if there is none, but extensions:
/// see [`give_extensions`]. `client` is the operator in the template.
pub async fn give_to_holder(client: &Client, holder: &str) -> Result<Result<(), Strangers>, PgError> {
    ensure_group(client, holder).await?;
    act_as(client, holder).await?;
    keep_ledger(client, holder).await?;
    let quoted = identifier(holder)?;
    let me = current_user(client).await?;
    let owned = strangers_to(client, holder).await?;
    // A superuser can give away what is anybody's.
    let superuser = is_superuser(client).await?;
    let (mine, strange): (Vec<Owned>, Vec<Owned>) = owned.into_iter().partition(|owned| superuser || owned.owner == me);
    if !strange.is_empty() {
        return Ok(Err(Strangers(strange)));
    }
    let mut sql = format!(
        "DO $do$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO %I', current_database(), {}); END $do$;",
        literal(holder)?
    );
    if let Some(public) = public_owner(client).await? {
        sql.push_str(&format!("GRANT USAGE, CREATE ON SCHEMA public TO {quoted};"));
        if public == DATABASE_OWNER {
            // Whoever owns the database: in the template the operator, who is to own nothing in it.
            sql.push_str(&format!("ALTER SCHEMA public OWNER TO {quoted};"));
        }
    }
    for Owned { keyword, name, .. } in mine {
        sql.push_str(&format!("ALTER {keyword} {name} OWNER TO {quoted};"));
    }
    client.batch("give the template's objects to their holder", &sql).await?;
    Ok(Ok(()))
}

/// Makes the ledger of migrations the operator's where it is this role's, or anybody's whose things a superuser can take:
/// what it says is not to be changed by the app that it is about.
pub async fn keep_ledger(client: &Client, role: &str) -> Result<(), PgError> {
    let sql = "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace, pg_roles me \
               WHERE nspname = 'pgdb' AND relname = 'migrations' AND relkind = 'r' AND me.rolname = current_user \
               AND (relowner <> me.oid OR nspowner <> me.oid) \
               AND (rolsuper OR (pg_get_userbyid(relowner) IN ($1, current_user) \
                                 AND pg_get_userbyid(nspowner) IN ($1, current_user)))";
    if client.query("look at the ledger of migrations", sql, &[role]).await?.is_empty() {
        return Ok(());
    }
    let take = "ALTER SCHEMA pgdb OWNER TO CURRENT_USER; ALTER TABLE pgdb.migrations OWNER TO CURRENT_USER";
    client.batch("keep the ledger of migrations", take).await
}

/// Lets the app's role and the dev role read the ledger of migrations, where it is the operator's.
pub async fn show_ledger(client: &Client, role: &str, dev: &str) -> Result<(), PgError> {
    if keeps_ledger(client).await? {
        client.batch("show the ledger of migrations", &looks_at_ledger(role, dev)?).await?;
    }
    Ok(())
}

fn looks_at_ledger(role: &str, dev: &str) -> Result<String, PgError> {
    let (role, dev) = (identifier(role)?, identifier(dev)?);
    Ok(format!("GRANT USAGE ON SCHEMA pgdb TO {role}, {dev};GRANT SELECT ON pgdb.migrations TO {role}, {dev};"))
}

/// Whether there is a ledger of migrations that is the operator's, a plain table, which can be read without running
/// anybody's code.
pub async fn keeps_ledger(client: &Client) -> Result<bool, PgError> {
    let sql = "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'pgdb' \
               AND relname = 'migrations' AND relkind = 'r' AND pg_get_userbyid(relowner) = current_user \
               AND pg_get_userbyid(nspowner) = current_user";
    Ok(!client.query("look at the ledger of migrations", sql, &[]).await?.is_empty())
}

/// Lets a role act as a template's holder, so that it can change what is in the template.
pub async fn let_act_as_holder(client: &Client, holder: &str, role: &str) -> Result<(), PgError> {
    let sql = "SELECT pg_has_role($1, $2, 'USAGE')";
    let rows = client.query("look at the role's rights", sql, &[role, holder]).await?;
    if rows.first().is_some_and(|row| row.get(0)) {
        return Ok(());
    }
    let with = if client.major() >= 16 { " WITH INHERIT TRUE" } else { "" };
    let grant = format!("GRANT {} TO {}{with}", identifier(holder)?, identifier(role)?);
    client.batch("let the role change the template", &grant).await
}

/// Puts on a copy of a template what PostgreSQL does not copy: rights on the database, and its settings. `client` is the
/// operator in the copy, with nobody else in it.
pub async fn dress_copy(client: &Client, template: &str, copy: &str, holder: &str) -> Result<(), PgError> {
    let grants = database_grants(client, template, copy, holder).await?;
    if !grants.is_empty() {
        client.batch("make the template's rights on the copy", &grants.concat()).await?;
    }
    make_settings(client, template, copy).await
}

/// The role that stands for whoever owns the database.
const DATABASE_OWNER: &str = "pg_database_owner";

/// Who owns the schema `public`, if there is one.
async fn public_owner(client: &Client) -> Result<Option<String>, PgError> {
    let sql = "SELECT pg_get_userbyid(nspowner)::text FROM pg_namespace WHERE nspname = 'public'";
    Ok(client.query("look at the schema public", sql, &[]).await?.first().map(|row| row.get(0)))
}

/// Whose the extensions are that [`give_extensions`] can give to the holder; nobody's where nothing is to be done.
pub async fn extension_owners(client: &Client, holder: &str) -> Result<Vec<String>, PgError> {
    // What the bootstrap superuser owns cannot be reassigned: such an extension stays as it is.
    let sql = "SELECT DISTINCT pg_get_userbyid(extowner)::text FROM pg_extension, pg_roles me WHERE extowner <> 10 \
               AND pg_get_userbyid(extowner) <> $1 AND me.rolname = current_user AND (me.rolsuper OR extowner = me.oid)";
    let rows = client.query("look at the template's extensions", sql, &[holder]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Gives the extensions of these owners to the holder. They have no `ALTER … OWNER`: only `REASSIGN OWNED BY` moves
/// them, which takes databases and tablespaces along. Those get their owner back in the same transaction, so that nobody
/// ever sees them with another one; but nobody else may change any database of the owner's meanwhile.
pub async fn give_extensions(client: &Client, holder: &str, owners: &[String]) -> Result<(), PgError> {
    for owner in owners {
        let (from, to) = (literal(owner)?, literal(holder)?);
        let sql = format!(
            "DO $do$ DECLARE one text; BEGIN \
             EXECUTE format('REASSIGN OWNED BY %I TO %I', {from}, {to}); \
             FOR one IN SELECT format('DATABASE %I', datname) FROM pg_database WHERE pg_get_userbyid(datdba) = {to} \
             UNION ALL SELECT format('TABLESPACE %I', spcname) FROM pg_tablespace WHERE pg_get_userbyid(spcowner) = {to} \
             LOOP EXECUTE format('ALTER %s OWNER TO %I', one, {from}); END LOOP; END $do$"
        );
        client.batch("give the template's extensions to their holder", &sql).await?;
    }
    Ok(())
}

/// Sees to it that there is a role that can log in, with this verifier, and that the operator can act as it.
pub async fn ensure_login(client: &Client, role: &str, verifier: &str) -> Result<(), PgError> {
    let verifier = checked(verifier)?;
    let (verb, quoted) = (if role_exists(client, role).await? { "ALTER" } else { "CREATE" }, identifier(role)?);
    client.batch("set the role's password", &format!("{verb} ROLE {quoted} LOGIN PASSWORD {verifier}")).await?;
    act_as(client, role).await
}

/// Sets a role's verifier.
pub async fn set_verifier(client: &Client, role: &str, verifier: &str) -> Result<(), PgError> {
    let sql = format!("ALTER ROLE {} PASSWORD {}", identifier(role)?, checked(verifier)?);
    client.batch("set the role's password", &sql).await
}

fn checked(verifier: &str) -> Result<String, PgError> {
    if !is_verifier(verifier) {
        return Err(PgError::NotAVerifier);
    }
    Ok(literal(verifier)?)
}

/// Gives a clone to its role: what is in it, what may be done with it, and nobody else but the dev role.
///
/// `client` is the operator in the clone. The database's settings and its rights are not copied by PostgreSQL; the
/// settings are read from the template's.
pub async fn hand_over(client: &Client, clone: &Clone<'_>) -> Result<(), PgError> {
    act_as(client, clone.role).await?;
    let me = current_user(client).await?;
    let owned = owned(client).await?;
    // In a clone everything is the holder's. A database that was found may hold what the operator made.
    let ours = |one: &&Owned| [clone.holder, clone.role, &me].contains(&one.owner.as_str());
    let (db, role, dev) = (identifier(clone.db)?, identifier(clone.role)?, identifier(clone.dev)?);
    let mut sql = format!(
        "REVOKE CONNECT, TEMPORARY ON DATABASE {db} FROM PUBLIC;\
         GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {db} TO {role};\
         GRANT CONNECT, TEMPORARY ON DATABASE {db} TO {dev};"
    );
    for grant in database_grants(client, clone.template, clone.db, clone.holder).await? {
        sql.push_str(&grant);
    }
    if keeps_ledger(client).await? {
        sql.push_str(&looks_at_ledger(clone.role, clone.dev)?);
    }
    let public = public_owner(client)
        .await?
        .filter(|owner| [DATABASE_OWNER, clone.holder, clone.role, &me].contains(&owner.as_str()));
    let schemas = owned.iter().filter(ours).filter(|one| one.keyword == "SCHEMA").map(|one| one.name.as_str());
    let schemas: Vec<&str> = schemas.chain(public.as_ref().map(|_| "public")).collect();
    for schema in &schemas {
        sql.push_str(&format!("ALTER SCHEMA {schema} OWNER TO {role};"));
    }
    for Owned { keyword, name, .. } in owned.iter().filter(|one| one.owner == me && one.keyword != "SCHEMA") {
        sql.push_str(&format!("ALTER {keyword} {name} OWNER TO {role};"));
    }
    sql.push_str(&format!("REASSIGN OWNED BY {} TO {role};SET LOCAL ROLE {role};", identifier(clone.holder)?));
    let mut grant = |what: &str, keyword: &str, names: Vec<&str>| {
        if !names.is_empty() {
            sql.push_str(&format!("GRANT {what} ON {keyword} {} TO {dev};", names.join(", ")));
        }
    };
    let of_kind = |kinds: &[&str]| -> Vec<&str> {
        let all = owned.iter().filter(ours).filter(|one| kinds.contains(&one.keyword.as_str()));
        all.map(|one| one.name.as_str()).collect()
    };
    let sequences = sequences(client, &[clone.holder, clone.role, &me]).await?;
    grant("USAGE", "SCHEMA", schemas);
    grant(TABLE_RIGHTS, "TABLE", of_kind(&["TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE"]));
    grant("ALL", "SEQUENCE", sequences.iter().map(String::as_str).collect());
    grant("EXECUTE", "ROUTINE", of_kind(&["ROUTINE"]));
    sql.push_str(&format!(
        "ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO {dev};\
         ALTER DEFAULT PRIVILEGES GRANT {TABLE_RIGHTS} ON TABLES TO {dev};\
         ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO {dev};\
         ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON ROUTINES TO {dev};"
    ));
    client.batch("hand the clone over to its role", &sql).await?;
    make_settings(client, clone.template, clone.db).await
}

/// What the template's owner has granted to others on the database, which PostgreSQL does not copy.
async fn database_grants(client: &Client, template: &str, copy: &str, holder: &str) -> Result<Vec<String>, PgError> {
    let sql = "SELECT pg_get_userbyid(grantee)::text, string_agg(privilege_type, ', ' ORDER BY privilege_type), \
                      is_grantable FROM pg_database, aclexplode(datacl) \
               WHERE datname = $1 AND grantee <> 0 AND grantee <> datdba AND pg_get_userbyid(grantee) <> $2 \
               GROUP BY grantee, is_grantable";
    let rows = client.query("look at the template's rights", sql, &[template, holder]).await?;
    let db = identifier(copy)?;
    let mut grants = Vec::new();
    for row in rows {
        let (grantee, rights, grantable): (String, String, bool) = (row.get(0), row.get(1), row.get(2));
        let option = if grantable { " WITH GRANT OPTION" } else { "" };
        grants.push(format!("GRANT {rights} ON DATABASE {db} TO {}{option};", identifier(&grantee)?));
    }
    Ok(grants)
}

/// What the dev role may do with tables.
const TABLE_RIGHTS: &str = "SELECT, INSERT, UPDATE, DELETE, TRUNCATE";

/// Every sequence of these owners, those of columns too.
async fn sequences(client: &Client, owners: &[&str]) -> Result<Vec<String>, PgError> {
    let sql = "SELECT format('%I.%I', nspname, relname), pg_get_userbyid(relowner)::text FROM pg_class c \
               JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'S' AND c.oid >= 16384 \
               AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = c.oid AND deptype = 'e') AND relpersistence <> 't' \
               AND NOT (nspname = 'pgdb' AND pg_get_userbyid(relowner) = current_user)";
    let rows = client.query("look at the sequences", sql, &[]).await?;
    Ok(rows.iter().filter(|row| owners.contains(&row.get::<_, &str>(1))).map(|row| row.get(0)).collect())
}

async fn owned(client: &Client) -> Result<Vec<Owned>, PgError> {
    let rows = client.query("look at the owners", OWNED, &[]).await?;
    Ok(rows.iter().map(|row| Owned { keyword: row.get(0), name: row.get(1), owner: row.get(2) }).collect())
}

async fn current_user(client: &Client) -> Result<String, PgError> {
    let rows = client.query("ask who we are", "SELECT current_user::text", &[]).await?;
    Ok(rows.first().map(|row| row.get(0)).unwrap_or_default())
}

/// A clone and everybody who has to do with it.
#[derive(Debug, Clone, Copy)]
pub struct Clone<'a> {
    /// The database.
    pub db: &'a str,
    /// The role that gets everything in it.
    pub role: &'a str,
    /// Who held it in the template.
    pub holder: &'a str,
    /// The template.
    pub template: &'a str,
    /// The role that reads and writes in every clone.
    pub dev: &'a str,
}

/// Makes the template's own settings on the clone. Those that the operator may not make are left out. Last of all, for
/// while one is made it holds for this session too.
pub(crate) async fn make_settings(client: &Client, template: &str, clone: &str) -> Result<(), PgError> {
    let sql = "SELECT split_part(setting, '=', 1), substr(setting, strpos(setting, '=') + 1) \
               FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase, unnest(setconfig) setting \
               WHERE setrole = 0 AND datname = $1";
    let db = identifier(clone)?;
    for row in client.query("look at the template's settings", sql, &[template]).await? {
        let (name, value): (String, String) = (row.get(0), row.get(1));
        let parts: Result<Vec<String>, _> = name.split('.').map(identifier).collect();
        // A list is kept as it was written, quotes and all: made here as it is, and taken from here.
        let make = format!(
            "SELECT set_config({}, {}, true);ALTER DATABASE {db} SET {} FROM CURRENT",
            literal(&name)?,
            literal(&value)?,
            parts?.join(".")
        );
        match client.batch("make a setting of the template on the clone", &make).await {
            // Not the operator's to make, not known here, or no longer valid.
            Err(error) if matches!(error.sqlstate(), Some("42501" | "42704" | "22023")) => {
                tracing::warn!(setting = name, clone, "a setting of the template is left out");
            }
            done => done?,
        }
    }
    Ok(())
}

/// Gives a prepared clone and its role other names, and the role a verifier where one is given: all of it or nothing.
pub async fn hand_out(
    client: &Client,
    from: (&str, &str),
    to: (&str, &str),
    verifier: Option<&str>,
) -> Result<(), PgError> {
    let (db, role) = (identifier(to.0)?, identifier(to.1)?);
    let mut sql = format!(
        "ALTER DATABASE {} RENAME TO {db};ALTER ROLE {} RENAME TO {role};",
        identifier(from.0)?,
        identifier(from.1)?
    );
    if let Some(verifier) = verifier {
        sql.push_str(&format!("ALTER ROLE {role} PASSWORD {}", checked(verifier)?));
    }
    client.batch("hand out the prepared clone", &sql).await
}

/// Drops a role, or says why it has to stay. One that is not there is fine.
pub async fn drop_role(client: &Client, role: &str) -> Result<Option<String>, PgError> {
    let sql = format!("DROP ROLE IF EXISTS {}", identifier(role)?);
    match client.batch("drop the role", &sql).await {
        Err(error) if error.sqlstate() == Some("2BP01") => {
            let detail = error.server().and_then(|server| server.detail.clone()).unwrap_or_default();
            Ok(Some(format!("others have given it rights or objects: {}", detail.replace('\n', "; "))))
        }
        done => done.map(|()| None),
    }
}
