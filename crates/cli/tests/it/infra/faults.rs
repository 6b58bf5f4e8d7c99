//! Every call of the provider's API goes wrong in every way, and the command is killed at every call.

use super::bed::{Bed, INIT};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgdb_testkit::hetzner::Fault;
use std::process::Stdio;

const DESTROY: [&str; 5] = ["infra", "destroy", "pgdb-prod", "--delete-volume", "--yes"];
/// More calls than any of these runs makes.
const MANY: usize = 200;

/// One call goes wrong, each in its turn: the command does not even fail.
fn walk_once(fault: Fault) {
    for call in 0..MANY {
        let (bed, case) = (Bed::new(), format!("{fault:?} at call {call} of init"));
        bed.cloud.fail_once(call, fault);
        let ran = bed.run(&INIT);
        let over = bed.cloud.calls().len() <= call;
        ran.document(&case);
        bed.assert_made(&case);
        if over {
            assert!(call > 10, "{fault:?} never came up");
            break;
        }
    }
    for call in 0..MANY {
        let (bed, case) = (Bed::new(), format!("{fault:?} at call {call} of destroy"));
        bed.run(&INIT).document(&case);
        bed.cloud.fail_once(call, fault);
        let ran = bed.run(&DESTROY);
        assert_eq!(ran.status, Some(0), "{case}: {ran:?}");
        assert_eq!(bed.counts(), (0, 0, 0), "{case}");
        if bed.cloud.calls().len() <= call {
            break;
        }
    }
}

#[test]
fn an_error_at_any_call_is_survived() {
    walk_once(Fault::Error);
}

#[test]
fn an_error_after_the_work_was_done_is_survived() {
    walk_once(Fault::ErrorAfter);
}

#[test]
fn a_rate_limit_at_any_call_is_waited_for() {
    walk_once(Fault::RateLimit);
}

#[test]
fn silence_at_any_call_is_survived() {
    walk_once(Fault::Hang);
}

#[test]
fn silence_after_the_work_was_done_is_survived() {
    walk_once(Fault::HangAfter);
}

#[test]
fn a_cut_connection_at_any_call_is_survived() {
    walk_once(Fault::Cut);
}

#[test]
fn a_cut_answer_at_any_call_is_survived() {
    walk_once(Fault::CutAfter);
}

/// The provider goes away at a call and stays away: the command fails and tells what to do, and that works.
fn walk_for_good(fault: Fault) {
    for call in 0..MANY {
        let (bed, case) = (Bed::new(), format!("{fault:?} from call {call} on"));
        bed.cloud.fail_from(call, fault);
        let ran = bed.run(&INIT);
        if bed.cloud.calls().len() <= call {
            ran.document(&case);
            break;
        }
        assert_eq!(ran.status, Some(1), "{case}: {ran:?}");
        let (servers, volumes, firewalls) = bed.counts();
        if servers + volumes + firewalls > 0 {
            assert!(ran.stderr.contains("pgdb infra destroy pgdb-prod --delete-volume"), "{case}: {ran:?}");
            assert!(bed.journal().is_some(), "{case}");
        }
        bed.cloud.mend();
        if call % 2 == 0 {
            bed.run(&INIT).document(&case);
            bed.assert_made(&case);
        } else if servers + volumes + firewalls > 0 {
            let ran = bed.run(&DESTROY);
            assert_eq!(ran.status, Some(0), "{case}: {ran:?}");
        }
        if call % 2 == 1 {
            assert_eq!(bed.counts(), (0, 0, 0), "{case}");
        }
    }
}

#[test]
fn a_provider_that_goes_away_leaves_nothing_unsaid() {
    walk_for_good(Fault::Error);
}

#[test]
fn a_provider_that_works_and_does_not_answer_leaves_nothing_unsaid() {
    walk_for_good(Fault::ErrorAfter);
}

/// The command is killed at a call; afterwards either the same command or `destroy` brings all to its end.
fn walk_killed(fault: Fault) {
    for call in 0..MANY {
        let mut over = false;
        for resume in [true, false] {
            let (bed, case) = (Bed::new(), format!("killed by {fault:?} at call {call}, resumed: {resume}"));
            bed.cloud.fail_once(call, fault);
            // What is waited for is the kill alone.
            let mut command = bed.waiting(&INIT, "1h");
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("pgdb runs");
            over = !bed.cloud.wait_for_held(|| child.try_wait().expect("a child of ours").is_some());
            if !over {
                let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
                kill(pid, Signal::SIGKILL).expect("it runs");
                child.wait().expect("it ends");
                bed.cloud.let_go();
            }
            bed.cloud.mend();
            if resume {
                bed.run(&INIT).document(&case);
                bed.assert_made(&case);
                continue;
            }
            let there = bed.counts() != (0, 0, 0);
            let ran = bed.run(&DESTROY);
            assert_eq!(ran.status, Some(if there { 0 } else { 1 }), "{case}: {ran:?}");
            assert_eq!(bed.counts(), (0, 0, 0), "{case}");
            assert!(bed.journal().is_none(), "{case}");
        }
        if over {
            assert!(call > 10, "{fault:?} never came up");
            return;
        }
    }
}

#[test]
fn a_kill_before_any_call_is_gone_on_from() {
    walk_killed(Fault::Hold);
}

#[test]
fn a_kill_before_any_answer_is_gone_on_from() {
    walk_killed(Fault::HoldAfter);
}
