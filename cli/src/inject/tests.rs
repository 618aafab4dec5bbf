use serde_json::{Value, json};

use super::*;

fn images() -> Images {
    Images {
        registry: "mesh.dev".into(),
        tag: "dev".into(),
    }
}

fn inject(stream: &str) -> Injected {
    manifest(stream, &images()).unwrap()
}

/// The refusals of `stream`, one a line.
fn refused(stream: &str) -> String {
    let refusals = manifest(stream, &images()).unwrap_err();
    let lines: Vec<String> = refusals.iter().map(Refusal::to_string).collect();
    lines.join("\n")
}

fn pod(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\nspec: {spec}\n")
}

fn names(value: &Value, pointer: &str) -> Vec<String> {
    let items = value.pointer(pointer).and_then(Value::as_array);
    items
        .into_iter()
        .flatten()
        .map(|item| item["name"].as_str().unwrap_or("?").into())
        .collect()
}

fn value(text: &str) -> Value {
    read::document(text).unwrap().unwrap()
}

const DEPLOYMENT: &str = "\
# The shop.
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      initContainers:
        - {name: migrate, image: x}
      containers:
        - {name: web, image: x, ports: [{containerPort: 8080}]}
      volumes:
        - {name: files, configMap: {name: files, defaultMode: 0644}}
";

#[test]
fn a_deployment_gets_its_sidecar_before_everything_else() {
    let injected = inject(DEPLOYMENT);
    let after = value(&injected.text);
    assert_eq!(
        names(&after, "/spec/template/spec/initContainers"),
        ["mesh-redirect", "mesh-proxy", "migrate"]
    );
    assert_eq!(
        names(&after, "/spec/template/spec/volumes"),
        ["files", "mesh-roots", "mesh-identity"]
    );
    assert_eq!(
        after["spec"]["template"]["metadata"]["labels"],
        json!({"app": "web", "mesh.dev/meshed": "true"})
    );
    assert_eq!(injected.notes[0].to_string(), "deployment/web injected");
}

#[test]
fn what_the_manifest_said_is_said_still() {
    let after = value(&inject(DEPLOYMENT).text);
    let volume = &after["spec"]["template"]["spec"]["volumes"][0];
    assert_eq!(volume["configMap"]["defaultMode"], json!(0o644));
    assert_eq!(
        after["spec"]["selector"],
        json!({"matchLabels": {"app": "web"}})
    );
}

#[test]
fn the_sidecar_is_a_native_one_without_privileges() {
    let after = value(&inject(&pod("{containers: [{name: a}]}")).text);
    let proxy = &after["spec"]["initContainers"][1];
    assert_eq!(proxy["restartPolicy"], "Always");
    assert_eq!(proxy["image"], "mesh.dev/mesh-proxy:dev");
    assert_eq!(
        proxy["startupProbe"]["httpGet"],
        json!({"path": "/ready", "port": 4191})
    );
    let context = &proxy["securityContext"];
    assert_eq!(context["runAsUser"], 2102);
    assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(context["readOnlyRootFilesystem"], true);
}

#[test]
fn every_kind_that_makes_pods_is_injected() {
    for (api_version, kind, path) in [
        ("v1", "Pod", ""),
        ("v1", "ReplicationController", "/spec/template"),
        ("apps/v1", "Deployment", "/spec/template"),
        ("apps/v1", "StatefulSet", "/spec/template"),
        ("apps/v1", "DaemonSet", "/spec/template"),
        ("apps/v1", "ReplicaSet", "/spec/template"),
        ("batch/v1", "Job", "/spec/template"),
        ("batch/v1", "CronJob", "/spec/jobTemplate/spec/template"),
    ] {
        let pod = json!({"spec": {"containers": [{"name": "a"}]}});
        let mut object = path
            .split('/')
            .skip(1)
            .collect::<Vec<_>>()
            .iter()
            .rfold(pod, |inner, field| json!({*field: inner}));
        object["apiVersion"] = api_version.into();
        object["kind"] = kind.into();
        let after = value(&inject(&print::document(&object)).text);
        assert_eq!(
            names(&after, &format!("{path}/spec/initContainers")),
            ["mesh-redirect", "mesh-proxy"],
            "{kind}"
        );
    }
}

#[test]
fn what_makes_no_pods_keeps_every_byte() {
    let stream = "# head\n---\napiVersion: v1\nkind: Service # yes\nmetadata:   {name: a}\n---\n\
                  kind: Deployment\napiVersion: example.com/v1\nspec: 1\n--- \n# tail";
    assert_eq!(inject(stream).text, stream);
    assert!(inject(stream).notes.is_empty());
}

#[test]
fn documents_around_an_injected_one_keep_their_place() {
    let stream = format!(
        "kind: A\n---\n{}--- # last\nkind: B\n",
        pod("{containers: [{name: a}]}")
    );
    let text = inject(&stream).text;
    assert!(
        text.starts_with("kind: A\n---\napiVersion: v1\nkind: Pod\n"),
        "{text}"
    );
    assert!(text.ends_with("\n--- # last\nkind: B\n"), "{text}");
}

#[test]
fn the_items_of_a_list_are_injected() {
    let list = format!(
        "apiVersion: v1\nkind: List\nitems:\n- {}",
        print::document(&value(&pod("{containers: [{name: a}]}"))).replace('\n', "\n  ")
    );
    let injected = inject(&list);
    assert_eq!(
        names(&value(&injected.text), "/items/0/spec/initContainers"),
        ["mesh-redirect", "mesh-proxy"]
    );
    assert_eq!(inject(&injected.text).text, injected.text);
}

#[test]
fn c2_a_second_pass_changes_not_one_byte() {
    let stream = format!("{DEPLOYMENT}---\n{}", pod("{containers: [{name: a}]}"));
    let once = inject(&stream);
    let twice = inject(&once.text);
    assert_eq!(twice.text, once.text);
    assert!(
        twice
            .notes
            .iter()
            .all(|note| note.outcome == Outcome::Unchanged)
    );
}

#[test]
fn another_version_replaces_the_sidecar() {
    let newer = Images {
        tag: "2".into(),
        ..images()
    };
    let upgraded = manifest(&inject(DEPLOYMENT).text, &newer).unwrap();
    assert_eq!(upgraded.text, manifest(DEPLOYMENT, &newer).unwrap().text);
}

#[test]
fn pods_that_can_have_no_sidecar_are_left_alone_and_named() {
    for (spec, metadata, why) in [
        (
            "{hostNetwork: true, containers: [{name: a}]}",
            "{name: p}",
            "it uses its node's network",
        ),
        (
            "{os: {name: windows}, containers: []}",
            "{name: p}",
            "it runs on Windows",
        ),
        (
            "{containers: [{name: a}]}",
            "{name: p, annotations: {mesh.dev/inject: disabled}}",
            "mesh.dev/inject is disabled",
        ),
        (
            "{containers: [{name: a}]}",
            "{name: p, namespace: kube-system}",
            "its namespace is never meshed",
        ),
    ] {
        let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {metadata}\nspec: {spec}\n");
        let injected = inject(&text);
        assert_eq!(injected.text, text);
        assert_eq!(
            injected.notes[0].to_string(),
            format!("pod/p left alone: {why}")
        );
    }
}

#[test]
fn annotations_tell_which_ports_are_skipped() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n    \
                mesh.dev/skip-inbound-ports: \"8080, 9000-9100\"\n    \
                mesh.dev/skip-outbound-ports: '3306'\nspec: {containers: [{name: a}]}\n";
    assert_eq!(
        value(&inject(text).text)["spec"]["initContainers"][0]["env"],
        json!([
            {"name": "MESH_SKIP_INBOUND_PORTS", "value": "8080,9000-9100"},
            {"name": "MESH_SKIP_OUTBOUND_PORTS", "value": "3306"},
        ])
    );
}

#[test]
fn c2_hostile_pods_are_refused_with_a_reason() {
    for (spec, reason) in [
        ("[]", "line 1: pod/p: spec is no mapping"),
        (
            "{}",
            "line 1: pod/p: spec.containers is no list of one or more",
        ),
        (
            "{containers: 1}",
            "line 1: pod/p: spec.containers is no list",
        ),
        (
            "{containers: [1]}",
            "line 1: pod/p: spec.containers[] is no mapping",
        ),
        (
            "{containers: [{}], hostNetwork: maybe}",
            "line 1: pod/p: spec.hostNetwork is no boolean",
        ),
        (
            "{containers: [{name: a, ports: [{containerPort: 4143}]}]}",
            "line 1: pod/p: container a uses port 4143, which is the sidecar's",
        ),
        (
            "{containers: [{name: a, securityContext: {runAsUser: 2102}}]}",
            "line 1: pod/p: container a runs as user 2102, which is the sidecar's",
        ),
    ] {
        assert_eq!(refused(&pod(spec)), reason);
    }
    for name in [
        "containers: [{name: mesh-proxy}]",
        "containers: [{}], volumes: [{name: mesh-roots}]",
    ] {
        assert!(refused(&pod(&format!("{{{name}}}"))).contains("is called mesh-"));
    }
}

#[test]
fn c2_hostile_annotations_are_refused_with_a_reason() {
    for (name, value) in [
        ("mesh.dev/inject", "maybe"),
        ("mesh.dev/inject", "true"),
        ("mesh.dev/skip-inbound-ports", "'80; rm'"),
        ("mesh.dev/skip-outbound-ports", "80"),
        ("mesh.dev/skip-outbound-ports", "'0'"),
        ("mesh.dev/limits", "5"),
        ("mesh.dev/limits", "header-bytes"),
        ("mesh.dev/limits", "header-bytes=0"),
        ("mesh.dev/limits", "'header-bytes=64Ki,header-bytes=64Ki'"),
        ("mesh.dev/limits", "tunnels=5"),
        ("mesh.dev/limits", "MESH_WORKERS=5"),
        ("mesh.dev/limits", "'streams=5\", \"name\": \"MESH_LOG'"),
    ] {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, annotations: {{{name}: {value}}}}}\n\
             spec: {{containers: [{{name: a}}]}}\n"
        );
        assert!(refused(&text).starts_with(&format!("line 1: pod/p: annotation {name}: ")));
    }
}

#[test]
fn c2_a_pod_s_limits_are_its_sidecar_s() {
    let limited = |limits: &str| {
        pod("{containers: [{name: a}]}").replace(
            "name: p\n",
            &format!("name: p\n  annotations: {{mesh.dev/limits: \"{limits}\"}}\n"),
        )
    };
    let env = |stream: &str| {
        let after = value(&inject(stream).text);
        after["spec"]["initContainers"][1]["env"].clone()
    };
    let before = env(&pod("{containers: [{name: a}]}"));
    let mut expected = before.as_array().unwrap().clone();
    expected.extend([
        json!({"name": "MESH_LIMIT_HEADER_BYTES", "value": "128Ki"}),
        json!({"name": "MESH_LIMIT_IDLE_TIME", "value": "10m"}),
    ]);
    let said = limited(" idle-time = 600s, header-bytes=131072 ");
    assert_eq!(env(&said), json!(expected));
    let once = inject(&said).text;
    assert_eq!(inject(&once).text, once);
    // What is so anyway need not be said.
    assert_eq!(env(&limited("streams=2000")), before);
    assert_eq!(env(&limited("")), before);
    let reason = refused(&limited("idle-time=10"));
    assert!(
        reason.contains("no time, such as 500ms, 10s, 5m or 1h"),
        "{reason}"
    );
}

#[test]
fn all_refusals_are_reported_at_once() {
    let stream = format!("{}---\n{}---\na: [\n", pod("{}"), pod("[]"));
    assert_eq!(refused(&stream).lines().count(), 3);
}

#[test]
fn c2_a_thousand_containers_are_one_more_pod() {
    let containers: Vec<Value> = (0..1000)
        .map(|i| json!({"name": format!("c{i}")}))
        .collect();
    let object = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": containers}});
    let once = inject(&print::document(&object)).text;
    assert_eq!(inject(&once).text, once);
}

/// Pods made from a seed, with fields that are there, absent or null.
fn made_pod(seed: u32) -> Value {
    let bit = |i: u32| seed >> i & 1 == 1;
    let mut spec = json!({"containers": [{"name": "a"}]});
    if bit(0) {
        spec["initContainers"] = if bit(1) {
            json!(null)
        } else {
            json!([{"name": "i"}])
        };
    }
    if bit(2) {
        spec["volumes"] = if bit(3) {
            json!(null)
        } else {
            json!([{"name": "v"}])
        };
    }
    if bit(4) {
        spec["hostNetwork"] = json!(false);
    }
    let mut object = json!({"apiVersion": "v1", "kind": "Pod", "spec": spec});
    if bit(5) {
        object["metadata"] = if bit(6) {
            json!(null)
        } else {
            json!({"name": "p"})
        };
        if bit(7) {
            object["metadata"] = json!({"labels": null, "annotations": null});
        }
    }
    object
}

#[test]
fn c2_injection_is_idempotent_for_pods_of_every_shape() {
    for seed in 0..256 {
        let once = inject(&print::document(&made_pod(seed))).text;
        assert_eq!(inject(&once).text, once, "seed {seed}");
        assert_eq!(
            names(&value(&once), "/spec/initContainers")[1],
            "mesh-proxy",
            "seed {seed}"
        );
    }
}

#[test]
fn c3_the_sidecar_learns_the_default_policy_of_its_pod() {
    let with = |policy: &str| {
        let annotations = format!("{{mesh.dev/default-inbound-policy: {policy}}}");
        pod("{containers: [{name: a}]}").replace(
            "name: p\n",
            &format!("name: p\n  annotations: {annotations}\n"),
        )
    };
    let after = value(&inject(&with("deny")).text);
    let env = after["spec"]["initContainers"][1]["env"]
        .as_array()
        .unwrap();
    let expected = json!({"name": "MESH_DEFAULT_INBOUND_POLICY", "value": "deny"});
    assert!(env.contains(&expected), "{env:?}");
    assert!(refused(&with("closed")).contains("mesh.dev/default-inbound-policy"));
}
