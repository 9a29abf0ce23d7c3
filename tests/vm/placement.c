/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * P9, on a machine with several memory nodes: what the library promises and
 * counts is compared with what the kernel says of each page.  Only the public
 * interface is used.  Skipped where there is one node.
 */
#include <numa.h>

#include "../pools.h"
#include "atomic.h"
#include "placement.h"

enum { MOST = 256, BYTES = 64 * 1024, EACH = 8, REGION = 512 * 1024 };

static struct machine machine;

/* ---------------------------------------------------------------- segments */

/* What one test holds. */
static struct {
	struct seg_budget *budget;
	struct seg_pool *pool;
	unsigned count;
	void *segment[MOST];
} f;

static int begin_with(struct seg_pool_options o)
{
	f.budget = new_budget(16 * MIB);
	f.count = 0;
	o.budget = f.budget;
	o.region_bytes = REGION;
	o.wait_ms = SEG_NO_WAIT;
	if (!o.decay_ms)
		o.decay_ms = 600000;
	f.pool = make_pool_with(o);
	return 0;
}

static int begin(void **state)
{
	(void)state;
	return begin_with((struct seg_pool_options){ 0 });
}

static void release_all(void)
{
	while (f.count)
		require(seg_release(f.pool, f.segment[--f.count]) == 0);
}

static int end(void **state)
{
	(void)state;
	(void)hog_end();	/* of a test that failed */
	machine_run_on(-1);
	(void)cpuset_allow(&machine, -1);
	release_all();
	end_both(f.pool, f.budget);
	return 0;
}

static void *try_take(size_t bytes, enum seg_policy policy, int node)
{
	struct seg_alloc_options o = { .size = sizeof(o), .policy = policy,
				       .node = node };
	void *segment = seg_alloc_with(f.pool, bytes, &o);

	if (!segment)
		return NULL;
	memset(segment, 1, bytes);
	require(f.count < MOST);
	return f.segment[f.count++] = segment;
}

/* Takes some, and says how many of them lie on a node, each page of them. */
static unsigned take_on(unsigned count, enum seg_policy policy, int wanted,
			int node)
{
	unsigned there = 0;

	for (unsigned i = 0; i < count; i++) {
		void *segment = try_take(BYTES, policy, wanted);

		require(segment);
		there += pages_node(segment, BYTES) == node;
	}
	return there;
}

static unsigned held_on(int node)
{
	unsigned there = 0;

	for (unsigned i = 0; i < f.count; i++)
		there += pages_node(f.segment[i], BYTES) == node;
	return there;
}

/* One that was full, or gone, is left alone for a while. */
static bool is_local_again(int node)
{
	bool there = take_on(1, SEG_POLICY_LOCAL, 0, node) == 1;

	require(seg_release(f.pool, f.segment[--f.count]) == 0);
	return there;
}

/* ----------------------------------------------------------------- figures */

static struct seg_pool_stats stats_of(int node)
{
	struct seg_pool_stats s = { .size = sizeof(s) };

	require(seg_pool_stats(f.pool, node, SEG_ALL, &s) == 0);
	return s;
}

static struct seg_placement placement_of(int node)
{
	struct seg_placement s = { .size = sizeof(s) };

	require(seg_pool_placement(f.pool, node, &s) == 0);
	return s;
}

/* Nobody had to go elsewhere. */
static void assert_no_fallbacks(void)
{
	assert_int_equal(stats_of(SEG_ALL).fallbacks_total, 0);
	assert_int_equal(stats_of(SEG_ALL).foreign_total, 0);
}

static int count_region(void *ctx, const struct seg_region_info *info)
{
	pages_count(info->base, info->bytes, info->node, ctx);
	return 0;
}

/* What the library says of all pages is what the kernel says of them. */
static struct seg_placement assert_placement(void)
{
	struct seg_placement ours = placement_of(SEG_ALL);
	struct pages theirs = { 0 };

	assert_int_equal(seg_region_each(f.pool, count_region, &theirs), 0);
	assert_int_equal(ours.placed_pages, theirs.there);
	assert_int_equal(ours.misplaced_pages, theirs.elsewhere);
	assert_int_equal(ours.absent_pages, theirs.absent);
	assert_int_equal(ours.resident_pages,
			 theirs.there + theirs.elsewhere);
	return ours;
}

static void assert_all_placed(void)
{
	struct seg_placement p = assert_placement();

	assert_int_equal(p.misplaced_pages, 0);
	assert_true(p.placed_pages >= f.count * (BYTES / 4096));
}

/* ---------------------------------------------------------------- policies */

static void assert_thread_nodes(enum seg_policy policy)
{
	for (int i = 0; i < machine.busy; i++) {
		int node = machine.cpu_node[i];

		machine_run_on(node);
		assert_int_equal(take_on(EACH, policy, 0, node), EACH);
		assert_int_equal(stats_of(node).active, EACH);
		assert_int_equal(stats_of(node).remote_allocations_total, 0);
	}
	assert_no_fallbacks();
	assert_all_placed();
}

static void test_local(void **state)
{
	(void)state;
	assert_thread_nodes(SEG_POLICY_DEFAULT);
	release_all();
	assert_int_equal(stats_of(SEG_ALL).active, 0);
}

static void test_strict(void **state)
{
	(void)state;
	assert_thread_nodes(SEG_POLICY_STRICT);
}

/* Each node by its number, those without CPUs among them. */
static void assert_named_nodes(enum seg_policy policy)
{
	int here = machine.cpu_node[0];

	machine_run_on(here);
	for (int i = 0; i < machine.count; i++) {
		int node = machine.id[i];

		assert_int_equal(take_on(EACH, policy, node, node), EACH);
		assert_int_equal(stats_of(node).allocations_total, EACH);
		assert_int_equal(stats_of(node).remote_allocations_total,
				 node == here ? 0 : EACH);
	}
	assert_no_fallbacks();
	assert_all_placed();
}

static void test_preferred(void **state)
{
	(void)state;
	assert_named_nodes(SEG_POLICY_PREFERRED);
}

static void test_node(void **state)
{
	(void)state;
	assert_named_nodes(SEG_POLICY_NODE);
}

/* The nodes in turn: each has its share. */
static void test_interleave(void **state)
{
	(void)state;
	for (int i = 0; i < EACH * machine.count; i++)
		require(try_take(BYTES, SEG_POLICY_INTERLEAVE, 0));
	for (int i = 0; i < machine.count; i++)
		assert_int_equal(held_on(machine.id[i]), EACH);
	assert_no_fallbacks();
	assert_all_placed();
}

static void test_all_classes(void **state)
{
	(void)state;
	for (int i = 0; i < machine.count; i++)
		for (int c = 0; c < SEG_CLASSES; c++) {
			size_t bytes = slice_of(c);
			void *segment = seg_alloc_on(f.pool, bytes,
						     machine.id[i]);

			require(segment);
			memset(segment, 1, bytes);
			assert_int_equal(pages_node(segment, bytes),
					 machine.id[i]);
			f.segment[f.count++] = segment;
		}
	assert_int_equal(assert_placement().misplaced_pages, 0);
}

/* The pool's policy is that of a call that names none. */
static void test_policy_of_the_pool(void **state)
{
	int last = machine.id[machine.count - 1];

	(void)state;
	begin_with((struct seg_pool_options){ .policy = SEG_POLICY_PREFERRED,
					      .node = last });
	machine_run_on(machine.cpu_node[0]);
	assert_int_equal(take_on(EACH, SEG_POLICY_DEFAULT, 0, last), EACH);
	assert_int_equal(take_on(EACH, SEG_POLICY_LOCAL, 0,
				 machine.cpu_node[0]), EACH);
	assert_no_fallbacks();
}

static void test_a_node_without_cpus(void **state)
{
	(void)state;
	if (machine.bare < 0)
		skip();
	assert_int_equal(take_on(EACH, SEG_POLICY_NODE, machine.bare,
				 machine.bare), EACH);
	assert_int_equal(take_on(EACH, SEG_POLICY_PREFERRED, machine.bare,
				 machine.bare), EACH);
	/* all who use it are on other nodes */
	assert_int_equal(stats_of(machine.bare).remote_allocations_total,
			 2 * EACH);
	release_all();
	assert_int_equal(stats_of(machine.bare).remote_releases_total,
			 2 * EACH);
}

/* ------------------------------------------------------------------ numbers */

static int tick_node(void *ctx, const struct seg_node_info *info)
{
	unsigned *seen = ctx;

	require(info->usable == 1);
	require(info->budget == NULL);
	require(machine_has(&machine, info->node));
	seen[info->node]++;
	return 0;
}

/* There are the kernel's numbers, with their gaps, and no others. */
static void test_numbers(void **state)
{
	unsigned seen[MACHINE_NODES] = { 0 };
	struct seg_pool_stats s = { .size = sizeof(s) };
	struct seg_placement p = { .size = sizeof(p) };

	(void)state;
	assert_int_equal(seg_node_each(f.pool, tick_node, seen), 0);
	for (int node = -2; node < MACHINE_NODES; node++) {
		if (node >= 0)
			assert_int_equal(seen[node],
					 machine_has(&machine, node));
		if (node == SEG_ALL || machine_has(&machine, node))
			continue;
		errno = 0;
		assert_null(seg_alloc_on(f.pool, BYTES, node));
		assert_int_equal(errno, EINVAL);
		assert_int_equal(seg_pool_stats(f.pool, node, SEG_ALL, &s),
				 -EINVAL);
		assert_int_equal(seg_pool_placement(f.pool, node, &p), -EINVAL);
	}
}

/* What the kernel, or somebody, moved is told. */
static void test_moved_pages_are_told(void **state)
{
	int here = machine.cpu_node[0], there = machine.cpu_node[1];

	(void)state;
	machine_run_on(here);
	assert_int_equal(take_on(EACH, SEG_POLICY_LOCAL, 0, here), EACH);
	assert_all_placed();
	assert_true(pages_move(f.segment[3], 3 * 4096, there));
	assert_int_equal(assert_placement().misplaced_pages, 3);
	assert_int_equal(placement_of(here).misplaced_pages, 3);
	assert_true(pages_move(f.segment[3], 3 * 4096, here));
	assert_all_placed();
}

/* ----------------------------------------------------------------- threads */

/* Each allocation is for where the thread is by then. */
static void test_a_thread_that_migrates(void **state)
{
	uint64_t remote = 0;

	(void)state;
	for (int turn = 0; turn < 3 * machine.busy; turn++) {
		int node = machine.cpu_node[turn % machine.busy];

		machine_run_on(node);
		remote += f.count;
		release_all();
		assert_int_equal(take_on(4, SEG_POLICY_LOCAL, 0, node), 4);
		assert_int_equal(stats_of(SEG_ALL).remote_releases_total,
				 remote);
	}
	assert_int_equal(stats_of(SEG_ALL).remote_allocations_total, 0);
	assert_no_fallbacks();
}

enum { PASSED_ON = 600 };

static int belt[2];

static void *allocate_all(void *arg)
{
	(void)arg;
	machine_run_on(machine.cpu_node[0]);
	for (int i = 0; i < PASSED_ON; i++) {
		void *segment = alloc_patiently(f.pool, BYTES);

		require(segment);
		memset(segment, 1, BYTES);
		require(pages_node(segment, BYTES) == machine.cpu_node[0]);
		require(write(belt[1], &segment, sizeof(segment)) ==
			sizeof(segment));
	}
	return NULL;
}

static void *release_them(void *arg)
{
	void *segment;

	(void)arg;
	machine_run_on(machine.cpu_node[1]);
	for (int i = 0; i < PASSED_ON; i++) {
		require(read(belt[0], &segment, sizeof(segment)) ==
			sizeof(segment));
		require(seg_release(f.pool, segment) == 0);
	}
	return NULL;
}

/* The count follows the bytes. */
static bool all_unmapped(void)
{
	struct seg_pool_stats s = stats_of(SEG_ALL);

	return s.mapped_bytes == 0 &&
	       s.regions_unmapped_total == s.regions_mapped_total;
}

/* One node's threads allocate, the other's release: all goes home, and the
 * regions retire by themselves. */
static void test_unbalanced_release(void **state)
{
	struct seg_pool_stats s;
	struct threads maker, taker;

	(void)state;
	begin_with((struct seg_pool_options){ .decay_ms = 50 });
	assert_int_equal(pipe(belt), 0);
	threads_start(&maker, 1, allocate_all, NULL, 0);
	threads_start(&taker, 1, release_them, NULL, 0);
	assert_int_equal(threads_join(&maker) + threads_join(&taker), 0);
	wait_until(all_unmapped());
	s = stats_of(machine.cpu_node[0]);
	assert_int_equal(s.allocations_total, PASSED_ON);
	assert_int_equal(s.releases_total, PASSED_ON);
	assert_int_equal(s.remote_releases_total, PASSED_ON);
	assert_int_equal(s.remote_allocations_total, 0);
	assert_int_equal(s.active, 0);
	assert_true(s.regions_mapped_total > 0);
	assert_int_equal(s.regions_unmapped_total, s.regions_mapped_total);
	assert_int_equal(stats_of(SEG_ALL).allocations_total, PASSED_ON);
	close(belt[0]);
	close(belt[1]);
}

/* -------------------------------------------------------------- a full node */

/* The node is refused once the kernel has nothing more of it, and what was
 * given up to then is really there. */
static void assert_refused(enum seg_policy policy, int node)
{
	unsigned tries = 0;
	void *segment;

	errno = 0;
	while (tries++ < 32 && (segment = try_take(BYTES, policy, node))) {
		assert_int_equal(pages_node(segment, BYTES), node);
		hog_eat();
	}
	assert_null(segment);
	assert_int_equal(errno, ENOMEM);
}

/* Who may go elsewhere does, to the nearest, and is counted at both ends.  So
 * many did. */
static unsigned fall_back(enum seg_policy policy, int node)
{
	int nearest = machine_nearest(&machine, node);
	uint64_t fell = stats_of(nearest).fallbacks_total;
	uint64_t missed = stats_of(node).foreign_total;
	unsigned before = held_on(node);
	unsigned there = take_on(EACH, policy, node, nearest);

	assert_int_equal(held_on(node) - before, EACH - there);
	assert_int_equal(stats_of(nearest).fallbacks_total - fell, there);
	assert_int_equal(stats_of(node).foreign_total - missed, there);
	return there;
}

/* One of each node's turns; the full one's went elsewhere, so many. */
static unsigned interleave_falls_back(enum seg_policy policy, int node)
{
	uint64_t missed = stats_of(node).foreign_total;
	uint64_t fell = stats_of(SEG_ALL).fallbacks_total;
	unsigned before = held_on(node), elsewhere;

	for (int i = 0; i < EACH * machine.count; i++)
		require(try_take(BYTES, policy, 0));
	elsewhere = EACH - (held_on(node) - before);
	assert_int_equal(stats_of(node).foreign_total - missed, elsewhere);
	assert_int_equal(stats_of(SEG_ALL).fallbacks_total - fell, elsewhere);
	return elsewhere;
}

enum { SCENES = 3 };

/*
 * Whatever the kernel has of the node, the counts are right.  What it kept back
 * may come free right then, but only once: the hog has the rest of it before
 * the scene is played again.
 */
static void assert_most(unsigned (*elsewhere)(enum seg_policy, int),
			enum seg_policy policy, int node)
{
	unsigned most = 0;

	for (int i = 0; i < SCENES && most <= EACH / 2; i++) {
		hog_eat();
		most = elsewhere(policy, node);
	}
	assert_true(most > EACH / 2);
}

/*
 * The region that the first allocations map has slices that were never touched;
 * when they are handed out there is no memory of the node for them any more.
 */
static void test_a_full_node(void **state)
{
	int node = machine.cpu_node[machine.busy - 1];
	uint64_t kills = oom_kills();

	(void)state;
	machine_run_on(node);
	assert_int_equal(take_on(2, SEG_POLICY_LOCAL, 0, node), 2);
	hog_start(node);
	assert_refused(SEG_POLICY_STRICT, node);
	assert_refused(SEG_POLICY_NODE, node);
	assert_most(fall_back, SEG_POLICY_LOCAL, node);
	assert_most(fall_back, SEG_POLICY_PREFERRED, node);
	assert_most(interleave_falls_back, SEG_POLICY_INTERLEAVE, node);
	assert_all_placed();
	assert_true(hog_end());
	assert_int_equal(oom_kills(), kills);

	/* and once there is room, new memory is local again */
	release_all();
	assert_int_equal(seg_pool_drain(f.pool, 0, NULL), 0);
	assert_int_equal(take_on(EACH, SEG_POLICY_STRICT, 0, node), EACH);
	wait_until(is_local_again(node));
	assert_int_equal(take_on(EACH, SEG_POLICY_LOCAL, 0, node), EACH);
}

/* A node's own budget has the same effect, with no need of a full node. */
static void test_a_limit_for_each_node(void **state)
{
	int node = machine.cpu_node[0];

	(void)state;
	begin_with((struct seg_pool_options){ .node_limit_bytes = MIB });
	machine_run_on(node);
	while (try_take(BYTES, SEG_POLICY_STRICT, 0))
		assert_true(stats_of(node).charged_bytes <= MIB);
	assert_int_equal(errno, ENOMEM);
	assert_int_equal(f.count, MIB / BYTES);
	assert_int_equal(held_on(node), MIB / BYTES);
	assert_int_equal(fall_back(SEG_POLICY_LOCAL, node), EACH);
	assert_all_placed();
}

/* ------------------------------------------------------------------ cpusets */

enum { WORKERS = 3, WINDOW = 6, ROUNDS = 3 };

static struct atomic_u32 stopped;
static struct atomic_u64 turns;

/* Finds what it wrote, wherever the kernel moved it meanwhile. */
static void *work(void *arg)
{
	uint64_t *held[WINDOW] = { NULL }, turn = 0, me = (uintptr_t)arg;

	/* acquire <- stop_workers() */
	for (; !u32_load_acquire(&stopped); turn++) {
		uint64_t **at = &held[turn % WINDOW];

		if (*at) {
			require(**at == (me ^ (turn - WINDOW)));
			require(seg_release(f.pool, *at) == 0);
		}
		*at = alloc_patiently(f.pool, BYTES);
		require(*at);
		**at = me ^ turn;
		u64_add_relaxed(&turns, 1); /* relaxed: counter */
	}
	for (int i = 0; i < WINDOW; i++)
		require(!held[i] || seg_release(f.pool, held[i]) == 0);
	return NULL;
}

/* They go on. */
static void wait_for_turns(void)
{
	uint64_t now = u64_load_relaxed(&turns); /* relaxed: counter */

	/* relaxed: counter */
	wait_until(u64_load_relaxed(&turns) > now + 50);
}

static int count_usable(void *ctx, const struct seg_node_info *info)
{
	*(unsigned *)ctx += info->usable;
	return 0;
}

/* A look of a thread that is stopped meanwhile is not waited for for ever. */
static unsigned usable_nodes(void)
{
	unsigned usable = 0;

	require(seg_node_each(f.pool, count_usable, &usable) == 0);
	return usable;
}

/* Only one node may be used, which is not the thread's. */
static void shrink(int here, int only)
{
	assert_true(cpuset_allow(&machine, only));
	wait_until(usable_nodes() == 1);
	assert_int_equal(take_on(4, SEG_POLICY_LOCAL, 0, only), 4);
	errno = 0;
	assert_null(seg_alloc_on(f.pool, BYTES, here));
	assert_int_equal(errno, ENOMEM);
}

static void grow(void)
{
	assert_true(cpuset_allow(&machine, -1));
	wait_until(usable_nodes() == (unsigned)machine.count);
}

/* What was unused while its node was gone lies right again. */
static void test_a_node_that_comes_back(void **state)
{
	int here = machine.cpu_node[0], only = machine.cpu_node[1];

	(void)state;
	if (!cpuset_allow(&machine, -1))
		skip();
	machine_run_on(here);
	assert_int_equal(take_on(2 * EACH, SEG_POLICY_LOCAL, 0, here),
			 2 * EACH);
	while (f.count > EACH)
		require(seg_release(f.pool, f.segment[--f.count]) == 0);
	shrink(here, only);
	assert_int_equal(held_on(only), f.count);	/* the kernel's work */
	grow();
	assert_int_equal(take_on(EACH, SEG_POLICY_LOCAL, 0, here), EACH);
	assert_true(assert_placement().misplaced_pages >= EACH * BYTES / 4096);
}

static void test_a_cpuset_that_changes_under_load(void **state)
{
	int here = machine.cpu_node[0];
	struct threads workers;
	static char args[WORKERS];

	(void)state;
	if (!cpuset_allow(&machine, -1))
		skip();
	u32_store_relaxed(&stopped, 0); /* relaxed: no threads yet */
	threads_start(&workers, WORKERS, work, args, 1);
	machine_run_on(here);
	for (int i = 0; i < ROUNDS; i++) {
		shrink(here, machine.id[1 + i % (machine.count - 1)]);
		wait_for_turns();
		grow();
		wait_for_turns();
		release_all();
	}
	u32_store_release(&stopped, 1); /* release -> work() */
	assert_int_equal(threads_join(&workers), 0);
	assert_int_equal(stats_of(SEG_ALL).active, 0);
	assert_placement();
	assert_int_equal(seg_pool_drain(f.pool, 0, NULL), 0);
	wait_until(is_local_again(here));
	assert_int_equal(take_on(EACH, SEG_POLICY_LOCAL, 0, here), EACH);
	assert_all_placed();
}

#define in_pool(t) cmocka_unit_test_setup_teardown(t, begin, end)
#define in_own_pool(t) cmocka_unit_test_setup_teardown(t, NULL, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		in_pool(test_local),
		in_pool(test_strict),
		in_pool(test_preferred),
		in_pool(test_node),
		in_pool(test_interleave),
		in_pool(test_all_classes),
		in_own_pool(test_policy_of_the_pool),
		in_pool(test_a_node_without_cpus),
		in_pool(test_numbers),
		in_pool(test_moved_pages_are_told),
		in_pool(test_a_thread_that_migrates),
		in_own_pool(test_unbalanced_release),
		in_own_pool(test_a_limit_for_each_node),
		in_pool(test_a_full_node),
		in_pool(test_a_node_that_comes_back),
		in_pool(test_a_cpuset_that_changes_under_load),
	};

	if (numa_available() < 0)
		return TESTING_SKIPPED;
	machine_look(&machine);
	if (machine.count < 2 || machine.busy < 2)
		return TESTING_SKIPPED;
	return run_group(tests);
}
