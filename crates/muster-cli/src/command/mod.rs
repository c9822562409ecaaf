//! The commands: a file per noun.

mod backup;
mod cluster;
mod job;
mod kind;
mod limit;
mod local;
mod payload;
mod queue;
mod tenant;
mod worker;

use std::io::Write;

use clap::{Args, Subcommand};
use clap_complete::Shell;

use crate::args::Global;
use crate::exit;
use crate::failure::Failure;
use crate::output::Output;

/// The client commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Enqueue, look up, wait for, cancel and redrive jobs
    Job(JobArgs),
    /// List, pause and resume queues; ordering keys that wait for a dead job
    Queue(QueueArgs),
    /// List, pause and resume kinds of jobs
    Kind(KindArgs),
    /// Create tenants, list them, set their shares
    Tenant(TenantArgs),
    /// Limit starts and running jobs of the cluster, tenants, queues, kinds and keys
    Limit(LimitArgs),
    /// The cluster as its nodes see it
    Cluster(ClusterArgs),
    /// Connected workers
    Worker(WorkerArgs),
    /// Make, list, verify, restore and remove backups
    Backup(BackupArgs),
    /// Print a completion script, e.g. `muster completion bash > /etc/bash_completion.d/muster`
    Completion {
        /// For which shell
        shell: Shell,
    },
}

macro_rules! noun {
    ($(#[$doc:meta])* $name:ident, $module:ident) => {
        $(#[$doc])*
        #[derive(Args, Debug)]
        pub struct $name {
            #[command(flatten)]
            global: Global,
            #[command(subcommand)]
            verb: $module::Verb,
        }
    };
}

noun!(
    /// `muster job …`
    JobArgs,
    job
);
noun!(
    /// `muster queue …`
    QueueArgs,
    queue
);
noun!(
    /// `muster kind …`
    KindArgs,
    kind
);
noun!(
    /// `muster tenant …`
    TenantArgs,
    tenant
);
noun!(
    /// `muster limit …`
    LimitArgs,
    limit
);
noun!(
    /// `muster cluster …`
    ClusterArgs,
    cluster
);
noun!(
    /// `muster worker …`
    WorkerArgs,
    worker
);

noun!(
    /// `muster backup …`
    BackupArgs,
    backup
);
/// For reads.
#[derive(Args, Clone, Copy, Debug)]
pub struct Stale {
    /// Take what the asked node knows, without asking the leader; says how old it may be
    #[arg(long)]
    stale: bool,
}

/// What a command needs besides its own arguments.
struct Run {
    client: muster_client::Client,
    output: Output,
    global: Global,
}

pub(crate) async fn run(command: Command, mut root: clap::Command) -> u8 {
    let global = match &command {
        Command::Job(args) => args.global.clone(),
        Command::Queue(args) => args.global.clone(),
        Command::Kind(args) => args.global.clone(),
        Command::Tenant(args) => args.global.clone(),
        Command::Limit(args) => args.global.clone(),
        Command::Cluster(args) => args.global.clone(),
        Command::Worker(args) => args.global.clone(),
        Command::Backup(args) => args.global.clone(),
        Command::Completion { shell } => {
            complete(*shell, &mut root, &mut std::io::stdout());
            return exit::OK;
        }
    };
    let format = global.output;
    match call(command, global).await {
        Ok(()) => exit::OK,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "{}", failure.render(format));
            failure.exit_code()
        }
    }
}

/// The commands that need a cluster.
async fn call(command: Command, global: Global) -> Result<(), Failure> {
    let run = Run {
        client: global.client()?,
        output: Output::new(global.output),
        global,
    };
    match command {
        Command::Job(args) => job::run(&run, args.verb).await,
        Command::Queue(args) => queue::run(&run, args.verb).await,
        Command::Kind(args) => kind::run(&run, args.verb).await,
        Command::Tenant(args) => tenant::run(&run, args.verb).await,
        Command::Limit(args) => limit::run(&run, args.verb).await,
        Command::Cluster(args) => cluster::run(&run, args.verb).await,
        Command::Worker(args) => worker::run(&run, args.verb).await,
        Command::Backup(args) => backup::run(&run, args.verb).await,
        Command::Completion { .. } => Ok(()),
    }
}

/// A reader that went away is no error, so the script is made before any of it is written.
fn complete(shell: Shell, root: &mut clap::Command, out: &mut dyn Write) {
    let name = root.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, root, name, &mut script);
    let _ = out.write_all(&script);
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Muster {
        #[command(subcommand)]
        command: Command,
    }

    #[test]
    fn the_command_line_is_consistent() {
        Muster::command().debug_assert();
    }

    #[test]
    fn what_people_type_is_understood() {
        let lines = [
            "job enqueue mail",
            "job enqueue mail --queue q --payload {} --delay 5s --priority high --key k --max-attempts 3 --wait",
            "job enqueue mail --payload - --run-at 2026-01-31T08:00:00Z",
            "job list --state dead,retrying --kind mail --limit 5 -o json",
            "job get 0190a5d2-0000-7000-8000-000000000001 --address http://a:1,http://b:2 --tenant docs",
            "job wait 0190a5d2-0000-7000-8000-000000000001 --timeout 1m",
            "job cancel 0190a5d2-0000-7000-8000-000000000001 0190a5d2-0000-7000-8000-000000000002",
            "job redrive 0190a5d2-0000-7000-8000-000000000001",
            "job watch 0190a5d2-0000-7000-8000-000000000001",
            "job explain 0190a5d2-0000-7000-8000-000000000001",
            "job explain 0190a5d2-0000-7000-8000-000000000001 --stale -o json",
            "job unroutable -o json",
            "job set-priority high 0190a5d2-0000-7000-8000-000000000001 0190a5d2-0000-7000-8000-000000000002",
            "job set-priority bulk --queue mail --state available,retrying",
            "tenant create docs --priority-order strict",
            "tenant set docs --priority-order 10s",
            "job enqueue mail --require gpu=a100 --require zone=1 --prefer disk=fast",
            "kind list",
            "kind pause mail --note bug",
            "kind resume mail",
            "queue list",
            "queue pause mail --note migration",
            "queue weight mail 300",
            "queue weight mail --none",
            "job enqueue mail --slots 4",
            "queue resume mail",
            "job enqueue mail --limit-key stripe:acct_7 --limit-key 3*disk --cost 2 --ordering-key account:7 --ordering strict",
            "queue held mail",
            "queue release mail account:7",
            "tenant create docs --weight 300 --payload-max 2MiB",
            "tenant set docs --weight 100",
            "tenant set docs --jobs-max 1000 --bytes-max 2GiB --enqueue-rate 100/s --enqueue-burst 20",
            "tenant set docs --jobs-max none --bytes-max none --enqueue-rate none",
            "tenant show docs --stale",
            "limit set key stripe:* --rate 100/s --burst 20 --concurrency 5 --note contract",
            "limit set tenant --concurrency 5 --tenants *",
            "limit set cluster --rate 30/m",
            "limit set key vip --unlimited",
            "limit list --all-tenants -o json",
            "limit explain queue mail",
            "limit explain cluster",
            "limit delete key stripe:* --tenants acme",
            "limit open stripe:acct_7",
            "tenant list",
            "job list --stale",
            "queue list --stale -o json",
            "cluster status",
            "cluster recover --config c.toml --node 1 --lost 2,3",
            "cluster recover --node 1 --inspect",
            "cluster recover --node 1 --lost 2,3,5 --survivor 4=7.2.1000 --dry-run",
            "backup create",
            "backup status -o json",
            "backup keygen backup.key",
            "backup list --url /backups --any-signer",
            "backup verify 00000000000000000042-abcdef01 --verify-key backup.pub",
            "backup restore --config c.toml --node 1 --at 2026-01-31T08:00:00Z",
            "backup restore --all-nodes --at 12345 --unsigned",
            "backup restore --node 2 --at 9 --cluster-id 0a --begin-index 99",
            "backup prune --keep 3 --keep-for 2d --dry-run",
            "cluster add 4 --api 127.0.0.1:7004 --peer 127.0.0.1:7104 --learner --ttl 1h",
            "cluster replace 3 4 --api 127.0.0.1:7004 --peer 127.0.0.1:7104 --no-wait",
            "cluster remove 4",
            "cluster promote 4 --no-wait",
            "cluster demote 4",
            "cluster set-address 4 --peer 127.0.0.1:7114",
            "cluster set-address 4 --api 127.0.0.1:7014",
            "cluster abort --reason slow",
            "cluster drain 2 --note disk",
            "cluster undrain 2",
            "cluster transfer-leader 3",
            "cluster token create --node 4 --ttl 5m",
            "cluster token list",
            "cluster token revoke --node 4",
            "cluster upgrade",
            "cluster upgrade --to 2",
            "cluster upgrade --check",
            "worker list",
            "completion fish",
        ];
        for line in lines {
            let words = std::iter::once("muster").chain(line.split(' '));
            assert!(Muster::try_parse_from(words).is_ok(), "{line}");
        }
    }

    #[test]
    fn mistakes_are_refused() {
        let lines = [
            "job enqueue",
            "job enqueue mail --delay 5",
            "job enqueue mail --delay 5s --run-at 2026-01-31T08:00:00Z",
            "job enqueue mail --priority urgent",
            "job get not-an-id",
            "job list --state asleep",
            "job list --limit 0",
            "tenant set docs",
            "tenant set docs --enqueue-burst 5",
            "tenant set docs --jobs-max 0",
            "job enqueue mail --ordering strict",
            "job enqueue mail --limit-key 0*disk",
            "job enqueue mail --cost 0",
            "limit set key",
            "limit set key k",
            "limit set key k --concurrency 0",
            "limit set key k --concurrency -1",
            "limit set key k --rate 5/s --unlimited",
            "limit set key k --burst 5",
            "limit set galaxy --concurrency 5",
            "limit open",
            "tenant create docs --weight 0",
            "queue pause",
            "queue weight mail",
            "queue weight mail 0",
            "queue weight mail 5 --none",
            "job enqueue mail --slots 0",
            "kind pause",
            "job set-priority high",
            "job set-priority urgent --queue mail",
            "job set-priority high 0190a5d2-0000-7000-8000-000000000001 --queue mail",
            "tenant set docs --priority-order random",
            "job enqueue mail --require gpu",
            "cluster add 4",
            "cluster remove",
            "cluster set-address 4",
            "cluster token create",
            "cluster upgrade --to 0",
            "completion tcsh",
            "cluster recover --node 1",
            "cluster recover --node 1 --lost 2 --survivor 3",
            "backup restore",
            "backup restore --node 1 --all-nodes",
            "backup restore --node 1 --at yesterday",
            "backup verify --any-signer --unsigned",
            "backup keygen",
        ];
        for line in lines {
            let words = std::iter::once("muster").chain(line.split(' '));
            assert!(Muster::try_parse_from(words).is_err(), "{line}");
        }
    }

    #[test]
    fn completion_scripts_know_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            complete(shell, &mut Muster::command(), &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("redrive") && script.contains("explain"), "{shell}");
        }
    }
}
