//! What survives on the disk under a live policy set, and what is noticed: files that
//! are replaced in every way that files are, lists and keys among them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time;

use crate::base::clock::{Clock, Timestamp};
use crate::base::tasks::Tasks;
use crate::policy::{Cause, Functions, Headers, Plan, PolicySet, RequestFacts};
use crate::store::{self, Embedded, Library, Store};

use super::{FailureMode, Limiter, Metrics, PolicyFile, keep_current};

/// A policy of this quota that turns away whom `abusers.txt` names.
fn policies(quota: u32) -> String {
    format!(
        "policies:
  - name: p
    key: client_ip
    deny: {{ file: abusers.txt }}
    limits: [{{ quota: {quota}, window: 10s }}]
"
    )
}

struct Authorization(String);

impl Headers for Authorization {
    fn get<'h>(&'h self, name: &str) -> Option<&'h [u8]> {
        (name == "authorization").then_some(self.0.as_bytes())
    }
}

fn plan(set: &PolicySet, client: &str, token: &str) -> Plan {
    let headers = Authorization(format!("Bearer {token}"));
    let facts = RequestFacts {
        method: "GET",
        host: "",
        path: "/",
        query: "",
        client: client.parse().unwrap(),
        headers: &headers,
        body_bytes: None,
        descriptors: &[],
    };
    let mut plan = Plan::default();
    set.plan(&facts, Some(Timestamp::from_millis(0)), &mut plan);
    plan
}

fn is_listed(set: &PolicySet, client: &str) -> bool {
    plan(set, client, "").denying().iter().any(|it| it.cause == Cause::Listed)
}

#[test]
fn a_list_of_a_hundred_thousand_is_read_anew_when_it_changes() {
    let folder = TempDir::new().unwrap();
    let list = |skipped: u32| {
        let addresses = (0..100_000).filter(|number| *number != skipped);
        let line = |number| format!("{}\n", std::net::Ipv4Addr::from(0x0A00_0000 + 7 * number));
        fs::write(folder.path().join("abusers.txt"), addresses.map(line).collect::<String>())
            .unwrap();
    };
    list(0);
    fs::write(folder.path().join("policies.yaml"), policies(5)).unwrap();
    let mut file = PolicyFile::new(folder.path().join("policies.yaml"));
    let functions = Functions::default();
    let set = file.load(&functions).unwrap();
    assert!(
        !is_listed(&set, "10.0.0.0")
            && is_listed(&set, "10.0.0.7")
            && is_listed(&set, "10.10.174.89")
    );
    assert!(!is_listed(&set, "10.0.0.8"));

    assert!(file.load_if_changed(&functions).is_none(), "nothing has changed");
    list(1);
    let set = file.load_if_changed(&functions).expect("it has changed").unwrap();
    assert!(is_listed(&set, "10.0.0.0") && !is_listed(&set, "10.0.0.7"));

    for broken in ["10.0.0.1\n10.0.0.", "\u{fffd}", "10.0.0.0/33\n"] {
        fs::write(folder.path().join("abusers.txt"), broken).unwrap();
        let problems = file.load_if_changed(&functions).expect("it has changed").unwrap_err();
        assert!(problems.to_string().contains("abusers.txt"), "{problems}");
        assert!(file.load_if_changed(&functions).is_none(), "told once");
    }
    fs::remove_file(folder.path().join("abusers.txt")).unwrap();
    let problems = file.load_if_changed(&functions).expect("it has gone").unwrap_err();
    assert!(problems.to_string().contains("abusers.txt"), "{problems}");
    list(2);
    assert!(file.load_if_changed(&functions).expect("it is back").is_ok());
}

#[test]
fn keys_that_are_exchanged_check_from_then_on() {
    use jsonwebtoken::{EncodingKey, Header, encode};
    let folder = TempDir::new().unwrap();
    let text = "jwt: { keys: secret }\npolicies: [{ name: p, key: jwt:sub, limits: [{ quota: 1, window: 1s }] }]";
    fs::write(folder.path().join("policies.yaml"), text).unwrap();
    let (old, new) = ("the secret of last year", "the secret of this year");
    let token = |secret: &str| {
        let key = EncodingKey::from_secret(secret.as_bytes());
        encode(&Header::default(), &serde_json::json!({ "sub": "ann" }), &key).unwrap()
    };
    let counted_for = |set: &PolicySet, secret: &str| {
        let plan = plan(set, "192.0.2.1", &token(secret));
        String::from_utf8(plan.partition(&plan.entries()[0]).to_vec()).unwrap()
    };
    fs::write(folder.path().join("secret"), old).unwrap();
    let mut file = PolicyFile::new(folder.path().join("policies.yaml"));
    let set = file.load(&Functions::default()).unwrap();
    assert_eq!([counted_for(&set, old), counted_for(&set, new)], ["ann", "~"]);

    fs::write(folder.path().join("secret"), new).unwrap();
    let set = file.load_if_changed(&Functions::default()).expect("it has changed").unwrap();
    assert_eq!([counted_for(&set, old), counted_for(&set, new)], ["~", "ann"]);
}

/// A limiter whose policies are kept current with a folder.
struct Kept {
    limiter: Arc<Limiter>,
    tasks: Tasks,
    // Dropped last: a nudge that nobody sends keeps the task from spinning.
    _nudge: mpsc::Sender<()>,
}

impl Kept {
    fn with(folder: &Path) -> Kept {
        let registry = Registry::new();
        let code = include_str!("../../functions/limiter.lua").to_owned();
        let libraries = [Library { origin: "limiter.lua".to_owned(), code }];
        let clock = Clock::manual(Timestamp::from_millis(1_700_000_000_000));
        let metrics = store::Metrics::register(&registry).unwrap();
        let opened = Embedded::open(&libraries, None, clock, metrics, &mut |_| {}).unwrap();
        let store = Store::Embedded(opened.store);
        let mut file = PolicyFile::new(folder.join("policies.yaml"));
        let set = file.load(&Functions::new(store.functions())).unwrap();
        let metrics = Metrics::register(&registry).unwrap();
        let limiter = Arc::new(Limiter::new(store, set, FailureMode::Open, metrics));
        let (tasks, (nudge, nudges)) = (Tasks::default(), mpsc::channel(1));
        let kept = Arc::clone(&limiter);
        tasks.spawn("policies", |shutdown| async move {
            keep_current(&kept, file, nudges, shutdown).await;
        });
        Kept { limiter, tasks, _nudge: nudge }
    }

    /// Waits until the live set has this quota and the file is (not) a good one.
    async fn becomes(&self, quota: &str, is_stale: bool, after: &str) {
        let holds = || {
            let live = self.limiter.live();
            let told = live.policies().policies()[0].describe();
            told.contains(quota) && self.limiter.stale_for().is_some() == is_stale
        };
        for _ in 0..500 {
            if holds() {
                return;
            }
            time::sleep(Duration::from_millis(20)).await;
        }
        panic!("not noticed: {after}");
    }
}

#[tokio::test]
async fn however_a_file_is_replaced_it_is_noticed_and_a_broken_one_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("abusers.txt"), "10.0.0.1\n").unwrap();
    fs::write(path("policies.yaml"), policies(1)).unwrap();
    let kept = Kept::with(folder.path());
    // The watch begins when the task is first run.
    time::sleep(Duration::from_millis(50)).await;

    fs::write(path("policies.yaml"), policies(2)).unwrap();
    kept.becomes("2 per", false, "a file written in place").await;

    fs::write(path(".policies.yaml.swp"), policies(3)).unwrap();
    fs::rename(path(".policies.yaml.swp"), path("policies.yaml")).unwrap();
    kept.becomes("3 per", false, "an editor's rename").await;

    fs::write(path("policies.yaml"), &policies(4)[..60]).unwrap();
    kept.becomes("3 per", true, "a file that is half written").await;
    fs::write(path("policies.yaml"), policies(4)).unwrap();
    kept.becomes("4 per", false, "the rest of it").await;

    fs::remove_file(path("policies.yaml")).unwrap();
    kept.becomes("4 per", true, "a file that has vanished").await;
    fs::write(path("policies.yaml"), policies(5)).unwrap();
    kept.becomes("5 per", false, "its return").await;

    fs::write(path("policies.yaml"), "a: &a [x]\nb: [*a, *a]\npolicies: *b\n").unwrap();
    kept.becomes("5 per", true, "a file of aliases").await;
    fs::write(path("policies.yaml"), policies(6)).unwrap();
    kept.becomes("6 per", false, "the mended file").await;

    let generation = kept.limiter.live().generation();
    fs::write(path("abusers.txt"), "10.0.0.2\n").unwrap();
    for _ in 0..500 {
        if kept.limiter.live().generation() > generation {
            break;
        }
        time::sleep(Duration::from_millis(20)).await;
    }
    assert!(is_listed(kept.limiter.live().policies(), "10.0.0.2"), "a list that has changed");
    kept.tasks.drain(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_volume_of_kubernetes_is_swapped_whole_with_its_lists() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let publish = |name: &str, quota: u32, abuser: &str| {
        fs::create_dir(path(name)).unwrap();
        fs::write(path(name).join("policies.yaml"), policies(quota)).unwrap();
        fs::write(path(name).join("abusers.txt"), abuser).unwrap();
        std::os::unix::fs::symlink(name, path("..data_tmp")).unwrap();
        fs::rename(path("..data_tmp"), path("..data")).unwrap();
    };
    publish("..1", 1, "10.0.0.1");
    for name in ["policies.yaml", "abusers.txt"] {
        std::os::unix::fs::symlink(Path::new("..data").join(name), path(name)).unwrap();
    }
    let kept = Kept::with(folder.path());
    time::sleep(Duration::from_millis(50)).await;
    for (number, quota, abuser) in [("..2", 2, "10.0.0.2"), ("..3", 3, "10.0.0.3")] {
        let generation = kept.limiter.live().generation();
        publish(number, quota, abuser);
        kept.becomes(&format!("{quota} per"), false, number).await;
        let live = kept.limiter.live();
        assert_eq!(live.generation(), generation + 1, "one swap, one generation");
        assert!(is_listed(live.policies(), abuser) && !is_listed(live.policies(), "10.0.0.1"));
    }
    kept.tasks.drain(Duration::from_secs(5)).await;
}

#[test]
fn what_an_edit_changes_is_told_policy_by_policy() {
    let set = |text: &str| {
        let files = |_: &str| Err("no files".to_owned());
        crate::policy::compile("p.yaml", text, &Functions::default(), &files).unwrap()
    };
    let before = set("
policies:
  - { name: gone, limits: [{ quota: 1, window: 1s }] }
  - { name: same, limits: [{ quota: 1, window: 1s }] }
  - { name: quota, key: client_ip, limits: [{ quota: 1, window: 1s }] }
  - { name: told, limits: [{ quota: 1, window: 1s }] }
");
    let after = set("
policies:
  - { name: quota, key: client_ip, limits: [{ quota: 2, window: 1s }] }
  - { name: same, limits: [{ quota: 1, window: 1s }] }
  - { name: told, limits: [{ quota: 1, window: 1s }], on_deny: { status: 503 } }
  - { name: new, mode: shadow, limits: [{ quota: 1, window: 1s }] }
");
    assert_eq!(
        after.changes_since(&before),
        [
            "removed gone: 1 per 1s all together on every request",
            "changed to quota: 2 per 1s by client_ip on every request, \
             from quota: 1 per 1s by client_ip on every request",
            "changed other settings of told: 1 per 1s all together on every request",
            "added new: 1 per 1s all together on every request (shadow)",
        ]
    );
    assert!(after.changes_since(&after).is_empty());
}
