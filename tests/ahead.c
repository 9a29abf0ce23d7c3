/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/ahead.c, and the pages of lib/open.c: a region that runs low has the next
 * one opened, once in its life (A1), and never into the last of the budget; a
 * burst across its edge maps nothing; what is backed ahead goes like all else
 * (A2); nothing is lost where a call of the system fails (P11); huge pages are
 * asked for where all is charged, and only there (P1).
 */
#define _DEFAULT_SOURCE
#include "decommit.h"

#include "fault_os.h"

enum {
	LOW = SLICES / 4,
	SPARED = LIMIT / 8,
	ROUNDS = 100,
	MOST = 5 * SLICES,
};

static int new_ahead_pool(void **state, enum seg_ahead ahead)
{
	new_class_pool(state);
	f->allocator.ahead = ahead;
	f->allocator.log.level = SEG_LOG_REGION;
	return 0;
}

static int new_mapping_pool(void **state)
{
	return new_ahead_pool(state, SEG_AHEAD_MAP);
}

static int new_backing_pool(void **state)
{
	return new_ahead_pool(state, SEG_AHEAD_BACK);
}

/* What the keeper does at each look; there is none in these tests. */
static void look(void)
{
	if (class_pool_wants_ahead(&f->pool))
		class_pool_open_ahead(&f->pool, REGION);
	while (class_pool_back_ahead(&f->pool))
		;
}

static uint64_t maps(void)
{
	return u64_load_relaxed(&f->pool.regions_mapped);
}

static uint64_t ahead(void)
{
	return u64_load_relaxed(&f->pool.regions_ahead);
}

/* All that is out, to be given back in the end. */
static struct {
	char *slice[MOST];
	unsigned count;
} out;

static void take_many(unsigned count)
{
	while (count--) {
		assert_true(out.count < MOST);
		out.slice[out.count] = take();
		assert_non_null(out.slice[out.count++]);
	}
}

static void give_many(unsigned count)
{
	while (count--)
		give(out.slice[--out.count]);
}

/* A region of which one slice less than LOW is left: it has asked. */
static void use_one_region(void)
{
	out.count = 0;
	out.slice[out.count++] = open_region(SLICES);
	take_many(SLICES - LOW);
	assert_int_equal(out.count, SLICES - LOW + 1);
}

static void go_idle(void)
{
	class_pool_trim(&f->pool);
	keeper_flush();
}

static void test_nothing_unless_told(void **state)
{
	(void)state;
	use_one_region();
	take_many(LOW - 1);
	look();
	assert_int_equal(maps(), 1);
	give_many(out.count);
}

static void test_a_region_that_runs_low_asks(void **state)
{
	(void)state;
	out.count = 0;
	out.slice[out.count++] = open_region(SLICES);
	take_many(SLICES - LOW - 1);
	assert_false(class_pool_wants_ahead(&f->pool));
	take_many(1);
	assert_true(class_pool_wants_ahead(&f->pool));
	look();
	assert_int_equal(maps(), 2);
	assert_int_equal(ahead(), 1);
	assert_int_equal(charged(), 2 * REGION);
	assert_int_equal(class_pool_sum(&f->pool).spares, 1);
	assert_int_equal(recorder_has(&recorder, "Allocated new region"), 2);
	assert_false(class_pool_wants_ahead(&f->pool));
	look();
	assert_int_equal(maps(), 2);
	/* What came ahead is handed out as any other. */
	take_many(LOW - 1 + SLICES);
	assert_null(take());
	assert_int_equal(maps(), 2);
	assert_equations();
	give_many(out.count);
}

/* Growing by what comes ahead, nobody has to map but the first time. */
static void test_each_region_asks_for_the_next(void **state)
{
	(void)state;
	use_one_region();
	look();
	for (uint64_t n = 2; n <= 4; n++) {
		assert_int_equal(maps(), n);
		take_many(SLICES);
		look();
	}
	assert_int_equal(ahead(), maps() - 1);
	assert_int_equal(maps(), 5);
	give_many(out.count);
}

/* (A1): whether the spare is still there, or went in vain. */
static void test_a_burst_across_the_edge_maps_nothing(void **state)
{
	(void)state;
	use_one_region();
	look();
	for (int i = 0; i < ROUNDS; i++) {
		give_many(LOW);
		look();
		take_many(LOW);
		look();
	}
	assert_int_equal(maps(), 2);
	go_idle();
	assert_int_equal(class_pool_sum(&f->pool).regions, 1);
	for (int i = 0; i < ROUNDS; i++) {
		give_many(out.count - 1);
		look();
		take_many(SLICES - 1);
		look();
		go_idle();
	}
	assert_int_equal(maps(), 2);
	give_many(out.count);
	/* A new life asks anew. */
	go_idle();
	use_one_region();
	look();
	assert_int_equal(maps(), 4);
	assert_int_equal(ahead(), 2);
	give_many(out.count);
}

/* Somebody else has so much that less than a region and the rest is left. */
static void test_the_last_of_the_budget_is_left_alone(void **state)
{
	struct seg_budget *b = f->allocator.budget;
	uint64_t others = LIMIT - REGION - (REGION + SPARED - SLICE);

	(void)state;
	use_one_region();
	assert_true(budget_charge(b, others));
	look();
	assert_int_equal(maps(), 1);
	assert_int_equal(budget_stats(b).charge_refusals_total, 0);
	/* The wish stands. */
	budget_uncharge(b, SLICE);
	others -= SLICE;
	look();
	assert_int_equal(maps(), 2);
	assert_int_equal(charged(), LIMIT - SPARED);
	budget_uncharge(b, others);
	give_many(out.count);
}

static void test_enough_is_left_elsewhere(void **state)
{
	char *other;

	(void)state;
	use_one_region();
	other = open_region(SLICES);
	look();
	assert_int_equal(maps(), 2);
	assert_int_equal(ahead(), 0);
	/* The wish stands, until little is left there, too. */
	take_many(LOW - 1 + SLICES / 2);
	look();
	assert_int_equal(ahead(), 1);
	give_many(out.count);
	give(other);
}

static void test_nothing_in_use_wants_nothing(void **state)
{
	(void)state;
	use_one_region();
	give_many(out.count);
	go_idle();
	look();
	assert_int_equal(maps(), 1);
	/* The wish of a former life does not stand. */
	out.slice[out.count++] = open_region(SLICES);
	take_many(SLICES / 2);
	look();
	assert_int_equal(maps(), 2);
	give_many(out.count);
}

static void test_one_who_opens_is_not_doubled(void **state)
{
	(void)state;
	use_one_region();
	assert_true(class_pool_begin_open(&f->pool));
	look();
	assert_int_equal(maps(), 1);
	class_pool_end_open(&f->pool);
	look();
	assert_int_equal(maps(), 2);
	assert_true(class_pool_begin_open(&f->pool));
	class_pool_end_open(&f->pool);
	give_many(out.count);
}

/* ---- backing ---- */

static unsigned backed(char *base)
{
	return backed_of(base, SLICES);
}

/* The kernel may not know how. */
static bool can_back(void)
{
	char *page = os_map(SLICE, SLICE);
	bool can = !os_back(page, SLICE) && backed_of(page, 1);

	os_unmap(page, SLICE);
	if (!can)
		print_message("the kernel backs nothing ahead\n");
	return can;
}

static char *second_region(void)
{
	struct region *r;

	rcu_enter();
	r = bands_at(&f->pool.bands, 1);
	rcu_leave();
	assert_non_null(r);
	return region_base(r);
}

static void test_it_is_backed_and_zero(void **state)
{
	struct taken t;

	(void)state;
	if (!can_back())
		skip();
	use_one_region();
	look();
	assert_int_equal(backed(second_region()), SLICES);
	assert_equations();
	take_many(LOW - 1);
	t = class_pool_take(&f->pool);
	assert_true(t.fresh && is_zero(t.segment));
	give(t.segment);
	give_many(out.count);
}

/* (A2): also where nothing of it was ever handed out. */
static void test_its_backing_goes_like_any_other(void **state)
{
	(void)state;
	use_one_region();
	look();
	assert_int_equal(decommit(UINT64_MAX), REGION + (LOW - 1) * SLICE);
	assert_int_equal(backed(second_region()), 0);
	assert_int_equal(charged(), REGION - (LOW - 1) * SLICE);
	give_many(out.count);
}

/* As what is parked, and not as if somebody had it. */
static void test_what_is_being_backed_counts_as_cached(void **state)
{
	char *base = open_region(SLICES);
	uint32_t slices[SLICES];
	struct region *r;
	uint32_t n = class_pool_take_unused(&f->pool, LOW, slices, &r);
	struct class_sum sum;

	(void)state;
	assert_int_equal(n, LOW);
	u32_store_relaxed(&f->pool.backing, n);
	sum = class_pool_sum(&f->pool);
	assert_int_equal(sum.cached, LOW);
	assert_int_equal(class_sum_active(sum), 1);
	u32_store_relaxed(&f->pool.backing, 0);
	rcu_enter();
	class_pool_put_back(&f->pool, r, slices, n);
	rcu_leave();
	give(base);
}

static void test_it_is_not_backed_where_others_wait(void **state)
{
	(void)state;
	use_one_region();
	budget_wait_begin(f->allocator.budget);
	look();
	budget_wait_end(f->allocator.budget);
	assert_int_equal(ahead(), 1);
	assert_int_equal(backed(second_region()), 0);
	give_many(out.count);
}

static void test_it_is_mapped_only_if_told_so(void **state)
{
	(void)state;
	use_one_region();
	look();
	assert_int_equal(backed(second_region()), 0);
	give_many(out.count);
}

/* ---- faults ---- */

/* The n-th call of the kind fails, until none is left to fail: each time all
 * is as documented, and the next look does it. */
static void sweep(enum fault_kind kind)
{
	uint64_t failed, n = 0;

	do {
		uint64_t before = ahead();

		use_one_region();
		fault_arm(kind, ++n, 1);
		look();
		failed = fault_disarm();
		assert_equations();
		assert_true(ahead() == before + 1 ||
			    (failed && charged() <= 2 * REGION));
		take_many(LOW - 1);
		if (ahead() > before)
			take_many(SLICES);
		assert_null(take());
		give_many(out.count);
		go_idle();
		keeper_flush();
		assert_int_equal(charged(), 0);
	} while (failed);
	print_message("%llu calls of kind %d\n", (unsigned long long)n - 1,
		      kind);
	assert_true(n > 1);
}

static void test_each_map_fails(void **state)
{
	(void)state;
	sweep(FAULT_MAP);
	assert_true(recorder_has(&recorder, "Cannot map region for pool 0"));
}

static void test_each_advice_fails(void **state)
{
	(void)state;
	sweep(FAULT_ADVISE);
	assert_false(recorder_has(&recorder, "Cannot map region"));
}

/* ---- pages ---- */

/* Whether the kernel has that flag for the mapping there; see proc(5). */
static bool has_flag(const void *address, const char *flag)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	unsigned long from, to;
	bool here = false, found = false;
	char line[512];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			here = from <= (uintptr_t)address &&
			       (uintptr_t)address < to;
		else if (here && !strncmp(line, "VmFlags:", 8))
			found = strstr(line, flag) != NULL;
	}
	fclose(file);
	return found;
}

static bool has_huge_pages(void)
{
	bool has = !access("/sys/kernel/mm/transparent_hugepage", F_OK) &&
		   !emulated("no flags of mappings");

	if (!has)
		print_message("the kernel has no huge pages\n");
	return has;
}

/* Asked for, refused, or neither. */
static void assert_pages(enum seg_huge_pages wanted, size_t bytes,
			 uint32_t charged_slices, bool asked, bool refused)
{
	struct taken t;
	struct seg_budget *b = f->allocator.budget;

	f->allocator.huge_pages = wanted;
	assert_true(budget_try_limit(b, 4 * REGION_ALIGN));
	assert_int_equal(class_pool_open(&f->pool, bytes, charged_slices, &t),
			 OPEN_DONE);
	assert_int_equal(has_flag(t.segment, " hg"), asked);
	assert_int_equal(has_flag(t.segment, " nh"), refused);
	give(t.segment);
	go_idle();
	assert_true(budget_try_limit(b, LIMIT));
}

static void test_which_pages_are_asked_for(void **state)
{
	(void)state;
	if (!has_huge_pages())
		skip();
	assert_pages(SEG_HUGE_PAGES_SYSTEM, REGION_ALIGN, HUGE_SLICES, false,
		     false);
	assert_pages(SEG_HUGE_PAGES_ASK, REGION_ALIGN, HUGE_SLICES, true,
		     false);
	assert_pages(SEG_HUGE_PAGES_ASK, REGION_ALIGN / 2, HUGE_SLICES / 2,
		     false, false);
	assert_pages(SEG_HUGE_PAGES_NEVER, REGION_ALIGN, HUGE_SLICES, false,
		     true);
	/* What is cold may not be backed by a neighbour. */
	assert_pages(SEG_HUGE_PAGES_ASK, REGION_ALIGN, HUGE_SLICES - 1, false,
		     true);
}

/* How many huge pages the kernel has split, whoever's; 0: it does not tell. */
static unsigned long long splits(void)
{
	static const char name[] = "thp_split_page ";
	FILE *file = fopen("/proc/vmstat", "re");
	unsigned long long count = 0;
	char line[128];

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, name, strlen(name)))
			count = strtoull(line + strlen(name), NULL, 10);
	if (file)
		fclose(file);
	return count;
}

/* One that gives slices up later keeps only those that are charged, and the
 * kernel none of the others. */
static void test_a_region_with_huge_pages_cools(void **state)
{
	struct taken t;
	unsigned long long before = splits();
	unsigned first;		/* of the pages, that are backed */
	char *base;

	(void)state;
	if (!has_huge_pages())
		skip();
	f->allocator.huge_pages = SEG_HUGE_PAGES_ASK;
	assert_true(budget_try_limit(f->allocator.budget, 4 * REGION_ALIGN));
	assert_int_equal(class_pool_open(&f->pool, REGION_ALIGN, HUGE_SLICES,
					 &t), OPEN_DONE);
	base = memset(t.segment, 1, SLICE);
	first = backed(base);	/* 1: it got none */
	assert_int_equal(decommit(REGION_ALIGN / 2), REGION_ALIGN / 2);
	if (first == SLICES && before)
		assert_true(splits() > before);
	assert_true(has_flag(base, " nh"));
	assert_int_equal(backed(base), first);
	assert_int_equal(backed(base + REGION_ALIGN - REGION), 0);
	assert_int_equal(decommit(UINT64_MAX), REGION_ALIGN / 2 - SLICE);
	assert_int_equal(backed(base), 1);
	assert_int_equal(backed(base + REGION_ALIGN - REGION), 0);
	give(base);
	go_idle();
	assert_true(budget_try_limit(f->allocator.budget, LIMIT));
}

/* The advice is refused: the region is as good with small ones. */
static void test_the_advice_may_fail(void **state)
{
	struct taken t;

	(void)state;
	f->allocator.huge_pages = SEG_HUGE_PAGES_ASK;
	assert_true(budget_try_limit(f->allocator.budget, 4 * REGION_ALIGN));
	fault_arm(FAULT_ADVISE, 1, 1);
	assert_int_equal(class_pool_open(&f->pool, REGION_ALIGN, HUGE_SLICES,
					 &t), OPEN_DONE);
	assert_int_equal(fault_disarm(), 1);
	give(t.segment);
	go_idle();
	f->allocator.huge_pages = SEG_HUGE_PAGES_NEVER;
	fault_arm(FAULT_ADVISE, 1, 1);
	assert_int_equal(class_pool_open(&f->pool, REGION_ALIGN, HUGE_SLICES,
					 &t), OPEN_NO_MEMORY);
	assert_int_equal(fault_disarm(), 1);
	keeper_flush();
	assert_int_equal(charged(), 0);
	assert_true(budget_try_limit(f->allocator.budget, LIMIT));
}

int main(void)
{
#define mapping_test(t)                                                        \
	cmocka_unit_test_setup_teardown(t, new_mapping_pool, end_class_pool)
#define backing_test(t)                                                        \
	cmocka_unit_test_setup_teardown(t, new_backing_pool, end_class_pool)
	const struct CMUnitTest tests[] = {
		pool_test(test_nothing_unless_told),
		mapping_test(test_a_region_that_runs_low_asks),
		mapping_test(test_each_region_asks_for_the_next),
		mapping_test(test_a_burst_across_the_edge_maps_nothing),
		mapping_test(test_the_last_of_the_budget_is_left_alone),
		mapping_test(test_enough_is_left_elsewhere),
		mapping_test(test_nothing_in_use_wants_nothing),
		mapping_test(test_one_who_opens_is_not_doubled),
		mapping_test(test_it_is_mapped_only_if_told_so),
		backing_test(test_it_is_backed_and_zero),
		backing_test(test_its_backing_goes_like_any_other),
		backing_test(test_what_is_being_backed_counts_as_cached),
		backing_test(test_it_is_not_backed_where_others_wait),
		backing_test(test_each_map_fails),
		backing_test(test_each_advice_fails),
		pool_test(test_which_pages_are_asked_for),
		pool_test(test_a_region_with_huge_pages_cools),
		pool_test(test_the_advice_may_fail),
	};

	return run_group(tests);
}
