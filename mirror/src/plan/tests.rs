use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::*;
use crate::mirror::tests::mirror;

fn name(name: &str) -> ServiceName {
    ServiceName::new("shop", name)
}

fn wanted(link_uid: &str) -> Mirror {
    Mirror {
        link_uid: link_uid.into(),
        ..mirror()
    }
}

fn owned(mirror: &Mirror) -> Owned {
    Owned {
        link_uid: mirror.link_uid.clone(),
        uid: "uid-1".into(),
        resource_version: "7".into(),
        mirror: Some(mirror.clone()),
        terminating: false,
    }
}

/// The plan for one wanted name, given what has that name.
fn plan_for(actual: Option<Actual>) -> Plan {
    let desired = BTreeMap::from([(name("web-east"), wanted("link-1"))]);
    let actual = actual.map(|actual| (name("web-east"), actual));
    plan("link-1", &desired, &actual.into_iter().collect())
}

#[test]
fn m1_what_is_missing_is_created() {
    let create = Action::Create {
        name: name("web-east"),
        mirror: wanted("link-1"),
    };
    assert_eq!(plan_for(None).actions, [create]);
}

#[test]
fn m1_what_is_right_is_left_alone() {
    let right = Actual::Ours(owned(&wanted("link-1")));
    assert_eq!(plan_for(Some(right)), Plan::default());
}

#[test]
fn m1_a_service_that_is_not_ours_is_a_conflict_and_nothing_is_written() {
    let plan = plan_for(Some(Actual::Foreign));
    assert_eq!(plan.actions, []);
    assert_eq!(plan.conflicts[0].owner, None);
}

#[test]
fn m1_a_service_that_is_not_ours_outlives_the_remote_one() {
    let actual = BTreeMap::from([(name("web-east"), Actual::Foreign)]);
    assert_eq!(plan("link-1", &BTreeMap::new(), &actual), Plan::default());
}

#[test]
fn m2_the_first_link_keeps_a_name_and_the_second_has_the_conflict() {
    let first = Actual::Ours(owned(&wanted("link-0")));
    let plan = plan_for(Some(first));
    assert_eq!(plan.actions, []);
    assert_eq!(plan.conflicts[0].owner.as_deref(), Some("link-0"));
}

#[test]
fn m2_a_link_removes_nothing_of_another_link() {
    let actual = BTreeMap::from([(name("web-east"), Actual::Ours(owned(&wanted("link-0"))))]);
    assert_eq!(plan("link-1", &BTreeMap::new(), &actual), Plan::default());
}

#[test]
fn m9_an_edited_mirror_is_repaired_at_the_version_that_was_seen() {
    for edited in [
        None,
        Some(Mirror {
            remote: "shop/other".into(),
            ..wanted("link-1")
        }),
    ] {
        let edited = Owned {
            mirror: edited,
            ..owned(&wanted("link-1"))
        };
        let update = Action::Update {
            name: name("web-east"),
            mirror: wanted("link-1"),
            resource_version: "7".into(),
        };
        assert_eq!(plan_for(Some(Actual::Ours(edited))).actions, [update]);
    }
}

#[test]
fn m9_a_mirror_that_is_being_deleted_is_waited_for() {
    let going = Owned {
        terminating: true,
        mirror: None,
        ..owned(&wanted("link-1"))
    };
    assert_eq!(plan_for(Some(Actual::Ours(going.clone()))), Plan::default());
    let actual = BTreeMap::from([(name("web-east"), Actual::Ours(going))]);
    assert_eq!(plan("link-1", &BTreeMap::new(), &actual), Plan::default());
}

#[test]
fn m10_what_is_no_longer_exported_is_removed() {
    let actual = BTreeMap::from([
        (name("web-east"), Actual::Ours(owned(&wanted("link-1")))),
        (name("db-east"), Actual::Foreign),
    ]);
    let delete = Action::Delete {
        name: name("web-east"),
        uid: "uid-1".into(),
        resource_version: "7".into(),
    };
    assert_eq!(plan("link-1", &BTreeMap::new(), &actual).actions, [delete]);
}

#[test]
fn m10_mirrors_of_a_deleted_link_are_removed_and_nothing_else() {
    let actual = BTreeMap::from([
        (name("a"), Actual::Ours(owned(&wanted("gone")))),
        (name("b"), Actual::Ours(owned(&wanted("link-1")))),
        (name("c"), Actual::Foreign),
    ]);
    let links = BTreeSet::from(["link-1".to_owned()]);
    let removed = orphans(&links, &actual);
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].name(), &name("a"));
}

/// Two links, strangers and an API server that refuses half of what it is
/// told, with time for everything: in the end each wanted name is right or a
/// conflict, strangers are untouched, and nothing superfluous is left.
#[test]
fn m11_random_histories_end_as_the_model_says() {
    for seed in 0..500 {
        let mut world = World::new(seed);
        for _ in 0..60 {
            world.step();
        }
        world.settle();
        world.check(seed);
    }
}

const LINKS: [&str; 2] = ["link-0", "link-1"];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

struct World {
    random: StdRng,
    desired: BTreeMap<&'static str, BTreeMap<ServiceName, Mirror>>,
    actual: BTreeMap<ServiceName, Actual>,
    strangers: BTreeSet<ServiceName>,
    version: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            desired: LINKS.map(|link| (link, BTreeMap::new())).into(),
            actual: BTreeMap::new(),
            strangers: BTreeSet::new(),
            version: 0,
        }
    }

    fn step(&mut self) {
        let name = name(NAMES[self.random.random_range(0..NAMES.len())]);
        let link = LINKS[self.random.random_range(0..LINKS.len())];
        match self.random.random_range(0..7) {
            0 => self.export(link, name),
            1 => drop(self.desired.entry(link).or_default().remove(&name)),
            2 if !self.actual.contains_key(&name) => {
                self.strangers.insert(name.clone());
                self.actual.insert(name, Actual::Foreign);
            }
            3 if self.strangers.remove(&name) => drop(self.actual.remove(&name)),
            4 => self.edit(&name),
            5 if !self.strangers.contains(&name) => drop(self.actual.remove(&name)),
            _ => self.reconcile(link, 0.5),
        }
    }

    fn export(&mut self, link: &'static str, name: ServiceName) {
        let remote = format!("shop/{}", self.random.random_range(0..3));
        let mirror = Mirror {
            remote,
            ..wanted(link)
        };
        self.desired.entry(link).or_default().insert(name, mirror);
    }

    fn edit(&mut self, name: &ServiceName) {
        self.version += 1;
        if let Some(Actual::Ours(owned)) = self.actual.get_mut(name) {
            owned.mirror = None;
            owned.resource_version = self.version.to_string();
        }
    }

    /// One pass of a link's controller; each write may be lost.
    fn reconcile(&mut self, link: &str, lost: f64) {
        let plan = plan(link, &self.desired[link], &self.actual);
        for action in plan.actions {
            if !self.random.random_bool(lost) {
                self.execute(action);
            }
        }
    }

    fn execute(&mut self, action: Action) {
        self.version += 1;
        match action {
            Action::Create { name, mirror } => {
                let new = Owned {
                    resource_version: self.version.to_string(),
                    ..owned(&mirror)
                };
                assert!(self.actual.insert(name, Actual::Ours(new)).is_none());
            }
            Action::Update {
                name,
                mirror,
                resource_version,
            } => {
                let Some(Actual::Ours(found)) = self.actual.get_mut(&name) else {
                    panic!("a write to {name}, which is not ours");
                };
                assert_eq!(found.resource_version, resource_version);
                assert_eq!(found.link_uid, mirror.link_uid);
                found.mirror = Some(mirror);
            }
            Action::Delete { name, .. } => {
                assert!(matches!(self.actual.remove(&name), Some(Actual::Ours(_))));
            }
        }
    }

    /// Names change hands, so that it takes both links two passes.
    fn settle(&mut self) {
        for link in [LINKS, LINKS].concat() {
            self.reconcile(link, 0.0);
        }
    }

    fn check(&self, seed: u64) {
        for (name, actual) in &self.actual {
            match actual {
                Actual::Foreign => assert!(self.strangers.contains(name), "seed {seed}"),
                Actual::Ours(owned) => {
                    let wanted = self.desired[owned.link_uid.as_str()].get(name);
                    assert_eq!(owned.mirror.as_ref(), wanted, "seed {seed}");
                }
            }
        }
        let wanted = self.desired.values().flat_map(BTreeMap::keys);
        for name in wanted.chain(&self.strangers) {
            assert!(self.actual.contains_key(name), "seed {seed}: {name}");
        }
    }
}
