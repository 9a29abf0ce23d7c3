/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/class_pool.h: opening, taking, giving, shedding and decay of regions, and
 * the three equations of its top comment (P2), checked against a model that
 * counts along.  Never unmapped in use (P4), given back when idle (P3).
 * No keeper runs here: keeper_flush() does what it would do.
 */
#include "testing.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "class_pool.h"
#include "keeper.h"
#include "os.h"
#include "rcu.h"

enum {
	SLICE = 4096,
	SLICES = 4,
	REGION = SLICES * SLICE,
	LIMIT = 64 * REGION,
	IDLE_NS = 1000,
	THREADS = 4,
	STEPS = 3000,
	ROUNDS = 1500,
};

static struct {
	struct allocator allocator;
	struct class_pool pool;
} *f;

static struct recorder recorder;

static int new_class_pool(void **state)
{
	(void)state;
	f = os_map(sizeof(*f), CACHE_LINE);
	recorder = (struct recorder)RECORDER_INIT;
	f->allocator.budget = new_budget(LIMIT);
	f->allocator.log = (struct log){ .fn = recorder_log, .ctx = &recorder,
					 .level = SEG_LOG_REGION };
	class_pool_init(&f->pool, &f->allocator, 0, REGION);
	return 0;
}

static uint64_t charged(void)
{
	return budget_stats(f->allocator.budget).charged_bytes;
}

/* Everything must be back by now. */
static int end_class_pool(void **state)
{
	(void)state;
	class_pool_shed(&f->pool, UINT64_MAX);
	keeper_flush();
	assert_true(class_pool_is_valid(&f->pool));
	assert_int_equal(class_pool_sum(&f->pool).regions, 0);
	assert_int_equal(gauge_value(&f->allocator.mapped), 0);
	end_budget(f->allocator.budget);
	class_pool_clear(&f->pool);
	region_table_clear(&f->allocator.table);
	return os_unmap(f, sizeof(*f));
}

static void *open_region(void)
{
	struct taken t;

	assert_int_equal(class_pool_open(&f->pool, REGION, SLICES, &t),
			 OPEN_DONE);
	assert_non_null(t.segment);
	assert_true(t.fresh);
	return t.segment;
}

static void *take(void)
{
	return class_pool_take(&f->pool).segment;
}

static bool try_give(void *segment)
{
	struct region *r;
	uint32_t slice = 0;
	bool done;

	rcu_enter();
	r = region_table_find(&f->allocator.table, segment, NULL);
	if (r)
		slice = (uint32_t)((size_t)((char *)segment - region_base(r)) /
				   SLICE);
	done = r && region_disown(r, slice);
	if (done)
		class_pool_give(&f->pool, r, slice);
	rcu_leave();
	return done;
}

static void give(void *segment)
{
	assert_true(try_give(segment));
}

static struct region *region_of(void *segment)
{
	struct region *r;

	rcu_enter();
	r = region_table_find(&f->allocator.table, segment, NULL);
	rcu_leave();
	return r;
}

static void test_nothing_is_mapped_at_first(void **state)
{
	(void)state;
	assert_null(take());
	assert_null(class_pool_take_any(&f->pool).segment);
	assert_int_equal(class_pool_sum(&f->pool).regions, 0);
	assert_int_equal(charged(), 0);
	assert_true(class_pool_is_valid(&f->pool));
}

/* The opener has the first slice, the others are there for all. */
static void test_open_charges_and_publishes(void **state)
{
	char *first = open_region();
	struct class_sum sum = class_pool_sum(&f->pool);

	(void)state;
	assert_int_equal(charged(), REGION);
	assert_int_equal(gauge_value(&f->pool.mapped), REGION);
	assert_int_equal(sum.regions, 1);
	assert_int_equal(sum.slices, SLICES);
	assert_int_equal(sum.unused, SLICES - 1);
	assert_int_equal(sum.spares, 0);
	assert_int_equal((uintptr_t)first % REGION_ALIGN, 0);
	for (int i = 1; i < SLICES; i++)
		assert_ptr_equal(take(), first + i * SLICE);
	assert_null(take());
	assert_true(class_pool_is_valid(&f->pool));
	for (int i = 0; i < SLICES; i++)
		give(first + i * SLICE);
	assert_int_equal(class_pool_sum(&f->pool).spares, 1);
}

static void test_a_slice_is_fresh_until_it_was_given(void **state)
{
	char *first = open_region();
	struct taken t;

	(void)state;
	memset(first, 1, SLICE);
	give(first);
	t = class_pool_take(&f->pool);
	assert_ptr_equal(t.segment, first);
	assert_false(t.fresh);
	t = class_pool_take(&f->pool);
	assert_ptr_equal(t.segment, first + SLICE);
	assert_true(t.fresh);
	for (int i = 0; i < SLICE; i++)
		assert_int_equal(first[SLICE + i], 0);
	give(first);
	give(first + SLICE);
}

/* P1: what does not fit is not mapped. */
static void test_open_without_budget(void **state)
{
	struct taken t = { .segment = &t };

	(void)state;
	assert_int_equal(class_pool_open(&f->pool, LIMIT + SLICE,
					 LIMIT / SLICE + 1, &t),
			 OPEN_NO_BUDGET);
	assert_null(t.segment);
	assert_int_equal(charged(), 0);
	assert_int_equal(u64_load_relaxed(&f->pool.regions_mapped), 0);
	assert_int_equal(recorder.count, 0);
}

/* P11: the kernel refuses; the charge is given back, the reason logged. */
struct room {
	long pages;	/* that may be mapped */
	size_t bytes;	/* of the region */
};

static rlim_t address_space(void)
{
	char text[64] = "";
	int file = open("/proc/self/statm", O_RDONLY);

	if (read(file, text, sizeof(text) - 1) <= 0)
		return 0;
	close(file);
	return strtoul(text, NULL, 10) * SLICE;
}

static int open_without_room(void *arg)
{
	const struct room *room = arg;
	struct rlimit limit;
	struct taken t = { .segment = &t };

	limit.rlim_max = address_space() + (rlim_t)room->pages * SLICE;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_AS, &limit))
		return 1;
	if (class_pool_open(&f->pool, room->bytes,
			    (uint32_t)(room->bytes / SLICE), &t) !=
	    OPEN_NO_MEMORY)
		return 2;
	keeper_flush();
	if (t.segment || charged() || class_pool_sum(&f->pool).regions)
		return 3;
	if (gauge_value(&f->pool.mapped) ||
	    u64_load_relaxed(&f->pool.store.bytes) > 4096)
		return 4;
	return errno != ENOMEM;
}

static void test_open_without_memory(void **state)
{
	struct room none = { .bytes = REGION };
	struct room own_only = { .pages = 600, .bytes = 256 * REGION };

	(void)state;
	if (emulated("its address space is not the program's alone"))
		skip();
	assert_true(budget_try_limit(f->allocator.budget, 1024 * REGION));
	assert_int_equal(run_in_child(open_without_room, &none), 0);
	assert_int_equal(run_in_child(open_without_room, &own_only), 0);
}

static void test_one_opens_at_a_time(void **state)
{
	(void)state;
	assert_true(class_pool_begin_open(&f->pool));
	assert_false(class_pool_begin_open(&f->pool));
	class_pool_end_open(&f->pool);
	assert_true(class_pool_begin_open(&f->pool));
	class_pool_end_open(&f->pool);
}

/* Placement: sparse regions drain, since the fullest is taken from. */
static void test_takes_from_the_fullest(void **state)
{
	char *a = open_region(), *b = open_region(), *segment;

	(void)state;
	while (take())
		;
	give(b + SLICE);
	for (int i = 1; i < SLICES; i++)
		give(a + i * SLICE);
	assert_ptr_equal(take(), b + SLICE);
	segment = take();
	assert_ptr_equal(region_of(segment), region_of(a));
	give(segment);
	give(a);
	for (int i = 0; i < SLICES; i++)
		give(b + i * SLICE);
}

/* H2: a pool whose hints were all lost still finds its slices. */
static void test_take_any_needs_no_hints(void **state)
{
	char *first = open_region();
	struct bands *bands = &f->pool.bands;
	void *segment;

	(void)state;
	memset(bands->top, 0, sizeof(bands->top));
	assert_null(take());
	segment = class_pool_take_any(&f->pool).segment;
	assert_ptr_equal(segment, first + SLICE);
	bands_settle(bands, 0);
	give(segment);
	give(first);
}

/* H2: a hint at a region that has nothing is mended, not followed for ever. */
static void test_take_mends_a_wrong_hint(void **state)
{
	char *first = open_region();
	struct band_group *group;

	(void)state;
	while (take())
		;
	group = ptr_load_acquire(&f->pool.bands.group[0]);
	for (unsigned set = 0; set <= BAND_SPARE; set++) {
		u64_store_relaxed(&group->set[set].leaf[0], 1);
		u64_store_relaxed(&group->set[set].mid, 1);
		u64_store_relaxed(&f->pool.bands.top[set][0], 1);
	}
	assert_null(take());
	assert_false(bands_has_hint(&f->pool.bands, 0));
	for (int i = 0; i < SLICES; i++)
		give(first + i * SLICE);
}

/* P4, R2: one segment out, and the region stays. */
static void test_shed_leaves_what_is_in_use(void **state)
{
	char *used = open_region(), *spare = open_region();

	(void)state;
	memset(used, 0x5a, SLICE);
	give(spare);
	assert_int_equal(class_pool_shed(&f->pool, UINT64_MAX), REGION);
	assert_int_equal(class_pool_shed(&f->pool, UINT64_MAX), 0);
	keeper_flush();
	assert_int_equal(charged(), REGION);
	assert_null(region_of(spare));
	assert_non_null(region_of(used));
	assert_int_equal(used[SLICE - 1], 0x5a);
	give(used);
}

/* Deferred bytes stay charged until they are unmapped (P1, P2). */
static void test_shed_bytes_are_deferred(void **state)
{
	(void)state;
	give(open_region());
	assert_int_equal(class_pool_shed(&f->pool, 1), REGION);
	assert_int_equal(u64_load_relaxed(&f->pool.deferred_bytes), REGION);
	assert_int_equal(charged(), REGION);
	assert_int_equal(class_pool_sum(&f->pool).regions, 0);
	assert_true(class_pool_is_valid(&f->pool));
	keeper_flush();
	assert_int_equal(u64_load_relaxed(&f->pool.deferred_bytes), 0);
	assert_int_equal(u64_load_relaxed(&f->pool.regions_unmapped), 1);
	assert_int_equal(charged(), 0);
}

static void test_shed_stops_when_it_is_enough(void **state)
{
	void *segments[5];

	(void)state;
	for (int i = 0; i < 5; i++)
		segments[i] = open_region();
	for (int i = 0; i < 5; i++)
		give(segments[i]);
	assert_int_equal(class_pool_shed(&f->pool, 0), 0);
	assert_int_equal(class_pool_shed(&f->pool, 1), REGION);
	assert_int_equal(class_pool_shed(&f->pool, REGION + 1), 2 * REGION);
	assert_int_equal(class_pool_sum(&f->pool).spares, 2);
}

/* P3, with a clock of the test's own: noticed, left alone, then retired. */
static void test_decay_waits_for_idleness(void **state)
{
	void *segment = open_region();

	(void)state;
	assert_true(class_pool_decay(&f->pool, 5000, IDLE_NS));
	give(segment);
	assert_true(class_pool_decay(&f->pool, 6000, IDLE_NS));
	assert_true(class_pool_decay(&f->pool, 6000 + IDLE_NS - 1, IDLE_NS));
	assert_int_equal(class_pool_sum(&f->pool).spares, 1);
	assert_false(class_pool_decay(&f->pool, 6000 + IDLE_NS, IDLE_NS));
	assert_int_equal(class_pool_sum(&f->pool).regions, 0);
	keeper_flush();
	assert_int_equal(charged(), 0);
}

/* Hysteresis: any use in between starts the time anew. */
static void test_use_puts_decay_off(void **state)
{
	void *segment = open_region();
	uint64_t now = 1000;

	(void)state;
	for (int i = 0; i < 20; i++, now += IDLE_NS) {
		give(segment);
		assert_true(class_pool_decay(&f->pool, now, IDLE_NS));
		assert_ptr_equal(take(), segment);
	}
	assert_int_equal(u64_load_relaxed(&f->pool.regions_retired), 0);
	assert_int_equal(u64_load_relaxed(&f->pool.regions_mapped), 1);
	assert_true(class_pool_decay(&f->pool, now + 10 * IDLE_NS, IDLE_NS));
	assert_int_equal(class_pool_sum(&f->pool).regions, 1);
	give(segment);
}

static void test_decay_takes_only_the_idle(void **state)
{
	void *idle = open_region(), *fresh = open_region();

	(void)state;
	give(idle);
	assert_true(class_pool_decay(&f->pool, 1000, IDLE_NS));
	give(fresh);
	assert_true(class_pool_decay(&f->pool, 1000 + IDLE_NS, IDLE_NS));
	assert_null(region_of(idle));
	assert_non_null(region_of(fresh));
	assert_false(class_pool_decay(&f->pool, 1000 + 2 * IDLE_NS, IDLE_NS));
}

static void test_lines_are_as_documented(void **state)
{
	(void)state;
	give(open_region());
	class_pool_shed(&f->pool, 1);
	keeper_flush();
	assert_int_equal(recorder.count, 2);
	assert_string_equal(recorder.line[0],
		"Allocated new region for pool 0 (size 4096): 16 KB with 4 "
		"slices (total mapped now: 16 KB of 1024 KB, address space "
		"16 KB)");
	assert_string_equal(recorder.line[1],
		"Freed region from pool 0: 16 KB (total mapped now: 0 KB of "
		"1024 KB, address space 0 KB)");
}

/* class_pool_is_valid() sees each kind of damage, and its repair. */
static void test_valid_sees_wrong_counters(void **state)
{
	struct class_pool *cp = &f->pool;
	struct atomic_u64 *const counters[] = {
		&cp->regions_mapped, &cp->regions_retired,
		&cp->deferred_bytes, &cp->mapped.value,
		&cp->cold_bytes, &cp->deferred_cold_bytes,
		&cp->allocations.stripe[0].value,
		&cp->releases.stripe[3].value,
	};
	void *segment = open_region();

	(void)state;
	for (size_t i = 0; i < sizeof(counters) / sizeof(*counters); i++) {
		u64_add_relaxed(counters[i], 1);
		assert_false(class_pool_is_valid(cp));
		u64_sub_relaxed(counters[i], 1);
		assert_true(class_pool_is_valid(cp));
	}
	give(segment);
}

static void test_valid_sees_a_wrong_region(void **state)
{
	void *segment = open_region();
	struct region *r = region_of(segment);

	(void)state;
	r->bytes++;
	assert_false(class_pool_is_valid(&f->pool));
	r->bytes--;
	u64_add_relaxed(&r->generations[1], 1);
	assert_false(class_pool_is_valid(&f->pool));
	u64_sub_relaxed(&r->generations[1], 1);
	region_table_remove(&f->allocator.table, r);
	assert_false(class_pool_is_valid(&f->pool));
	assert_true(region_table_insert(&f->allocator.table, r));
	assert_true(class_pool_is_valid(&f->pool));
	give(segment);
}

static void test_valid_sees_a_lost_hint(void **state)
{
	void *segment = open_region();
	struct band_group *group;

	(void)state;
	group = ptr_load_acquire(&f->pool.bands.group[0]);
	for (unsigned set = 0; set <= BAND_SPARE; set++)
		u64_store_relaxed(&group->set[set].leaf[0], 0);
	assert_false(class_pool_is_valid(&f->pool));
	bands_settle(&f->pool.bands, 0);
	assert_true(class_pool_is_valid(&f->pool));
	give(segment);
}

/* ------------------------------------------ the equations, step by step */

/* What the test knows by itself. */
static struct {
	void *segments[64 * SLICES];
	uint64_t out, opened, retired, now_ns;
	uint64_t seed;
} model;

/* The equations of class_pool.h and budget.h. */
static void assert_equations(void)
{
	struct class_pool *cp = &f->pool;
	struct class_sum sum = class_pool_sum(cp);
	uint64_t deferred = u64_load_relaxed(&cp->deferred_bytes);

	assert_int_equal(sum.slices - sum.unused, model.out);
	assert_int_equal(counter_sum(&cp->allocations) -
			 counter_sum(&cp->releases), model.out);
	assert_int_equal(sum.regions, model.opened - model.retired);
	assert_int_equal(sum.slices, sum.regions * SLICES);
	assert_int_equal(u64_load_relaxed(&cp->regions_mapped), model.opened);
	assert_int_equal(model.opened, sum.regions + deferred / REGION +
			 u64_load_relaxed(&cp->regions_unmapped));
	assert_int_equal(gauge_value(&cp->mapped),
			 sum.regions * REGION + deferred);
	assert_int_equal(charged(), gauge_value(&cp->mapped));
	assert_int_equal(budget_deferred(f->allocator.budget), deferred);
	assert_int_equal(gauge_value(&f->allocator.mapped), charged());
	assert_true(charged() <= LIMIT);
}

static void step_take(void)
{
	struct taken t = class_pool_take(&f->pool);

	if (!t.segment &&
	    class_pool_open(&f->pool, REGION, SLICES, &t) == OPEN_DONE)
		model.opened++;
	if (!t.segment) {
		assert_int_equal(charged(), LIMIT);
		return;
	}
	memset(t.segment, (int)model.out, 8);
	model.segments[model.out++] = t.segment;
}

static void step_give(void)
{
	uint64_t i;

	if (!model.out)
		return;
	i = random_below(&model.seed, model.out);
	give(model.segments[i]);
	model.segments[i] = model.segments[--model.out];
}

static void step_reclaim(void)
{
	model.now_ns += random_below(&model.seed, 2 * IDLE_NS);
	switch (random_below(&model.seed, 3)) {
	case 0:
		model.retired += class_pool_shed(&f->pool, 2 * REGION) / REGION;
		break;
	case 1:
		class_pool_decay(&f->pool, model.now_ns, IDLE_NS);
		model.retired = u64_load_relaxed(&f->pool.regions_retired);
		break;
	default:
		keeper_flush();
	}
}

/* Up and down in long waves, so that the limit and zero are both met. */
static void test_equations_hold_after_each_step(void **state)
{
	(void)state;
	memset(&model, 0, sizeof(model));
	model.seed = random_seed(7);
	for (int i = 0; i < STEPS; i++) {
		bool up = i / 300 % 2 == 0;

		if (random_below(&model.seed, 10) == 0)
			step_reclaim();
		else if (random_below(&model.seed, 10) < (up ? 8 : 2))
			step_take();
		else
			step_give();
		assert_equations();
		if (i % 50 == 0)
			assert_true(class_pool_is_valid(&f->pool));
	}
	assert_true(model.retired > 0);
	while (model.out)
		step_give();
}

/* ------------------------------------------------------- several threads */

static struct atomic_u32 working;

/*
 * Fills what it holds, and finds it as it was: P4 and R1.  The last to shed
 * finds all regions unused, so that some are retired in any case.
 */
static void *use_segments(void *arg)
{
	uint64_t *held[3], me = *(uint64_t *)arg;
	bool wrong = false;

	for (uint64_t i = 0; i < ROUNDS; i++) {
		unsigned n = 0;

		while (n < 1 + i % 3) {
			struct taken t = class_pool_take(&f->pool);

			if (!t.segment &&
			    class_pool_open(&f->pool, REGION, SLICES, &t))
				break;
			held[n] = t.segment;
			held[n][0] = held[n][511] = me << 32 | i;
			n++;
		}
		while (n--) {
			wrong |= held[n][0] != (me << 32 | i) ||
				 held[n][511] != held[n][0];
			wrong |= !try_give(held[n]);
		}
		if (i % 4 == 3)
			class_pool_shed(&f->pool, REGION);
	}
	u32_sub_seq_cst(&working, 1);
	return wrong ? arg : NULL;
}

static void test_regions_come_and_go_under_four_threads(void **state)
{
	uint64_t names[THREADS] = { 1, 2, 3, 4 };
	uint64_t now_ns = 0;
	struct threads t;

	(void)state;
	u32_store_relaxed(&working, THREADS);
	threads_start(&t, THREADS, use_segments, names, sizeof(*names));
	while (u32_load_acquire(&working)) {
		class_pool_shed(&f->pool, REGION);
		class_pool_decay(&f->pool, now_ns += IDLE_NS, IDLE_NS);
		keeper_flush();
	}
	assert_int_equal(threads_join(&t), 0);
	assert_true(class_pool_is_valid(&f->pool));
	assert_true(u64_load_relaxed(&f->pool.regions_retired) > 0);
	assert_int_equal(counter_sum(&f->pool.allocations),
			 counter_sum(&f->pool.releases));
}

#define pool_test(t)                                                           \
	cmocka_unit_test_setup_teardown(t, new_class_pool, end_class_pool)

int main(void)
{
	const struct CMUnitTest tests[] = {
		pool_test(test_nothing_is_mapped_at_first),
		pool_test(test_open_charges_and_publishes),
		pool_test(test_a_slice_is_fresh_until_it_was_given),
		pool_test(test_open_without_budget),
		pool_test(test_open_without_memory),
		pool_test(test_one_opens_at_a_time),
		pool_test(test_takes_from_the_fullest),
		pool_test(test_take_any_needs_no_hints),
		pool_test(test_take_mends_a_wrong_hint),
		pool_test(test_shed_leaves_what_is_in_use),
		pool_test(test_shed_bytes_are_deferred),
		pool_test(test_shed_stops_when_it_is_enough),
		pool_test(test_decay_waits_for_idleness),
		pool_test(test_use_puts_decay_off),
		pool_test(test_decay_takes_only_the_idle),
		pool_test(test_lines_are_as_documented),
		pool_test(test_valid_sees_wrong_counters),
		pool_test(test_valid_sees_a_wrong_region),
		pool_test(test_valid_sees_a_lost_hint),
		pool_test(test_equations_hold_after_each_step),
		pool_test(test_regions_come_and_go_under_four_threads),
	};

	return run_group(tests);
}
