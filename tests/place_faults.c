/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * P11 on several nodes: each system call and allocation of the library's own
 * fails once, or from some call on; and the nodes have room for so many pages
 * in all, for each number there is.  Nothing is lost, nothing leaks, figures
 * are exact.  Linked with fault_os.c in place of lib/os.c.
 */
#include "places.h"

#include "fault_left.h"
#include "fault_os.h"

enum {
	LIMIT = 1 << 20,
	NODE_LIMIT = 512 << 10,
	MOST = 512,
	FOR_EVER = INT32_MAX,
	PAGES_MOST = 80,
};

/* One run; what it got is given back. */
struct run {
	struct seg_budget *budget;
	struct seg_pool *pool;
	uint64_t node_limit;
	void *segment[MOST];
	unsigned segments;
};

static bool run_create(struct run *r)
{
	struct seg_budget_options limit = { .size = sizeof(limit),
					    .limit_bytes = LIMIT };
	struct seg_pool_options o = place_options(NULL);
	int ret = seg_budget_create(&limit, &r->budget);

	require(ret == 0 || ret == -ENOMEM);
	if (ret)
		return false;
	o.size = sizeof(o);
	o.budget = r->budget;
	o.node_limit_bytes = r->node_limit;
	ret = seg_pool_create(&o, &r->pool);
	require(ret == 0 || ret == -ENOMEM || ret == -EAGAIN);
	return ret == 0;
}

/* It is where its region is, or was refused as documented. */
static bool keep(struct run *r, void *segment)
{
	if (!segment) {
		require(errno == ENOMEM);
		return false;
	}
	placed_on(r->pool, segment);
	require(r->segments < MOST);
	r->segment[r->segments++] = segment;
	return true;
}

static void run_policies(struct run *r)
{
	for (int c = 0; c < 3; c++)
		for (int i = 0; i < 3; i++) {
			machine_run_at(places[i]);
			keep(r, seg_alloc(r->pool, slice_of(c)));
			keep(r, alloc_as(r->pool, slice_of(c),
					 SEG_POLICY_STRICT, 0));
			keep(r, alloc_as(r->pool, slice_of(c),
					 SEG_POLICY_INTERLEAVE, 0));
			keep(r, alloc_as(r->pool, slice_of(c),
					 SEG_POLICY_PREFERRED, 5));
		}
}

static void release_half(struct run *r)
{
	unsigned left = 0;

	for (unsigned i = 0; i < r->segments; i++)
		if (i % 2)
			r->segment[left++] = r->segment[i];
		else
			require(!seg_release(r->pool, r->segment[i]));
	r->segments = left;
}

static void run_nodes(struct run *r)
{
	int ret;

	release_half(r);
	set_allowed(r->pool, 2, false);
	run_policies(r);
	ret = seg_pool_drain(r->pool, 0, NULL);
	require(ret == 0 || ret == -ENOMEM);
	set_allowed(r->pool, 2, true);
	while (keep(r, alloc_as(r->pool, slice_of(4), SEG_POLICY_INTERLEAVE,
				0)))
		;
	require(charged(r->budget) <= LIMIT);
}

static void run_release(struct run *r)
{
	require(figures(r->pool, SEG_ALL).active == r->segments);
	while (r->segments)
		require(!seg_release(r->pool, r->segment[--r->segments]));
	require(seg_pool_trim(r->pool, NULL) == 0);
	require(figures(r->pool, SEG_ALL).regions == 0);
	require_identities(r->pool);
}

static uint64_t run_destroy(struct run *r)
{
	int ret = seg_pool_destroy(r->pool);
	uint64_t failed;

	require(ret == 0 || ret == -EBUSY);
	failed = fault_disarm();
	if (ret) {
		require(failed);
		machine_empty(MACHINE_ALL);
		require(keep(r, alloc_patiently(r->pool, 1)));
		require(!seg_release(r->pool, r->segment[0]));
		require_identities(r->pool);
		require(seg_pool_destroy(r->pool) == 0);
	}
	require(!r->budget || charged(r->budget) == 0);
	ret = seg_budget_destroy(r->budget);
	require(ret == 0);
	return failed;
}

/* Each on a machine of its own. */
static uint64_t run_scenario(uint64_t node_limit)
{
	struct run r = { .node_limit = node_limit };

	if (run_create(&r)) {
		run_policies(&r);
		run_nodes(&r);
		run_release(&r);
	}
	return run_destroy(&r);
}

/* ThreadSanitizer makes it 30 times slower; there, each eighth call. */
#ifdef SEG_TSAN
enum { STEP = 8 };
#else
enum { STEP = 1 };
#endif

static void sweep(enum fault_kind kind, uint64_t calls, uint64_t node_limit)
{
	uint64_t failed = 1;

	for (uint64_t n = 1; failed; n += STEP) {
		begin_machine(NULL);
		fault_arm(kind, n, calls);
		failed = run_scenario(node_limit);
		assert_nothing_is_left();
		end_machine(NULL);
		if (!failed)
			print_message("kind %d: up to %llu calls\n", (int)kind,
				      (unsigned long long)n - 1);
	}
}

enum { KINDS = 6 };

static const enum fault_kind kinds[KINDS] = {
	FAULT_MAP, FAULT_UNMAP, FAULT_ADVISE, FAULT_CALLOC, FAULT_THREAD,
	FAULT_MEMBARRIER,
};

static void test_each_single_call_fails(void **state)
{
	(void)state;
	for (int i = 0; i < KINDS; i++)
		sweep(kinds[i], 1, 0);
}

static void test_all_calls_from_one_on_fail(void **state)
{
	(void)state;
	for (int i = 0; i < KINDS; i++)
		sweep(kinds[i], FOR_EVER, 0);
}

/* But for barriers, which are the same ones. */
static void test_the_same_with_budgets_of_nodes(void **state)
{
	(void)state;
	for (int i = 0; i < KINDS - 1; i++) {
		sweep(kinds[i], 1, NODE_LIMIT);
		sweep(kinds[i], FOR_EVER, NODE_LIMIT);
	}
}

/* Nothing of the library's fails: the nodes have no more. */
static void test_nodes_with_so_many_pages(void **state)
{
	(void)state;
	for (uint64_t pages = 0; pages < PAGES_MOST; pages++) {
		begin_machine(NULL);
		fault_arm(FAULT_MAP, 1, 0);
		for (int i = 0; i < 3; i++)
			machine_give(places[i], pages * (uint64_t)(i + 1) / 2);
		assert_int_equal(run_scenario(pages % 2 ? NODE_LIMIT : 0), 0);
		assert_nothing_is_left();
		end_machine(NULL);
	}
}

/* As locked memory: what could not be placed goes back as it is, and is placed
 * before anybody gets it. */
static void test_nothing_can_be_discarded(void **state)
{
	struct run r = { 0 };

	(void)state;
	begin_machine(NULL);
	fault_arm(FAULT_ADVISE, 1, FOR_EVER);
	require(run_create(&r));
	machine_fill(0);
	for (int i = 0; i < 3; i++) {
		assert_false(keep(&r, alloc_as(r.pool, 1, SEG_POLICY_STRICT,
					       0)));
		assert_true(keep(&r, alloc_as(r.pool, 1, SEG_POLICY_LOCAL, 0)));
		assert_int_equal(node_of(r.pool, r.segment[i]), 5);
	}
	machine_give(0, 3);
	for (int i = 0; i < 3; i++)
		assert_true(keep(&r, alloc_as(r.pool, 1, SEG_POLICY_STRICT,
					      0)));
	assert_false(keep(&r, alloc_as(r.pool, 1, SEG_POLICY_STRICT, 0)));
	assert_true(fault_disarm() > 0);
	run_release(&r);
	fault_arm(FAULT_ADVISE, 1, 0);
	assert_int_equal(run_destroy(&r), 0);
	assert_nothing_is_left();
	end_machine(NULL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_each_single_call_fails, begin),
		cmocka_unit_test_setup(test_all_calls_from_one_on_fail, begin),
		cmocka_unit_test_setup(test_the_same_with_budgets_of_nodes,
				       begin),
		cmocka_unit_test_setup(test_nodes_with_so_many_pages, begin),
		cmocka_unit_test_setup(test_nothing_can_be_discarded, begin),
	};

	return run_group(tests);
}
