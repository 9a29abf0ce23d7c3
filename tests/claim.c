/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/claim.h: one thread releases what another thread's stash owns.  Figures
 * are exact at each step, each wrong release is reported once, and a claim that
 * can't be settled yet is settled later.
 */
#include "actors.h"
#include "claim.h"
#include "one_node.h"
#include "pool.h"
#include "rcu.h"

/* What the owner's inbox takes: 9 parcels, see test_a_share_is_brought(). */
enum { BROUGHT = 9 * STASH_BATCH, MOST = BROUGHT + STASH_CLAIMS + 16 };

static struct events events;
static struct seg_budget *budget;
static struct seg_pool *pool;
static void *held[MOST];	/* of the main thread's stash */
static struct actor other;
static bool other_lives;

static struct region *region_at(const void *segment)
{
	struct region *r;

	rcu_enter();
	r = region_table_find(&pool->allocator.table, segment, NULL);
	rcu_leave();
	require(r);
	return r;
}

static uint32_t slice_at(const void *segment)
{
	struct region *r = region_at(segment);

	return (uint32_t)(((const char *)segment - region_base(r)) /
			  (ptrdiff_t)r->slice_bytes);
}

static struct atomic_u64 *generation_at(const void *segment)
{
	return &region_at(segment)->generations[slice_at(segment)];
}

static struct stash *own_stash(void)
{
	return stash_of(&pool->allocator.stashes);
}

/* The first segment comes from a new region, the others from the stash. */
static void hold(unsigned n)
{
	assert_int_equal(seg_release(pool, seg_alloc(pool, 1)), 0);
	for (unsigned i = 0; i < n; i++) {
		held[i] = seg_alloc(pool, 1);
		assert_non_null(held[i]);
		if (owner_of(region_at(held[i]), slice_at(held[i])) !=
		    own_stash()->number) {
			assert_int_equal(seg_release(pool, held[i]), 0);
			i--;
		}
	}
}

static int begin(void **state)
{
	(void)state;
	events = (struct events)EVENTS_INIT;
	budget = new_budget(128 * MIB);
	pool = make_pool_events(budget, &events, SEG_LOG_ERROR);
	actor_begin(&other);
	other_lives = true;
	return 0;
}

static void end_other(void)
{
	actor_end(&other);
	other_lives = false;
}

static int end(void **state)
{
	(void)state;
	if (other_lives)
		end_other();
	end_both(pool, budget);
	return 0;
}

/* Exactly so many are out, and so many releases were counted. */
static void assert_figures(uint64_t active, uint64_t misuses)
{
	struct seg_pool_stats s = figures(pool, SEG_ALL);

	assert_int_equal(s.active, active);
	assert_int_equal(s.allocations_total - s.releases_total, active);
	assert_int_equal(s.active + s.cached + s.unused + s.decommitted,
			 s.slices);
	assert_int_equal(s.misuses_total, misuses);
	assert_int_equal(events.misuses, misuses);
	assert_true(seg_pool_is_valid(pool));
}

static void assert_misuse(enum seg_misuse what, const void *address)
{
	assert_int_equal(events.what, what);
	assert_ptr_equal(events.address, address);
}

/* What another thread is to release, and what it is told. */
struct releases {
	void **segment;
	unsigned count;
	const struct seg_handle *handle;	/* or NULL */
	unsigned done, stale;
	uint32_t claims;	/* that stand in its stash then */
	uint64_t unused;	/* of the pool */
};

static void release_them(void *arg)
{
	struct releases *r = arg;
	struct stash *st;

	for (unsigned i = 0; i < r->count; i++) {
		int ret = r->handle ? seg_release_handle(pool, r->handle) :
				      seg_release(pool, r->segment[i]);

		r->done += ret == 0;
		r->stale += ret == -ESTALE;
	}
	st = own_stash();
	r->claims = st ? u32_load_relaxed(&st->claim_count) : 0;
	r->unused = figures(pool, SEG_ALL).unused;
}

static struct releases by_other(void **segment, unsigned count)
{
	struct releases r = { .segment = segment, .count = count };

	actor_do(&other, release_them, &r);
	return r;
}

/* ------------------------------------------------------------ it is settled */

static void test_figures_of_open_claims(void **state)
{
	struct releases r;

	(void)state;
	hold(10);
	r = by_other(held, 4);
	assert_int_equal(r.done, 4);
	assert_int_equal(r.claims, 4);
	for (int i = 0; i < 4; i++)
		assert_true(u64_load_relaxed(generation_at(held[i])) &
			    GENERATION_CLAIMED);
	assert_figures(6, 0);
	for (int i = 4; i < 10; i++)
		assert_int_equal(seg_release(pool, held[i]), 0);
	assert_figures(0, 0);
}

/* Of a 64th of the limit at least; as long as they are few nothing is
 * settled, and what is brought isn't. */
static void test_a_share_is_brought(void **state)
{
	struct atomic_u32 *parcels;
	uint64_t unused;

	(void)state;
	hold(BROUGHT);
	assert_int_equal(BROUGHT, 128 * MIB / STASH_CLAIM_SHARE /
				  SEG_MIN_BYTES + STASH_BATCH);
	unused = figures(pool, SEG_ALL).unused;
	parcels = &own_stash()->inbox.parcels;
	for (unsigned i = 0; i < BROUGHT / STASH_BATCH; i++) {
		void **first = held + i * STASH_BATCH;
		uint32_t bits = (2u << i) - 1;
		struct releases r = by_other(first, STASH_BATCH - 1);

		assert_int_equal(r.claims, STASH_BATCH - 1);
		r = by_other(first + STASH_BATCH - 1, 1);
		assert_int_equal(r.claims, 0);
		assert_int_equal(r.unused, unused);
		assert_int_equal(u32_load_relaxed(parcels),
				 bits | bits << INBOX_PARCELS);
	}
	assert_figures(0, 0);
}

static void test_the_others_are_settled_in_batches(void **state)
{
	struct releases r;
	uint64_t unused;

	(void)state;
	hold(BROUGHT + STASH_CLAIMS);
	unused = figures(pool, SEG_ALL).unused;
	r = by_other(held, BROUGHT);
	assert_int_equal(r.claims, 0);
	assert_int_equal(r.unused, unused);
	r = by_other(held + BROUGHT, STASH_CLAIMS - 1);
	assert_int_equal(r.claims, STASH_CLAIMS - 1);
	assert_int_equal(r.unused, unused);
	r = by_other(held + BROUGHT + STASH_CLAIMS - 1, 1);
	assert_int_equal(r.claims, 0);
	assert_int_equal(r.unused, unused + STASH_CLAIMS);
	assert_figures(0, 0);
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	assert_int_equal(figures(pool, SEG_ALL).regions, 0);
}

/* Not so many where they are many bytes: a 64th of the limit. */
static void test_large_ones_are_settled_sooner(void **state)
{
	const unsigned batch = 128 * MIB / 64 / (256 * KIB);
	void *large[2 * 8];
	struct releases r;

	(void)state;
	assert_int_equal(batch, 8);
	for (unsigned i = 0; i < 2 * batch; i++)
		assert_non_null(large[i] = seg_alloc(pool, 256 * KIB));
	r = by_other(large, 2 * batch);
	assert_int_equal(r.done, 2 * batch);
	assert_in_range(r.claims, 1, batch - 1);
	assert_figures(0, 0);
}

static void trim(void *unused)
{
	(void)unused;
	require(seg_pool_trim(pool, NULL) == 0);
}

/* By another one than owner and claimer, while both go on. */
static void test_they_are_settled_by_who_gathers(void **state)
{
	struct actor third;

	(void)state;
	hold(5);
	assert_int_equal(by_other(held, 5).claims, 5);
	assert_true(figures(pool, SEG_ALL).regions > 0);
	actor_begin(&third);
	actor_do(&third, trim, NULL);
	actor_end(&third);
	assert_int_equal(figures(pool, SEG_ALL).regions, 0);
	assert_int_equal(figures(pool, SEG_ALL).cached, 0);
	assert_figures(0, 0);
	assert_int_equal(by_other(NULL, 0).claims, 0);
}

static void test_they_are_settled_by_the_claimers_end(void **state)
{
	uint64_t unused;

	(void)state;
	hold(5);
	unused = figures(pool, SEG_ALL).unused;
	assert_int_equal(by_other(held, 5).claims, 5);
	assert_int_equal(figures(pool, SEG_ALL).unused, unused);
	end_other();
	assert_int_equal(figures(pool, SEG_ALL).unused, unused + 5);
	assert_figures(0, 0);
}

static void hold_some(void *n)
{
	hold(*(unsigned *)n);
}

/* Its stash is nobody's then, or the next thread's. */
static void test_they_outlive_the_owner(void **state)
{
	unsigned n = 8;
	struct actor next;

	(void)state;
	actor_do(&other, hold_some, &n);
	for (int i = 0; i < 4; i++)
		assert_int_equal(seg_release(pool, held[i]), 0);
	assert_int_equal(u32_load_relaxed(&own_stash()->claim_count), 4);
	end_other();
	assert_figures(4, 0);
	actor_begin(&next);
	actor_do(&next, trim, NULL);
	for (int i = 4; i < 8; i++)
		assert_int_equal(seg_release(pool, held[i]), 0);
	assert_figures(0, 0);
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	assert_int_equal(figures(pool, SEG_ALL).regions, 0);
	actor_end(&next);
}

/* --------------------------------------------------- one released it twice */

static void test_the_owner_then_another(void **state)
{
	(void)state;
	hold(2);
	assert_int_equal(seg_release(pool, held[0]), 0);
	assert_int_equal(by_other(held, 1).stale, 1);
	assert_misuse(SEG_MISUSE_DOUBLE, held[0]);
	assert_figures(1, 1);
	assert_int_equal(seg_release(pool, held[1]), 0);
}

static void test_another_then_the_owner(void **state)
{
	(void)state;
	hold(2);
	assert_int_equal(by_other(held, 1).done, 1);
	for (unsigned i = 1; i <= 2; i++) {
		assert_int_equal(seg_release(pool, held[0]), -ESTALE);
		assert_misuse(SEG_MISUSE_DOUBLE, held[0]);
		assert_figures(1, i);
		/* The same once it is settled. */
		assert_int_equal(seg_pool_trim(pool, NULL), 0);
	}
	assert_int_equal(seg_release(pool, held[1]), 0);
	assert_figures(0, 2);
}

static void test_two_others(void **state)
{
	struct releases r = { .segment = held, .count = 2 };
	struct actor third;

	(void)state;
	hold(2);
	assert_int_equal(by_other(held, 2).done, 2);
	assert_int_equal(by_other(held, 1).stale, 1);
	actor_begin(&third);
	actor_do(&third, release_them, &r);
	actor_end(&third);
	assert_int_equal(r.stale, 2);
	assert_misuse(SEG_MISUSE_DOUBLE, held[1]);
	assert_figures(0, 3);
}

static void test_handles(void **state)
{
	struct seg_handle handle;
	struct releases r = { .segment = held, .count = 2, .handle = &handle };
	void *found;

	(void)state;
	hold(2);
	assert_int_equal(seg_handle_of(pool, held[0], &handle), 0);
	actor_do(&other, release_them, &r);
	assert_int_equal(r.done, 1);
	assert_int_equal(r.stale, 1);
	assert_int_equal(r.claims, 1);
	assert_misuse(SEG_MISUSE_STALE, held[0]);
	assert_int_equal(seg_resolve(pool, &handle, &found), -ESTALE);
	assert_int_equal(seg_release_handle(pool, &handle), -ESTALE);
	assert_figures(1, 2);
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	assert_int_equal(seg_release_handle(pool, &handle), -ESTALE);
	assert_misuse(SEG_MISUSE_STALE, held[0]);
	assert_int_equal(seg_release(pool, held[1]), 0);
	assert_figures(0, 3);
}

/* ------------------------------------------ the owner stops in its section */

static void set_inside(uint32_t inside)
{
	u32_store_release(&own_stash()->section.inside, inside);
}

/* What is left of a release, for who has looked at the generation. */
static void store_late(void *segment, uint64_t seen)
{
	struct stash *st = own_stash();
	struct magazine *m = &st->magazine[0];
	struct atomic_u64 *at = generation_at(segment);

	stash_push(st, m, u32_load_relaxed(&m->top), segment, at);
	u64_store_relaxed(at, seen + 1);
	u64_store_relaxed(&m->releases, u64_load_relaxed(&m->releases) + 1);
	set_inside(0);
}

/* K1: it had looked before the claim, and wins. */
static void test_at_the_same_moment_the_owner_wins(void **state)
{
	uint64_t seen;

	(void)state;
	hold(3);
	seen = u64_load_relaxed(generation_at(held[0]));
	set_inside(1);
	assert_int_equal(by_other(held, 2).claims, 2);
	assert_figures(1, 0);
	store_late(held[0], seen);
	end_other();
	assert_misuse(SEG_MISUSE_DOUBLE, held[0]);
	assert_figures(1, 1);
	assert_int_equal(seg_release(pool, held[2]), 0);
	assert_figures(0, 1);
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	assert_int_equal(figures(pool, SEG_ALL).regions, 0);
}

static uint32_t strays(void)
{
	return u32_load_relaxed(&pool->allocator.stashes.strays);
}

/* Nobody waits for it: what is open stays in the stash, or is a stray. */
static void test_a_claim_stays_open(void **state)
{
	struct releases r;

	(void)state;
	hold(BROUGHT + STASH_CLAIMS + 10);
	set_inside(1);
	r = by_other(held, BROUGHT);
	assert_int_equal(r.claims, 0);
	r = by_other(held + BROUGHT, STASH_CLAIMS);
	assert_int_equal(r.done, STASH_CLAIMS);
	assert_int_equal(r.claims, STASH_CLAIMS);
	assert_int_equal(strays(), 0);
	r = by_other(held + BROUGHT + STASH_CLAIMS, 3);
	assert_int_equal(r.done, 3);
	assert_int_equal(r.claims, STASH_CLAIMS);
	assert_int_equal(strays(), 3);
	assert_figures(7, 0);
	set_inside(0);
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	assert_int_equal(strays(), 0);
	assert_int_equal(by_other(NULL, 0).claims, 0);
	assert_int_equal(u32_load_relaxed(&own_stash()->inbox.parcels), 0);
	assert_figures(7, 0);
	for (int i = 0; i < 7; i++)
		assert_int_equal(seg_release(pool, held[BROUGHT +
							STASH_CLAIMS + 3 + i]),
				 0);
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	assert_int_equal(figures(pool, SEG_ALL).regions, 0);
}

/* The claimer has ended; its owner's release is one too many. */
static void test_a_stray_is_settled_later(void **state)
{
	struct actor third;

	(void)state;
	hold(5);
	set_inside(1);
	assert_int_equal(by_other(held, 3).claims, 3);
	end_other();
	assert_figures(2, 0);
	actor_begin(&third);
	actor_do(&third, trim, NULL);
	assert_int_equal(strays(), 3);
	assert_figures(2, 0);
	set_inside(0);
	assert_int_equal(seg_release(pool, held[1]), -ESTALE);
	assert_misuse(SEG_MISUSE_DOUBLE, held[1]);
	actor_do(&third, trim, NULL);
	actor_end(&third);
	assert_int_equal(strays(), 0);
	assert_figures(2, 1);
	for (int i = 3; i < 5; i++)
		assert_int_equal(seg_release(pool, held[i]), 0);
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	assert_int_equal(figures(pool, SEG_ALL).regions, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_figures_of_open_claims),
		TEST(test_a_share_is_brought),
		TEST(test_the_others_are_settled_in_batches),
		TEST(test_large_ones_are_settled_sooner),
		TEST(test_they_are_settled_by_who_gathers),
		TEST(test_they_are_settled_by_the_claimers_end),
		TEST(test_they_outlive_the_owner),
		TEST(test_the_owner_then_another),
		TEST(test_another_then_the_owner),
		TEST(test_two_others),
		TEST(test_handles),
		TEST(test_at_the_same_moment_the_owner_wins),
		TEST(test_a_claim_stays_open),
		TEST(test_a_stray_is_settled_later),
	};

	if (!sections_begin()) {
		print_message("no membarrier, so no stashes\n");
		return TESTING_SKIPPED;
	}
	return run_group(tests);
}
