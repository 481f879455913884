//! A test that starts its own program again, to be killed, limited or watched: one of its tests, alone, with a task.

use std::process::Command;

const TASK: &str = "KLS_TESTS_TASK";

/// What this process was started for; nothing in the one that a user starts.
pub fn task() -> Option<String> {
    std::env::var(TASK).ok()
}

/// The command that runs a test of this program with a task, by a wrapper if there is one: a command that runs its last arguments.
///
/// # Panics
/// If the program cannot be found.
pub fn command(wrapper: &[&str], test: &str, task: &str) -> Command {
    let own = std::env::current_exe().expect("the program's path");
    let mut command = match wrapper {
        [] => Command::new(own),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(own);
            command
        }
    };
    command.args(["--exact", test, "--nocapture"]).env(TASK, task);
    command
}

/// Runs it to its end, which must be a good one.
///
/// # Panics
/// If it is not.
pub fn run(command: &mut Command) {
    let output = command.output().expect("the program starts");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{command:?}: {}\n{said}\n{errors}", output.status);
}
