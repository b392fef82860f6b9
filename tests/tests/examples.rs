//! Tests of the example that the README begins with, `hardwork`, in memory and as two instances that share a
//! Redis; and of the example `flood`.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;

use tests::{Client, RedisServer};

/// A running `hardwork`. It is killed when this value is dropped.
struct Hardwork {
    child: Child,
    client: Client,
}

impl Hardwork {
    /// Starts it, and waits until it listens.
    fn start(redis_url: &str) -> Self {
        // On Unix, `cargo run` is replaced by the program that it runs, so it is `hardwork` that is killed.
        let mut child = Command::new(env!("CARGO"))
            .args(["run", "--quiet", "--package", "examples", "--bin", "hardwork"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .env("PORT", "0")
            .env("REDIS_URL", redis_url)
            .stdout(Stdio::piped())
            .spawn()
            .expect("cargo runs");
        let mut lines =
            BufReader::new(child.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
        let address = lines
            .find_map(|line| Some(line.split_once("http://")?.1.split_whitespace().next()?.to_owned()))
            .expect("it says where it listens");
        // The rest of its output must be read, or it would fail to write it.
        thread::spawn(move || lines.for_each(drop));
        Self { child, client: Client::at(address.parse().expect("an address")) }
    }

    /// Asks the program to end, as Kubernetes does, and returns whether it has ended successfully.
    fn terminate(mut self) -> bool {
        let process = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", "TERM", &process]).status().expect("kill runs");
        sent.success() && self.child.wait().expect("it ends").success()
    }
}

impl Drop for Hardwork {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn in_memory_five_pass_and_two_do_not() {
    let hardwork = Hardwork::start("");
    assert_eq!(hardwork.client.statuses("/hardwork/", 7).await, [200, 200, 200, 200, 200, 503, 503]);
    let denied = hardwork.client.get("/hardwork/").await;
    assert_eq!(denied.body, r#"{"detail":"Rate limit exceeded."}"#);
    assert_eq!(denied.field("ratelimit-policy"), r#""hardwork";q=5;w=60"#);
    let mut resources = vec![200; 10];
    resources.push(503);
    assert_eq!(hardwork.client.statuses("/resources/", 11).await, resources);
    assert!(hardwork.terminate());
}

#[tokio::test]
async fn on_redis_two_instances_share_the_five() {
    let server = RedisServer::start().await;
    let instances = [Hardwork::start(&server.url()), Hardwork::start(&server.url())];
    let mut admitted = 0;
    for request in 0..8 {
        let answer = instances[request % 2].client.get("/hardwork/").await;
        admitted += usize::from(answer.status.is_success());
    }
    assert_eq!(admitted, 5);
    for instance in instances {
        assert!(instance.terminate());
    }
}

/// The example itself asserts what it shows.
#[test]
fn a_flood_of_keys_leaves_the_victims_counter_alone() {
    let flood = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--package", "examples", "--bin", "flood", "--", "40000", "4000"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&flood.stdout);
    assert!(flood.status.success(), "{said}{}", String::from_utf8_lossy(&flood.stderr));
    assert_eq!(said.matches("The victim is still denied").count(), 2, "{said}");
}
