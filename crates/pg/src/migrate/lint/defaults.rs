//! Defaults that PostgreSQL computes once for all the rows that are there, and so writes none of them anew.

use super::made::{parts, text};
use squawk_syntax::SyntaxNode;
use squawk_syntax::ast::{self, AstNode};

/// Keywords that stand for a value. Some take a precision, too.
const VALUES: [&str; 12] = [
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "localtime",
    "localtimestamp",
    "session_user",
    "system_user",
    "user",
];

/// Calls that are part of the grammar.
const GRAMMAR: [&str; 4] = ["coalesce", "greatest", "least", "nullif"];

/// Functions of PostgreSQL's own that are STABLE or IMMUTABLE with all arguments, as far as defaults are made of them. What
/// is not here is taken for volatile, which is what functions are unless they say otherwise.
const FUNCTIONS: &str = "
    abs age array_fill array_length array_to_string bit_length btrim ceil ceiling char_length concat concat_ws
    current_database current_setting date_part date_trunc daterange decode div encode exp floor format
    inet_client_addr initcap int4range int8range json_build_array json_build_object jsonb_build_array
    jsonb_build_object justify_days justify_hours justify_interval left length ln log lower lpad ltrim make_date
    make_interval make_time make_timestamp make_timestamptz md5 mod now num_nonnulls numrange octet_length
    pg_backend_pid pi point power quote_ident quote_literal regexp_replace repeat replace reverse right round rpad
    rtrim sha256 sign split_part sqrt statement_timestamp string_to_array strpos substr substring timezone to_char
    to_date to_hex to_json to_jsonb to_number to_timestamp to_tsvector transaction_timestamp translate trunc tsrange
    tstzrange upper version";

/// Whether the expression of a default is made of constants, and of functions that give the same for each row.
pub(super) fn is_cheap(node: &SyntaxNode) -> bool {
    let inner = |node: &SyntaxNode| node.children().all(|inner| is_cheap(&inner));
    if let Some(call) = ast::CallExpr::cast(node.clone()) {
        return match call.expr() {
            Some(function) => {
                knows(&text(Some(function)).unwrap_or_default())
                    && call.arg_list().is_none_or(|arguments| inner(arguments.syntax()))
            }
            // One with a grammar of its own, such as `extract(epoch FROM now())`.
            None => inner(node),
        };
    }
    match ast::NameRef::cast(node.clone()) {
        Some(_) => VALUES.contains(&node.text().to_string().trim().to_lowercase().as_str()),
        None => inner(node),
    }
}

fn knows(function: &str) -> bool {
    let parts = parts(function);
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        [name] => VALUES.contains(name) || GRAMMAR.contains(name) || is_built_in(name),
        ["pg_catalog", name] => is_built_in(name),
        _ => false,
    }
}

fn is_built_in(name: &str) -> bool {
    FUNCTIONS.split_whitespace().any(|known| known == name)
}
