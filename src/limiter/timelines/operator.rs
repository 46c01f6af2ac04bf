//! Timelines of what an operator does while requests come: overrides that are set, keys
//! that are looked at and reset, bans that are revoked.

use serde_json::json;

use super::super::{AfterBan, FailureMode, Standing};
use super::{World, compile};
use crate::policy::{Explained, Left, Made, NamedKey, Origin};

const POLICIES: &str = "
policies:
  - name: p
    key: header:x-key
    limits: [{ quota: 1, window: 10s }]
    overrides: [{ key: [vip], limits: [{ quota: 3, window: 10s }] }]
  - name: ip
    key: client_ip
    match: { path: /ip }
    limits: [{ quota: 1, window: 10s }]
";

impl World {
    /// Sets an override and returns its id, or what is wrong with it.
    fn grant(&mut self, policy: &str, json: &serde_json::Value) -> Result<String, String> {
        let text = json.to_string();
        let granted = self.wait(async |world| world.limiter.grant(policy, &text).await);
        granted.map(|it| it.id).map_err(|error| error.to_string())
    }

    fn standing(&self, id: &str) -> Standing {
        self.limiter.granted(id).expect("kept").standing
    }

    pub(super) fn look(&mut self, policy: &str, key: &str) -> Explained {
        let live = self.limiter.live();
        let place = live.policies().find(policy).unwrap();
        let look = async |world: &mut World| {
            let named = NamedKey { place, key: key.as_bytes(), tier: None };
            world.limiter.look(&live, named).await.unwrap()
        };
        self.wait(look)
    }
}

pub(super) fn left(explained: &Explained) -> (Origin, Vec<Option<Left>>) {
    match &explained.made {
        Made::Limited { by, limits, .. } => (*by, limits.iter().map(|it| it.left).collect()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_override_holds_from_when_it_is_set_to_the_moment_it_ends() {
    let mut world = World::new(POLICIES, FailureMode::Open);
    world.run(
        r#"
        0s GET / x-key=a  admit, "p";r=0;t=10
        0s GET / x-key=a  429 retry in 10s, "p";r=0;t=10
        "#,
    );
    let limits = json!([{ "quota": 4, "window": "10s" }]);
    let id = world.grant("p", &json!({ "key": ["a"], "limits": limits, "ends_after": "5s" }));
    world.run(
        r#"
        0s GET / x-key=a  admit, "p";r=2;t=10           # it goes on from one used
        0s GET / x-key=b  admit, "p";r=0;t=10
        4999ms GET / x-key=a  admit, "p";r=1;t=6
        5s GET / x-key=a  429 retry in 10s, "p";r=0;t=10
        "#,
    );
    let id = id.unwrap();
    assert_eq!(world.standing(&id), Standing::InForce, "kept until it is taken out");
    world.wait(async |world| {
        world.limiter.take_out_ended().await.unwrap();
        world.limiter.sync_grants().await.unwrap();
    });
    assert!(world.limiter.granted(&id).is_none());
}

#[test]
fn an_override_of_run_time_with_a_short_window_forgets_nothing_for_the_file() {
    let mut world = World::new(
        "policies: [{ name: p, key: header:x-key, limits: [{ quota: 2, window: 60s }] }]",
        FailureMode::Open,
    );
    world.run("0s GET / x-key=a  admit, \"p\";r=1;t=60");
    let limits = json!([{ "quota": 3, "window": "1s" }]);
    world.grant("p", &json!({ "key": ["a"], "limits": limits, "ends_after": "5s" })).unwrap();
    world.run(
        r#"
        2s GET / x-key=a  admit, "p";r=2;t=1
        5s GET / x-key=a  429 retry in 55s, "p";r=0;t=55       # both count, and it has ended
        60s GET / x-key=a  admit, "p";r=0;t=2
        "#,
    );
}

#[test]
fn an_override_of_run_time_goes_before_one_of_the_file_and_can_be_taken_back() {
    let mut world = World::new(POLICIES, FailureMode::Open);
    let denied = world.grant("p", &json!({ "key": "vip", "deny": true })).unwrap();
    let free = world.grant("ip", &json!({ "key": ["192.0.2.0/28"], "unlimited": true })).unwrap();
    world.grant("p", &json!({ "when": { "header:x-role": "staff" }, "unlimited": true })).unwrap();
    world.run(
        r#"
        0s GET / x-key=vip  403
        0s GET /ip x-key=c from 192.0.2.7  admit, "p";r=0;t=10
        0s GET /ip x-key=d from 192.0.2.7  admit, "p";r=0;t=10
        0s GET /ip x-key=c x-role=staff from 192.0.2.7  admit
        "#,
    );
    let again = world.grant("p", &json!({ "key": ["vip"], "unlimited": true })).unwrap();
    assert_eq!(again, denied, "one for each key");
    world.run("0s GET / x-key=vip  admit");
    for id in [again, free] {
        assert!(world.wait(async |world| world.limiter.ungrant(&id).await.unwrap()));
    }
    world.run(
        r#"
        0s GET / x-key=vip  admit, "p";r=2;t=10
        0s GET /ip x-key=e from 192.0.2.7  admit, "p";r=0;t=10, "ip";r=0;t=10
        0s GET /ip x-key=f from 192.0.2.7  429 retry in 10s, "p";r=1;t=0, "ip";r=0;t=10
        "#,
    );
}

#[test]
fn an_override_is_kept_when_a_reload_leaves_it_without_its_policy() {
    let mut world = World::new(POLICIES, FailureMode::Open);
    let id = world.grant("p", &json!({ "key": ["a"], "unlimited": true })).unwrap();
    let swap = |world: &World, policies: &str| {
        world.limiter.swap(compile(world.limiter.store(), policies));
    };
    swap(&world, "policies: []");
    assert_eq!(world.standing(&id), Standing::Orphaned);
    swap(
        &world,
        "policies: [{ name: p, key: [header:x-key, method], limits: [{ quota: 1, window: 10s }] }]",
    );
    let Standing::Unfit(why) = world.standing(&id) else { panic!("it does not fit") };
    assert_eq!(why, "key: has 1 parts, and the key of the policy has 2");
    swap(&world, POLICIES);
    assert_eq!(world.standing(&id), Standing::InForce);
    world.run("0s GET / x-key=a  admit");
}

#[test]
fn an_override_that_makes_no_sense_is_told_as_in_a_file() {
    let mut world = World::new(POLICIES, FailureMode::Open);
    let limits = json!([{ "quota": "many", "window": "10s", "algoritm": "x" }]);
    for (policy, json, expected) in [
        ("q", json!({}), "there is no policy `q`; did you mean `p`?"),
        ("p", json!({ "key": ["a"] }), "needs one of `limits`, `unlimited: true` and `deny: true`"),
        ("p", json!({ "unlimited": true }), "needs either `key` or `when`, to say whom it is for"),
        ("p", json!({ "key": ["a", "b"], "deny": true }), "key: has 2 parts"),
        ("ip", json!({ "key": ["here"], "deny": true }), "key[0]: `here` is not an address"),
        ("p", json!({ "key": ["a"], "limits": limits }), "unknown key `algoritm`"),
        (
            "p",
            json!({ "key": ["a"], "limits": [{ "quota": 0, "window": "10s" }] }),
            "limits[0].quota: must be at least 1",
        ),
        (
            "p",
            json!({ "key": ["a"], "deny": true, "ends_after": "soon" }),
            "ends_after: `soon` is not a span of time",
        ),
    ] {
        let told = world.grant(policy, &json).unwrap_err();
        assert!(told.contains(expected), "{expected}\n\nis not in\n\n{told}");
    }
    assert!(world.limiter.grants(None, "", 10).is_empty());
}

#[test]
fn overrides_are_listed_page_by_page() {
    let mut world = World::new(POLICIES, FailureMode::Open);
    let mut ids: Vec<String> = (0..5)
        .map(|number| world.grant("p", &json!({ "key": [number], "deny": true })).unwrap())
        .collect();
    ids.sort();
    let mut seen: Vec<String> = Vec::new();
    loop {
        let after = seen.last().cloned().unwrap_or_default();
        let page = world.limiter.grants(Some("p"), &after, 2);
        seen.extend(page.iter().map(|it| it.id.clone()));
        if page.len() < 2 {
            break;
        }
    }
    assert_eq!(seen, ids);
    assert!(world.limiter.grants(Some("ip"), "", 2).is_empty());
}

#[test]
fn looking_at_a_key_charges_nobody_and_a_reset_forgets_what_it_used() {
    let mut world = World::new(POLICIES, FailureMode::Open);
    world.run("0s GET / x-key=vip  admit, \"p\";r=2;t=10");
    world.move_to("4s");
    let used = Left { admits: true, remaining: 2, reset_after_ms: 6_000, retry_after_ms: Some(0) };
    for _ in 0..2 {
        assert_eq!(left(&world.look("p", "vip")), (Origin::File, vec![Some(used)]));
    }
    world
        .grant("p", &json!({ "key": ["vip"], "limits": [{ "quota": 1, "window": "10s" }] }))
        .unwrap();
    let full = Left { admits: false, remaining: 0, retry_after_ms: Some(6_000), ..used };
    assert_eq!(left(&world.look("p", "vip")), (Origin::Grant, vec![Some(full)]));
    let live = world.limiter.live();
    let reset = async |world: &mut World| world.limiter.reset(&live, 0, b"vip").await.unwrap();
    assert_eq!(world.wait(reset), 1);
    world.run("4s GET / x-key=vip  admit, \"p\";r=0;t=10");
}

#[test]
fn bans_are_listed_by_their_ends_and_can_be_revoked() {
    let mut world = World::new(
        "
policies:
  - name: login
    key: client_ip
    limits: [{ quota: 1, window: 1s }]
    penalty: { refusals: 1, window: 10s, ban: 30s, ban_max: 100s }
",
        FailureMode::Open,
    );
    world.run(
        r#"
        0s GET / from 192.0.2.1  admit, "login";r=0;t=1
        0s GET / from 192.0.2.1  429 retry in 30s, "login";r=0;t=1
        5s GET / from 192.0.2.2  admit, "login";r=0;t=1
        5s GET / from 192.0.2.2  429 retry in 30s, "login";r=0;t=1
        6s GET / from 192.0.2.3  admit, "login";r=0;t=1
        6s GET / from 192.0.2.3  429 retry in 30s, "login";r=0;t=1
        "#,
    );
    let page = |world: &mut World, after: AfterBan| {
        world.wait(async |world| world.limiter.bans(&after, 2).await.unwrap())
    };
    let first = page(&mut world, AfterBan::default());
    assert_eq!(first.iter().map(|it| &*it.key).collect::<Vec<_>>(), ["192.0.2.1", "192.0.2.2"]);
    assert_eq!((&*first[1].policy, first[1].number), ("login", 1));
    assert_eq!(first[1].until.since(first[1].since).as_secs(), 30);
    let last = &first[1];
    let after = AfterBan { until_us: last.until.micros(), store_key: last.store_key.clone() };
    let rest = page(&mut world, after);
    assert_eq!(rest.iter().map(|it| &*it.key).collect::<Vec<_>>(), ["192.0.2.3"]);

    let live = world.limiter.live();
    let ban_key = live.policies().ban_key(0, b"192.0.2.2").unwrap();
    let pardon = async |world: &mut World| world.limiter.pardon(&ban_key).await.unwrap();
    assert!(world.wait(pardon));
    assert!(!world.wait(pardon), "it is revoked once");
    world.run(
        r#"
        7s GET / from 192.0.2.2  admit, "login";r=0;t=1
        30s GET / from 192.0.2.3  429 retry in 6s, "login";r=1;t=0
        "#,
    );
    let left = page(&mut world, AfterBan::default());
    assert_eq!(left.iter().map(|it| &*it.key).collect::<Vec<_>>(), ["192.0.2.3"]);
}
