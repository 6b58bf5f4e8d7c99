//! How deep a statement can be nested at most, guessed from its words: the parser's own way to find out is to run out of
//! stack.

use crate::migrate::split::words;

/// Words that may be nested in each other. What people write has some dozens; PostgreSQL itself gives up at some ten
/// thousand.
const DEEPEST: usize = 5000;

/// Whether a statement may be nested too deeply to be parsed.
///
/// What stands between two commas can be nested as often as it has words (`- - - 1`, `1 + 1 + 1`, `CASE CASE`), and is
/// inside all that is open around it. Set operations are nested in each other across commas.
pub(super) fn is_deep(statement: &str) -> bool {
    // Of each open parenthesis: how many words since the last comma.
    let mut open: Vec<usize> = vec![0];
    let (mut sum, mut sets) = (0, 0);
    for word in words(statement) {
        let Some(last) = open.last_mut() else { return false };
        match word {
            "," => {
                sum -= *last;
                *last = 0;
            }
            "(" | "[" => {
                open.push(1);
                sum += 1;
            }
            ")" | "]" => {
                if open.len() > 1 {
                    sum -= open.pop().unwrap_or_default();
                }
                if let Some(last) = open.last_mut() {
                    *last += 1;
                    sum += 1;
                }
            }
            word => {
                *last += 1;
                sum += 1;
                sets += usize::from(["union", "intersect", "except"].iter().any(|set| word.eq_ignore_ascii_case(set)));
            }
        }
        if sum + sets > DEEPEST {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_told_from_length() {
        let deep = [
            format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000)),
            format!("SELECT 1{}", " + 1".repeat(200_000)),
            format!("SELECT {}1", "- ".repeat(200_000)),
            format!("SELECT {}1", "NOT ".repeat(100_000)),
            format!("SELECT 1, 2{}", " UNION ALL SELECT 1, 2".repeat(10_000)),
            format!("SELECT a{}", "[a".repeat(10_000)),
            format!("SELECT 1{}", " + f(1, 2)".repeat(10_000)),
        ];
        assert!(deep.iter().all(|text| is_deep(text)));
        let rows = format!("INSERT INTO t VALUES (1, 'a'){}", ", (-1, 'b' || 'c')".repeat(50_000));
        assert!(!is_deep(&rows));
        assert!(!is_deep(&format!("CREATE TABLE t (a int{})", ", b text NOT NULL DEFAULT 'x'".repeat(5000))));
    }
}
