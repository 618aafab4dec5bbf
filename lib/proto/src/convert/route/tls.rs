use mesh_core::route::tls::{MOST_HOSTNAMES, TlsRoute, TlsRoutes};

use super::{MOST_ROUTES, at_most, backends_to_proto, shares_from_proto};
use crate::{
    convert::{InvalidMessage, destination::distribution_to_proto, parse},
    v1,
};

/// Routes that lead to the first `backends` route backends.
pub(in crate::convert) fn tls_routes_from_proto(
    messages: Vec<v1::TlsRoute>,
    backends: usize,
) -> Result<TlsRoutes, InvalidMessage> {
    const FIELD: &str = "tls_routes";
    let messages = at_most(FIELD, messages, MOST_ROUTES)?;
    let hostnames = messages.iter().map(|message| message.hostnames.len());
    if hostnames.sum::<usize>() > MOST_HOSTNAMES {
        let reason = format!("more than {MOST_HOSTNAMES} host names");
        return Err(InvalidMessage::new(FIELD, reason));
    }
    let routes = messages.into_iter().map(|message| {
        let distribution = message.distribution();
        let hostnames = message.hostnames.iter();
        Ok(TlsRoute {
            namespace: message.namespace.into(),
            name: message.name.into(),
            hostnames: hostnames
                .map(|hostname| parse("tls_routes.hostnames", hostname))
                .collect::<Result<_, _>>()?,
            shares: shares_from_proto(distribution, message.backends, backends)?,
        })
    });
    Ok(TlsRoutes::new(
        routes.collect::<Result<_, InvalidMessage>>()?,
    ))
}

pub(in crate::convert) fn tls_routes_to_proto(routes: &TlsRoutes) -> Vec<v1::TlsRoute> {
    let route = |route: &TlsRoute| v1::TlsRoute {
        namespace: route.namespace.to_string(),
        name: route.name.to_string(),
        hostnames: route.hostnames.iter().map(ToString::to_string).collect(),
        distribution: distribution_to_proto(route.shares.distribution).into(),
        backends: backends_to_proto(&route.shares),
    };
    routes.routes().iter().map(route).collect()
}

#[cfg(test)]
mod tests {
    use mesh_core::{
        destination::Distribution,
        route::{RuleBackend, Shares},
    };

    use super::*;

    fn routes() -> TlsRoutes {
        let route = |name: &str, distribution| TlsRoute {
            namespace: "shop".into(),
            name: name.into(),
            hostnames: ["a.example", "*.b.example"]
                .map(|name| name.parse().unwrap())
                .to_vec(),
            shares: Shares {
                distribution,
                backends: [Some(1), None]
                    .map(|backend| RuleBackend { backend, weight: 7 })
                    .to_vec(),
            },
        };
        TlsRoutes::new(vec![
            route("one", Distribution::RandomAvailable),
            route("two", Distribution::FirstAvailable),
        ])
    }

    #[test]
    fn routes_survive_their_messages() {
        let messages = tls_routes_to_proto(&routes());
        assert_eq!(tls_routes_from_proto(messages, 2), Ok(routes()));
    }

    #[test]
    fn impossible_routes_are_refused() {
        assert!(tls_routes_from_proto(tls_routes_to_proto(&routes()), 1).is_err());
        let refused = |change: fn(&mut Vec<v1::TlsRoute>)| {
            let mut messages = tls_routes_to_proto(&routes());
            change(&mut messages);
            tls_routes_from_proto(messages, 2).is_err()
        };
        let many = |count| vec!["a.example".to_owned(); count];
        assert!(!refused(|_| {}));
        assert!(refused(|all| all[0].hostnames[0] = "A.example".to_owned()));
        assert!(refused(|all| *all = vec![all[0].clone(); 129]));
        let mut messages = tls_routes_to_proto(&routes());
        messages[0].hostnames = many(MOST_HOSTNAMES - 2);
        assert!(tls_routes_from_proto(messages.clone(), 2).is_ok());
        messages[0].hostnames = many(MOST_HOSTNAMES - 1);
        assert!(tls_routes_from_proto(messages, 2).is_err());
    }
}
