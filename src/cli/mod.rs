//! The command line. What each command does is in [`app`], but for `weir log`, which
//! stands here in [`log`].
//!
//! Exit codes: 0 when all went well, 1 when something is wrong with a file, an
//! address or the data, 2 when the command line itself is wrong. What is wrong
//! is said on standard error.

mod log;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::app;
use crate::base;
use crate::base::chain::Chain;
use crate::base::log::Format;
use crate::base::tasks::spawn_thread;
use crate::persist;
use crate::policy;

/// How long a start waits until what it says is printed.
const BANNER_PATIENCE: Duration = Duration::from_secs(1);

/// A rate-limiting gateway: exact, programmable, durable, in one binary.
#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve: limit and forward. The default.
    Serve(Common),
    /// Check the configuration, the policies and the Functions, and say
    /// everything that is wrong.
    Check(Common),
    /// Work on Functions.
    #[command(subcommand)]
    Function(Function),
    /// Explain what the policies make of one request: which concern it, under
    /// which keys, and why not.
    Explain(Explain),
    /// Print the JSON Schema of policy files, for editors.
    Schema,
    /// Replay access logs: what the policies would have done to that traffic.
    ///
    /// Reads Common, Combined, JSON and Envoy's default form, plain or gzip, and
    /// decides each request at its moment, with the real Functions. Nothing is
    /// forwarded and no data is touched.
    Replay(Replay),
    /// Look at the log in a data directory.
    #[command(subcommand)]
    Log(log::Log),
}

impl Command {
    fn log_format(&self) -> Option<Format> {
        let written = match self {
            Command::Function(_) => None,
            Command::Serve(common) | Command::Check(common) => common.log_format,
            Command::Replay(replay) => replay.common.log_format,
            Command::Explain(explain) => explain.common.log_format,
            Command::Log(_) | Command::Schema => None,
        };
        written.map(|format| match format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        })
    }
}

#[derive(Debug, Subcommand)]
enum Function {
    /// Try a library over an empty keyspace: call its Functions, move the clock,
    /// see replies and effects.
    ///
    /// A step is a call, `FUNCTION KEY… , ARG…`; a span of time, `+5s`, by which
    /// the clock moves; or a command behind an exclamation mark, `!ZCARD KEY`.
    /// Without steps they are read from standard input, one a line.
    Test {
        /// The library.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// What to do, in order.
        #[arg(value_name = "STEP", allow_hyphen_values = true)]
        steps: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Explain {
    #[command(flatten)]
    common: Common,
    /// A header field of the request; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The client's address.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    from: std::net::IpAddr,
    /// The admin door of a Weir that runs, such as `http://127.0.0.1:9900`: it tells
    /// what is left, under the policies and overrides that are in force there.
    #[arg(long, value_name = "URL")]
    admin: Option<http::Uri>,
    /// The file with the token that the admin door wants.
    #[arg(long, value_name = "FILE", requires = "admin")]
    token_file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The request, such as `POST /api/x`.
    #[arg(value_name = "REQUEST")]
    request: String,
}

#[derive(Debug, clap::Args)]
struct Replay {
    #[command(flatten)]
    common: Common,
    /// Write a page with charts to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// How many keys to name for each limit.
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    top: usize,
    /// Access logs, oldest first; `-` is standard input.
    #[arg(value_name = "LOG", required = true)]
    logs: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "config/weir.yaml")]
    config: PathBuf,
    /// How log lines are written to standard error: as text on a terminal and
    /// as JSON elsewhere, unless said here. `RUST_LOG` filters them.
    #[arg(long, value_name = "FORM")]
    log_format: Option<LogFormat>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Runs the command line of the process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let command = arguments.command.unwrap_or(Command::Serve(arguments.common));
    if let Err(error) = base::log::start(command.log_format()) {
        return failed(&error);
    }
    let code = run(command);
    base::log::flush();
    code
}

fn run(command: Command) -> ExitCode {
    let result = match command {
        Command::Serve(common) => app::serve(&common.config, &mut |text| say_in_time(text)),
        Command::Check(common) => app::check(&common.config).map(|text| report(&text)),
        Command::Log(command) => {
            return match log::run(&command) {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::from(1),
                Err(error) => failed(&error),
            };
        }
        Command::Explain(Explain { common, headers, from, admin, token_file, json, request }) => {
            let question = policy::Question { request, headers, from };
            let asked = admin.map(|door| app::explain::Door { address: door, token_file });
            let form = if json { app::explain::Form::Json } else { app::explain::Form::Text };
            app::explain::explain(&common.config, &question, asked.as_ref(), form)
                .map(|text| report(&text))
        }
        Command::Schema => {
            say(&format!("{:#}", policy::schema::schema()));
            Ok(())
        }
        Command::Replay(Replay { common, logs, html, top }) => {
            let options = app::replay::Options { logs, html, top };
            app::replay::replay(&common.config, &options).map(|text| report(text.trim_end()))
        }
        Command::Function(Function::Test { file, steps }) => {
            let lines = io::stdin().lines().map_while(Result::ok);
            let from_input = steps.is_empty().then_some(lines).into_iter().flatten();
            let steps = steps.into_iter().chain(from_input);
            app::trial::run(&file, steps, &mut |line| report(line)).map_err(app::Error::from)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Says what went wrong, and what may help.
fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    let mut text = format!("weir: {}\n", Chain(error));
    let causes = std::iter::successors(Some(error), |error| error.source());
    let log_error = causes.filter_map(|error| error.downcast_ref::<persist::Error>()).next();
    if let Some(dir) = log_error.and_then(persist::Error::mendable) {
        let dir = dir.display();
        text += &format!("weir: to keep what stands before it: weir log check --fix {dir}\n");
    }
    base::log::print(text);
    ExitCode::from(1)
}

/// Prints, and goes on after a second: whoever serves does not wait for who reads that.
fn say_in_time(text: &str) {
    let (tell, told) = sync_channel(1);
    let text = text.to_owned();
    let thread = spawn_thread("banner", move || {
        say(&text);
        // Who has given up waiting is not there.
        let _ = tell.try_send(());
    });
    if thread.is_ok() {
        // What is not printed by then may be later.
        let _ = told.recv_timeout(BANNER_PATIENCE);
    }
}

/// Prints behind what was logged: both may go to the same terminal.
fn report(text: &str) {
    base::log::flush();
    say(text);
}

fn say(text: &str) {
    // A closed standard output is no reason to stop serving.
    let _ = writeln!(io::stdout().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn serving_is_the_default_and_takes_the_same_options() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' ')).unwrap();
        assert_eq!(parse("weir").common.config, PathBuf::from("config/weir.yaml"));
        assert_eq!(parse("weir --config x.yaml").common.config, PathBuf::from("x.yaml"));
        let Some(Command::Serve(common)) = parse("weir serve --config y.yaml").command else {
            panic!("`serve` is a command");
        };
        assert_eq!(common.config, PathBuf::from("y.yaml"));
    }
}
