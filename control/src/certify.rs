//! Identity.Certify: a certificate for what a token says.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::{Api, Client, api::PostParams};
use linkerd2_proxy_api::identity::{CertifyRequest, CertifyResponse, identity_server::Identity};
use mesh_api::names::TOKEN_AUDIENCE;
use mesh_core::identity::{SpiffeId, TrustDomain};
use mesh_tls::Clock;
use tokio::time::timeout;
use tonic::{Request, Response, Status};
use tracing::{info, warn};

use crate::{
    authority::{Authority, IssueError},
    metrics::Metrics,
};

/// How long the API server may take to review a token.
const REVIEW: Duration = Duration::from_secs(5);
/// Tokens are smaller.
const LARGEST_TOKEN: usize = 16 * 1024;

/// The service.
pub(crate) struct Certify {
    pub(crate) client: Client,
    pub(crate) authority: Authority,
    pub(crate) clock: Clock,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) metrics: Metrics,
}

#[tonic::async_trait]
impl Identity for Certify {
    async fn certify(
        &self,
        request: Request<CertifyRequest>,
    ) -> Result<Response<CertifyResponse>, Status> {
        let result = self.answer(request.into_inner()).await;
        match &result {
            Ok(_) => self.metrics.certified("issued"),
            Err(status) => {
                warn!(reason = status.message(), "no certificate issued");
                self.metrics.certified(label(status.code()));
            }
        }
        result.map(Response::new)
    }
}

impl Certify {
    async fn answer(&self, request: CertifyRequest) -> Result<CertifyResponse, Status> {
        let id = self.identity(request.token).await?;
        if request.identity != id.as_uri() {
            return Err(Status::permission_denied(
                "the token is for another identity than the one asked for",
            ));
        }
        let now = self.clock.now();
        let issued = self
            .authority
            .issue(&id, &request.certificate_signing_request, now)
            .map_err(|error| match error {
                IssueError::Request(_) => Status::invalid_argument(error.to_string()),
                IssueError::Signing(_) => Status::internal("signing failed"),
            })?;
        info!(identity = %id, "certificate issued");
        Ok(CertifyResponse {
            leaf_certificate: issued.leaf,
            intermediate_certificates: issued.intermediates,
            valid_until: Some(issued.valid_until.into()),
        })
    }

    /// Whom the API server says the token is for. Without its answer nobody
    /// gets anything.
    async fn identity(&self, token: Vec<u8>) -> Result<SpiffeId, Status> {
        let token = String::from_utf8(token)
            .ok()
            .filter(|token| !token.is_empty() && token.len() <= LARGEST_TOKEN)
            .ok_or_else(|| Status::invalid_argument("no token, or not one"))?;
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(vec![TOKEN_AUDIENCE.to_owned()]),
                token,
            },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let parameters = PostParams::default();
        let reviewed = match timeout(REVIEW, api.create(&parameters, &review)).await {
            Ok(Ok(review)) => review.status.unwrap_or_default(),
            Ok(Err(error)) => {
                warn!(%error, "TokenReview");
                return Err(Status::unavailable(
                    "the API server cannot review tokens now",
                ));
            }
            Err(_) => return Err(Status::unavailable("the API server is too slow now")),
        };
        identity_of(&reviewed, &self.trust_domain)
    }
}

/// The ServiceAccount of a review that accepted the token for our audience.
fn identity_of(review: &TokenReviewStatus, trust_domain: &TrustDomain) -> Result<SpiffeId, Status> {
    let accepted = review.authenticated == Some(true) && review.error.is_none();
    let ours = review
        .audiences
        .as_ref()
        .is_some_and(|audiences| audiences.iter().any(|a| a == TOKEN_AUDIENCE));
    if !accepted || !ours {
        return Err(Status::unauthenticated(
            "the token is not valid for the mesh",
        ));
    }
    let user = review
        .user
        .as_ref()
        .and_then(|user| user.username.as_deref());
    let parts: Vec<&str> = user.unwrap_or_default().split(':').collect();
    let ["system", "serviceaccount", namespace, account] = parts[..] else {
        return Err(Status::permission_denied(
            "the token is not a ServiceAccount's",
        ));
    };
    SpiffeId::new(trust_domain, namespace, account)
        .map_err(|error| Status::permission_denied(error.to_string()))
}

const fn label(code: tonic::Code) -> &'static str {
    match code {
        tonic::Code::InvalidArgument => "invalid",
        tonic::Code::Unauthenticated => "unauthenticated",
        tonic::Code::PermissionDenied => "denied",
        tonic::Code::Unavailable => "unavailable",
        _ => "error",
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;

    fn review(user: &str) -> TokenReviewStatus {
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(vec![TOKEN_AUDIENCE.to_owned()]),
            error: None,
            user: Some(UserInfo {
                username: Some(user.to_owned()),
                ..UserInfo::default()
            }),
        }
    }

    #[test]
    fn i2_only_an_accepted_token_for_our_audience_is_somebody() {
        let west = "west".parse().unwrap();
        let good = review("system:serviceaccount:shop:web");
        let id = identity_of(&good, &west).unwrap();
        assert_eq!(id.as_uri(), "spiffe://west/ns/shop/sa/web");

        let refused: [fn(&mut TokenReviewStatus); 5] = [
            |r| r.authenticated = Some(false),
            |r| r.authenticated = None,
            |r| r.audiences = None,
            |r| r.audiences = Some(vec!["https://kubernetes.default.svc".to_owned()]),
            |r| r.error = Some("expired".to_owned()),
        ];
        for spoil in refused {
            let mut bad = good.clone();
            spoil(&mut bad);
            assert!(identity_of(&bad, &west).is_err(), "{bad:?}");
        }
        for user in [
            "",
            "admin",
            "system:node:n1",
            "system:serviceaccount:shop:web:x",
        ] {
            assert!(identity_of(&review(user), &west).is_err(), "{user}");
        }
    }
}
