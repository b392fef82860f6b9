//! What `module_in_a_file.rs` declares.

pub fn router() -> axum::Router {
    axum::Router::new()
}
