//! The server of one candidate, with mimalloc: see [`bench::server`].

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> bench::server::Result<()> {
    bench::server::run()
}
