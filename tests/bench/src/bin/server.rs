//! One candidate, with the allocator of the system: see [`bench::server`].

fn main() -> bench::server::Result<()> {
    bench::server::run()
}
