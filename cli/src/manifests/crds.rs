//! The custom resources.

use kube::CustomResourceExt;
use mesh_api::{
    link::Link,
    policy::{AuthorizationPolicy, MeshTLSAuthentication, NetworkAuthentication, Server},
    split::TrafficSplit,
};
use serde_json::Value;

/// All custom resource definitions that the mesh brings.
///
/// # Errors
/// If one cannot be written as JSON, which no input can cause.
pub(crate) fn definitions() -> serde_json::Result<Vec<Value>> {
    let definitions = [
        Link::crd(),
        TrafficSplit::crd(),
        Server::crd(),
        AuthorizationPolicy::crd(),
        MeshTLSAuthentication::crd(),
        NetworkAuthentication::crd(),
    ];
    definitions
        .iter()
        .map(|definition| {
            let mut definition = serde_json::to_value(definition)?;
            remove_foreign_formats(&mut definition);
            Ok(definition)
        })
        .collect()
}

/// Takes away `format: uint16` and its like: Kubernetes does not know them and
/// warns. The limits that they imply are stated beside them.
fn remove_foreign_formats(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let is_foreign = |format: &Value| {
                format
                    .as_str()
                    .is_some_and(|format| format.starts_with("uint"))
            };
            if fields.get("format").is_some_and(is_foreign) {
                fields.remove("format");
            }
            fields.values_mut().for_each(remove_foreign_formats);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_foreign_formats),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_format_is_used_that_kubernetes_would_warn_of() {
        let link = definitions().unwrap().remove(0);
        assert!(!link.to_string().contains("\"uint"));
        let port = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/gateway\
                    /properties/port";
        assert_eq!(
            link.pointer(port).unwrap()["maximum"].as_f64(),
            Some(65535.0)
        );
    }
}
