//! The server of one candidate, with the system's allocator: see [`bench::server`].

fn main() -> bench::server::Result<()> {
    bench::server::run()
}
