//! Answers that vary by what callers send: RFC 9111 section 4.1.

use contacts_gateway::vendor::Behaviour;
use http::{Method, StatusCode};

use super::{FRESH, NEGATIVE, USABLE, failing, secs, telling, with};
use crate::support::{Answer, World, answering, eventually, path};

const FORWARD: &str = "[upstream]\nforward_headers = [\"X-Tenant\", \"Accept-Language\"]";

async fn of(world: &World, tenant: &str) -> Answer {
    world.get_with("cl-n6-a", &[("x-tenant", tenant)]).await
}

/// A vendor whose page is for one tenant.
fn page_of(tenant: &str) -> Behaviour {
    with(telling(tenant), "vary", "X-Tenant")
}

/// Fetches the pages of these tenants.
async fn filled(tenants: &[&str]) -> World {
    let world = World::with(FORWARD).await;
    for (tenant, fwd) in tenants.iter().zip(misses()) {
        world.vendor.behave(page_of(tenant));
        let answer = of(&world, tenant).await;
        let status = format!("fwd={fwd}; fwd-status=200; stored");
        assert_eq!(answer.cache_status(), status);
    }
    world
}

/// RFC 9211 section 2.2: what there is of the URI after the first is of others.
fn misses() -> impl Iterator<Item = &'static str> {
    ["uri-miss"]
        .into_iter()
        .chain(std::iter::repeat("vary-miss"))
}

/// Whose page a tenant gets without a call.
async fn whose(world: &World, tenant: &str) -> String {
    let only = [("x-tenant", tenant), ("cache-control", "only-if-cached")];
    let answer = world.get_with("cl-n6-a", &only).await;
    if answer.status == StatusCode::GATEWAY_TIMEOUT {
        return "nobody's".into();
    }
    answer.json()["message"].as_str().unwrap().to_owned()
}

async fn purge(world: &World) -> u64 {
    let method: Method = "PURGE".parse().unwrap();
    let answer = world.gateway.send(method, &path("cl-n6-a"), &[]).await;
    answer.json()["forgotten"].as_u64().unwrap()
}

#[tokio::test]
async fn variants_are_kept_side_by_side() {
    let tenants = ["blue", "green", "red"];
    let world = filled(&tenants).await;
    for tenant in tenants {
        let hit = of(&world, tenant).await;
        assert_eq!(hit.cache_status(), "hit; ttl=60");
        assert_eq!(
            (hit.json()["message"].as_str(), hit.field("vary")),
            (Some(tenant), "X-Tenant")
        );
    }
    assert_eq!(world.vendor.calls(), 3);
    assert_eq!(whose(&world, "white").await, "nobody's");
    let without = world.get("cl-n6-a").await;
    assert_eq!(
        without.cache_status(),
        "fwd=vary-miss; fwd-status=200; stored"
    );
}

#[tokio::test]
async fn a_page_that_does_not_vary_is_for_all() {
    let world = World::with(FORWARD).await;
    world.vendor.behave(telling("all"));
    of(&world, "blue").await;
    for tenant in ["green", ""] {
        assert_eq!(whose(&world, tenant).await, "all");
    }
    assert_eq!(world.vendor.calls(), 1);
}

#[tokio::test]
async fn names_that_are_not_forwarded_make_no_difference() {
    for vary in [
        "Cookie",
        "User-Agent, Accept-Encoding",
        "Authorization, X-Other",
    ] {
        let world = World::with(FORWARD).await;
        world.vendor.behave(with(telling("all"), "vary", vary));
        for n in ["1", "2"] {
            let said = [
                ("cookie", n),
                ("user-agent", n),
                ("x-other", n),
                ("authorization", n),
                ("x-tenant", n),
            ];
            let answer = world.get_with("cl-n6-a", &said).await;
            assert_eq!(answer.field("vary"), vary);
        }
        assert_eq!(world.vendor.calls(), 1, "{vary}");
    }
}

#[tokio::test]
async fn spellings_of_one_wish_share_a_page() {
    let world = World::with(FORWARD).await;
    world
        .vendor
        .behave(with(telling("x"), "vary", "accept-language"));
    for languages in ["de, en;q=0.5", "en;q=0.5,DE", "de ,en; q=0.5"] {
        let said = [("accept-language", languages)];
        assert_eq!(world.get_with("cl-n6-a", &said).await.status, 200);
    }
    assert_eq!(world.vendor.calls(), 1);
}

#[tokio::test]
async fn a_star_is_for_nobody_else_and_ends_what_was_kept() {
    let world = filled(&["blue"]).await;
    world.vendor.behave(with(telling("star"), "vary", "*"));
    for (n, fwd) in [(2, "vary-miss"), (3, "uri-miss")] {
        let answer = of(&world, "green").await;
        assert_eq!(answer.cache_status(), format!("fwd={fwd}; fwd-status=200"));
        assert_eq!(world.vendor.calls(), n);
    }
    world.hand.forward(secs(USABLE));
    let answer = of(&world, "blue").await;
    assert_eq!(answer.json()["message"], "star");
    world.vendor.behave(failing());
    of(&world, "blue").await.is_problem(502, "upstream-failed");
}

#[tokio::test]
async fn of_many_variants_the_latest_are_kept() {
    const TENANTS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let world = filled(&TENANTS).await;
    for (n, tenant) in TENANTS.into_iter().enumerate() {
        let want = if n < 2 { "nobody's" } else { tenant };
        assert_eq!(whose(&world, tenant).await, want);
    }
    assert_eq!(purge(&world).await, 8);
}

#[tokio::test]
async fn a_purge_forgets_all_variants_and_counts_each() {
    let world = filled(&["blue", "green", "red"]).await;
    assert_eq!(purge(&world).await, 3);
    for tenant in ["blue", "green", "red"] {
        assert_eq!(whose(&world, tenant).await, "nobody's");
    }
    assert_eq!(purge(&world).await, 0);
}

#[tokio::test]
async fn a_variant_is_refreshed_alone() {
    let world = filled(&["blue", "green"]).await;
    world.hand.forward(secs(FRESH));
    world
        .vendor
        .behave(with(telling("new blue"), "vary", "X-Tenant"));
    assert_eq!(of(&world, "blue").await.cache_status(), "hit; ttl=-1");
    world.is_at_rest(true).await;
    assert_eq!(world.vendor.requests()[2].headers["x-tenant"], "blue");
    assert_eq!(whose(&world, "blue").await, "new blue");
    assert_eq!(whose(&world, "green").await, "green");
    assert_eq!(purge(&world).await, 2);
}

#[tokio::test]
async fn a_variant_is_asked_about_by_its_own_tag() {
    let world = World::with(FORWARD).await;
    for (tenant, tag) in [("blue", "\"b\""), ("green", "\"g\"")] {
        world.vendor.behave(with(page_of(tenant), "etag", tag));
        of(&world, tenant).await;
    }
    world.hand.forward(secs(USABLE));
    for (tenant, tag) in [("blue", "\"b\""), ("green", "\"g\"")] {
        let unchanged = Behaviour {
            status: Some(StatusCode::NOT_MODIFIED),
            ..Behaviour::default()
        };
        world.vendor.behave(with(unchanged, "etag", tag));
        let answer = of(&world, tenant).await;
        assert_eq!(answer.cache_status(), "fwd=stale; fwd-status=304; stored");
        assert_eq!(answer.json()["message"], tenant);
        let asked = world.vendor.requests().pop().unwrap();
        assert_eq!(asked.headers["if-none-match"], tag);
    }
}

#[tokio::test]
async fn a_no_to_one_hides_the_page_of_another_for_no_longer_than_it_holds() {
    let world = filled(&["blue"]).await;
    world.vendor.behave(answering(StatusCode::BAD_REQUEST));
    assert_eq!(of(&world, "green").await.status, 400);
    assert_eq!(of(&world, "blue").await.status, 400, "it was said to all");
    world.hand.forward(secs(NEGATIVE));
    world.vendor.behave(failing());
    assert_eq!(of(&world, "blue").await.cache_status(), "hit; ttl=50");
    of(&world, "green").await.is_problem(502, "upstream-failed");
    assert_eq!(whose(&world, "blue").await, "blue");
    assert_eq!(world.vendor.calls(), 3);
}

#[tokio::test]
async fn who_waited_in_vain_gets_the_page_that_came_meanwhile() {
    let world = World::with(FORWARD).await;
    world.vendor.behave(Behaviour {
        // Longer than a busy machine takes for a request.
        delay: secs(2),
        ..failing()
    });
    let another = async {
        let begun = async || (world.vendor.calls() == 1).then_some(());
        eventually("the call begins", begun).await;
        world.vendor.behave(telling("all"));
        of(&world, "green").await
    };
    let (waited, _) = tokio::join!(of(&world, "blue"), another);
    // It is fresh, and another's fetch brought it.
    let status = "fwd=uri-miss; fwd-status=200; stored; collapsed";
    assert_eq!(waited.cache_status(), status);
    assert_eq!(waited.json()["message"], "all");
    let collapsed = "contacts_gateway_cache_requests_total{result=\"collapsed\"}";
    assert_eq!(world.gateway.metric(collapsed).await, 1.0);
    assert_eq!(world.vendor.calls(), 2);
}
