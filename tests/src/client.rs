//! An HTTP client for a service on loopback.

use std::net::SocketAddr;

use reqwest::{Method, RequestBuilder, StatusCode};

/// The names of the IETF draft's two response fields.
pub const LIMIT_FIELDS: [&str; 2] = ["ratelimit-policy", "ratelimit"];

/// A client of one service.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    http: reqwest::Client,
}

impl Client {
    /// Returns a client of the service that listens at `address`.
    pub fn at(address: SocketAddr) -> Self {
        Self { address, http: reqwest::Client::new() }
    }

    /// Returns the URL of `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends a request, and reads the whole answer.
    ///
    /// # Panics
    ///
    /// If there is no answer.
    pub async fn send(&self, method: Method, path: &str) -> Answer {
        Answer::read(self.http.request(method, self.url(path))).await
    }

    /// Sends a GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.get_with(path, []).await
    }

    /// Sends a GET with header fields.
    ///
    /// # Panics
    ///
    /// If there is no answer.
    pub async fn get_with<const N: usize>(&self, path: &str, fields: [(&str, &str); N]) -> Answer {
        let request = fields
            .iter()
            .fold(self.http.get(self.url(path)), |request, (name, value)| request.header(*name, *value));
        Answer::read(request).await
    }

    /// Sends `count` GETs one after the other, and returns their statuses.
    pub async fn statuses(&self, path: &str, count: usize) -> Vec<u16> {
        let mut statuses = Vec::new();
        for _ in 0..count {
            statuses.push(self.get(path).await.status.as_u16());
        }
        statuses
    }

    /// Sends `count` GETs at once, and returns how many are answered with 200. All others must be 503.
    ///
    /// # Panics
    ///
    /// If there is another status, or no answer.
    pub async fn admitted_at_once(&self, path: &str, count: usize) -> usize {
        let requests: Vec<_> = (0..count)
            .map(|_| {
                let request = self.http.get(self.url(path)).send();
                tokio::spawn(async move { request.await.expect("there is an answer").status() })
            })
            .collect();
        let mut admitted = 0;
        for request in requests {
            match request.await.expect("the request does not panic") {
                StatusCode::OK => admitted += 1,
                StatusCode::SERVICE_UNAVAILABLE => {}
                other => panic!("an answer of {other}"),
            }
        }
        admitted
    }
}

/// A complete response.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: reqwest::header::HeaderMap,
    /// The body.
    pub body: String,
}

impl Answer {
    async fn read(request: RequestBuilder) -> Self {
        let response = request.send().await.expect("there is an answer");
        Self {
            status: response.status(),
            headers: response.headers().clone(),
            body: response.text().await.expect("the answer has a body"),
        }
    }

    /// Returns a field, empty if there is none. Several lines of it are joined.
    pub fn field(&self, name: &str) -> String {
        let values = self.headers.get_all(name).iter();
        values.filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(", ")
    }

    /// Returns the first number after `;name=` in the `ratelimit` field.
    pub fn parameter(&self, name: &str) -> Option<u64> {
        let field = self.field("ratelimit");
        let (_, rest) = field.split_once(&format!(";{name}="))?;
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    }
}
