/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a pool says of itself: the equations of seg.h (P2), regions, log lines
 * word for word, and that the validity walk finds what was corrupted.
 */
#include "one_node.h"
#include "pools.h"

#include "pool.h"
#include "rcu.h"

/* The equations of struct seg_pool_stats, nobody being in a call. */
static void assert_equations(const struct seg_pool_stats *s)
{
	assert_int_equal(s->active + s->cached + s->unused + s->decommitted,
			 s->slices);
	assert_int_equal(s->allocations_total - s->releases_total, s->active);
	assert_true(s->mapped_bytes >= s->charged_bytes + s->decommitted_bytes);
	if (s->deferred_regions == 0)
		assert_int_equal(s->mapped_bytes,
				 s->charged_bytes + s->decommitted_bytes);
	assert_int_equal(s->regions_mapped_total,
			 s->regions + s->regions_retired_total);
	assert_int_equal(s->regions_retired_total,
			 s->deferred_regions + s->regions_unmapped_total);
	assert_true(s->spare_regions <= s->regions);
	assert_true(s->peak_mapped_bytes >= s->mapped_bytes);
	assert_true(s->regions == 0 || s->metadata_bytes > 0);
}

static void add(uint64_t *sum, uint64_t value)
{
	*sum += value;
}

/* The whole is the sum of its classes. */
static void assert_sums(struct seg_pool *pool)
{
	struct seg_pool_stats all = figures(pool, SEG_ALL), sum = { 0 };

	for (int c = 0; c < SEG_CLASSES; c++) {
		struct seg_pool_stats s = figures(pool, c);

		assert_int_equal(s.active_bytes, s.active * slice_of(c));
		assert_int_equal(s.mapped_bytes,
				 s.slices * slice_of(c) + s.deferred_bytes);
		assert_int_equal(s.misuses_total, 0);
		add(&sum.active, s.active);
		add(&sum.cached, s.cached);
		add(&sum.active_bytes, s.active_bytes);
		add(&sum.slices, s.slices);
		add(&sum.regions, s.regions);
		add(&sum.spare_regions, s.spare_regions);
		add(&sum.mapped_bytes, s.mapped_bytes);
		add(&sum.allocations_total, s.allocations_total);
		add(&sum.releases_total, s.releases_total);
		add(&sum.regions_mapped_total, s.regions_mapped_total);
	}
	assert_int_equal(all.active, sum.active);
	assert_int_equal(all.cached, sum.cached);
	assert_int_equal(all.active_bytes, sum.active_bytes);
	assert_int_equal(all.slices, sum.slices);
	assert_int_equal(all.regions, sum.regions);
	assert_int_equal(all.spare_regions, sum.spare_regions);
	assert_int_equal(all.mapped_bytes, sum.mapped_bytes);
	assert_int_equal(all.allocations_total, sum.allocations_total);
	assert_int_equal(all.releases_total, sum.releases_total);
	assert_int_equal(all.regions_mapped_total, sum.regions_mapped_total);
}

static void test_the_equations_hold_at_rest(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	enum { HELD = 64 };
	struct {
		void *segment;
		int c;
	} held[HELD] = { { 0 } };
	uint64_t out[SEG_CLASSES] = { 0 };
	uint64_t seed = random_seed(0xca11);

	(void)state;
	for (int i = 0; i < 2000; i++) {
		unsigned at = (unsigned)random_below(&seed, HELD);
		int c = (int)random_below(&seed, SEG_CLASSES);

		if (held[at].segment) {
			require(!seg_release(pool, held[at].segment));
			out[held[at].c]--;
			held[at].segment = NULL;
		} else {
			held[at].segment = seg_alloc(pool, slice_of(c));
			require(held[at].segment);
			held[at].c = c;
			out[c]++;
		}
		if (i % 100)
			continue;
		for (c = SEG_ALL; c < SEG_CLASSES; c++) {
			struct seg_pool_stats s = figures(pool, c);

			assert_equations(&s);
			if (c >= 0)
				assert_int_equal(s.active, out[c]);
		}
		assert_sums(pool);
		assert_true(seg_pool_is_valid(pool));
	}
	for (int i = 0; i < HELD; i++)
		assert_int_equal(seg_release(pool, held[i].segment), 0);
	end_both(pool, b);
}

static void test_figures_of_one_region(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool_with((struct seg_pool_options){
		.budget = b, .region_bytes = 64 * KIB, .decay_ms = 600000 });
	void *segment = seg_alloc(pool, slice_of(1));
	struct seg_pool_stats s = figures(pool, 1);

	(void)state;
	assert_int_equal(s.size, sizeof(s));
	assert_int_equal(s.active, 1);
	assert_int_equal(s.unused, 7);
	assert_int_equal(s.slices, 8);
	assert_int_equal(s.active_bytes, 8 * KIB);
	assert_int_equal(s.regions, 1);
	assert_int_equal(s.spare_regions, 0);
	assert_int_equal(s.mapped_bytes, 64 * KIB);
	assert_int_equal(seg_release(pool, segment), 0);
	s = figures(pool, 1);
	assert_int_equal(s.active, 0);
	assert_int_equal(s.active_bytes, 0);
	assert_int_equal(s.cached, sections_begin());
	assert_int_equal(s.cached + s.unused, 8);
	assert_int_equal(s.spare_regions, 0);
	assert_equations(&s);
	gather_own(&pool->allocator);
	s = figures(pool, 1);
	assert_int_equal(s.cached, 0);
	assert_int_equal(s.spare_regions, 1);
	assert_int_equal(s.unused, 8);
	assert_equations(&s);
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	s = figures(pool, 1);
	assert_int_equal(s.slices, 0);
	assert_int_equal(s.regions, 0);
	assert_int_equal(s.mapped_bytes, 0);
	assert_int_equal(s.peak_mapped_bytes, 64 * KIB);
	assert_int_equal(s.regions_unmapped_total, 1);
	end_both(pool, b);
}

/* The caller's struct may be of an older or a newer version. */
static void test_figures_of_other_versions(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);
	void *segment = seg_alloc(pool, 1);
	struct {
		struct seg_pool_stats known;
		uint64_t later;
	} s;

	(void)state;
	memset(&s, 0xff, sizeof(s));
	s.known.size = 2 * sizeof(size_t);
	assert_int_equal(seg_pool_stats(pool, SEG_ALL, 0, &s.known), 0);
	assert_int_equal(s.known.active, 1);
	assert_int_equal(s.known.cached, UINT64_MAX);
	s.known.size = sizeof(s);
	assert_int_equal(seg_pool_stats(pool, SEG_ALL, 0, &s.known), 0);
	assert_int_equal(s.known.cached, 0);
	assert_int_equal(s.later, 0);
	assert_int_equal(s.known.size, sizeof(s));
	assert_int_equal(seg_release(pool, segment), 0);
	end_both(pool, b);
}

/* ----------------------------------------------------------------- regions */

static void test_region_of(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool_with((struct seg_pool_options){
		.budget = b, .region_bytes = 64 * KIB, .decay_ms = 600000 });
	struct seg_region_info info = { .size = sizeof(info) };
	char *segment = seg_alloc(pool, slice_of(2));
	struct seg_handle handle;

	(void)state;
	assert_int_equal(seg_region_of(pool, segment + 99, &info), 0);
	assert_true(segment >= (char *)info.base &&
		    segment < (char *)info.base + info.bytes);
	assert_int_equal(info.bytes, 64 * KIB);
	assert_int_equal(info.class_index, 2);
	assert_int_equal(info.slices, 4);
	assert_int_equal(info.unused, 3);
	assert_int_equal(seg_handle_of(pool, segment, &handle), 0);
	assert_int_equal(info.region, handle.region);
	assert_int_equal(seg_region_of(pool, (char *)info.base + info.bytes,
				       &info), -ENOENT);
	assert_int_equal(seg_region_of(pool, &info, &info), -ENOENT);
	assert_int_equal(seg_region_of(pool, NULL, &info), -EINVAL);
	assert_int_equal(seg_region_of(pool, segment, NULL), -EINVAL);
	info.size = 1;
	assert_int_equal(seg_region_of(pool, segment, &info), -EINVAL);
	info.size = sizeof(info);
	assert_int_equal(seg_release(pool, segment), 0);
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	assert_int_equal(seg_region_of(pool, segment, &info), -ENOENT);
	end_both(pool, b);
}

struct walk {
	unsigned regions;
	unsigned stop_after;
	uint64_t bytes;
	uint64_t unused;
	unsigned classes;
};

static int walk_region(void *ctx, const struct seg_region_info *info)
{
	struct walk *w = ctx;

	w->regions++;
	w->bytes += info->bytes;
	w->unused += info->unused;
	w->classes |= 1u << info->class_index;
	require(info->size == sizeof(*info));
	require(info->slices * slice_of(info->class_index) == info->bytes);
	return w->regions == w->stop_after ? 42 : 0;
}

static void test_region_each(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	void *segment[SEG_CLASSES];
	struct walk w = { 0 };

	(void)state;
	assert_int_equal(seg_region_each(pool, walk_region, &w), 0);
	assert_int_equal(w.regions, 0);
	for (int c = 0; c < SEG_CLASSES; c++)
		segment[c] = seg_alloc(pool, slice_of(c));
	assert_int_equal(seg_region_each(pool, walk_region, &w), 0);
	assert_int_equal(w.regions, SEG_CLASSES);
	assert_int_equal(w.classes, 0x7f);
	assert_int_equal(w.bytes, charged(b));
	assert_int_equal(w.unused, figures(pool, SEG_ALL).unused);
	w = (struct walk){ .stop_after = 3 };
	assert_int_equal(seg_region_each(pool, walk_region, &w), 42);
	assert_int_equal(w.regions, 3);
	assert_int_equal(seg_region_each(pool, NULL, &w), -EINVAL);
	for (int c = 0; c < SEG_CLASSES; c++)
		assert_int_equal(seg_release(pool, segment[c]), 0);
	end_both(pool, b);
}

/* -------------------------------------------------------------- log lines */

static void expect_line(struct events *e, unsigned at, const char *line,
			enum seg_log_level level)
{
	assert_string_equal(e->lines.line[at], line);
	assert_int_equal(e->lines.level[at], level);
}

/* Words that operators search for: not one may change. */
static void test_lines_word_for_word(void **state)
{
	struct events e = EVENTS_INIT;
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool_with((struct seg_pool_options){
		.budget = b, .region_bytes = 64 * KIB, .decay_ms = 600000,
		.log = recorder_log, .log_ctx = &e.lines,
		.log_level = SEG_LOG_SEGMENT });
	void *segment[2];

	(void)state;
	segment[0] = seg_alloc(pool, 5000);
	segment[1] = seg_alloc(pool, 70000);
	assert_int_equal(seg_release(pool, segment[0]), 0);
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	assert_int_equal(seg_release(pool, segment[1]), 0);
	assert_int_equal(recorder_count(&e.lines), 7);
	expect_line(&e, 0, "Allocated new region for pool 1 (size 8192): 64 KB "
		    "with 8 slices (total mapped now: 64 KB of 1024 KB, "
		    "address space 64 KB)", SEG_LOG_REGION);
	expect_line(&e, 1, "allocate() size=5000, pool 1 now has 7 segments "
		    "remaining", SEG_LOG_SEGMENT);
	expect_line(&e, 2, "Allocated new region for pool 5 (size 131072): "
		    "128 KB with 1 slices (total mapped now: 192 KB of 1024 KB,"
		    " address space 192 KB)", SEG_LOG_REGION);
	expect_line(&e, 3, "allocate() size=70000, pool 5 now has 0 segments "
		    "remaining", SEG_LOG_SEGMENT);
	expect_line(&e, 4, "Segment returned to pool 1, pool now has 8 "
		    "segments", SEG_LOG_SEGMENT);
	expect_line(&e, 5, "Freed region from pool 1: 64 KB (total mapped now: "
		    "128 KB of 1024 KB, address space 128 KB)", SEG_LOG_REGION);
	expect_line(&e, 6, "Segment returned to pool 5, pool now has 1 "
		    "segments", SEG_LOG_SEGMENT);
	end_both(pool, b);
	assert_int_equal(recorder_count(&e.lines), 8);
}

/* "Total" is of all pools that share the budget. */
static void test_lines_of_a_shared_budget(void **state)
{
	struct events e = EVENTS_INIT;
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *other = make_pool(b);
	struct seg_pool *pool = make_pool_events(b, &e, SEG_LOG_DEFAULT);
	void *theirs = seg_alloc(other, SEG_MAX_BYTES);
	void *ours = seg_alloc(pool, SEG_MAX_BYTES);

	(void)state;
	expect_line(&e, 0, "Allocated new region for pool 6 (size 262144): "
		    "256 KB with 1 slices (total mapped now: 512 KB of 1024 KB,"
		    " address space 256 KB)", SEG_LOG_REGION);
	assert_int_equal(seg_release(pool, ours), 0);
	assert_int_equal(recorder_count(&e.lines), 1);
	end_pool(pool);
	expect_line(&e, 1, "Freed region from pool 6: 256 KB (total mapped now:"
		    " 256 KB of 1024 KB, address space 0 KB)", SEG_LOG_REGION);
	assert_int_equal(seg_release(other, theirs), 0);
	end_both(other, b);
}

static void test_levels(void **state)
{
	const struct {
		enum seg_log_level level;
		unsigned lines;
	} levels[] = {
		{ SEG_LOG_DEFAULT, 3 }, { SEG_LOG_OFF, 0 },
		{ SEG_LOG_ERROR, 1 }, { SEG_LOG_REGION, 3 },
		{ SEG_LOG_EVICT, 3 }, { SEG_LOG_SEGMENT, 5 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(levels) / sizeof(*levels); i++) {
		struct events e = EVENTS_INIT;
		struct seg_budget *b = new_budget(MIB);
		struct seg_pool *pool = make_pool_events(b, &e,
							 levels[i].level);
		void *segment = seg_alloc(pool, 1);

		assert_int_equal(seg_release(pool, segment), 0);
		assert_int_equal(seg_release(pool, segment), -ESTALE);
		assert_int_equal(e.misuses, 1);
		assert_int_equal(seg_pool_trim(pool, NULL), 0);
		assert_int_equal(recorder_count(&e.lines), levels[i].lines);
		end_both(pool, b);
	}
}

/* ----------------------------------------------------------------- validity */

static struct region *region_at(struct seg_pool *pool, const void *segment)
{
	struct region *r;

	rcu_enter();
	r = region_table_find(&pool->allocator.table, segment, NULL);
	rcu_leave();
	assert_non_null(r);
	return r;
}

/* Breaks one word, looks, mends it. */
static void breaks_u64(struct seg_pool *pool, struct atomic_u64 *word,
		       uint64_t broken)
{
	uint64_t right = u64_load_relaxed(word);

	assert_true(seg_pool_is_valid(pool));
	u64_store_relaxed(word, broken);
	assert_false(seg_pool_is_valid(pool));
	u64_store_relaxed(word, right);
	assert_true(seg_pool_is_valid(pool));
}

static void raises_u64(struct seg_pool *pool, struct atomic_u64 *word)
{
	breaks_u64(pool, word, u64_load_relaxed(word) + 1);
}

static void test_corruption_of_a_region_is_found(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);
	void *held[3];
	struct region *r;
	uint64_t word;

	(void)state;
	for (int i = 0; i < 3; i++)
		held[i] = seg_alloc(pool, 1);
	assert_int_equal(seg_release(pool, held[1]), 0);
	r = region_at(pool, held[0]);
	word = region_look(r);
	breaks_u64(pool, &r->word, word_next(word, word_head(word),
					     word_unused(word) - 1));
	breaks_u64(pool, &r->word, word_next(word, word_head(word),
					     word_unused(word) + 1));
	breaks_u64(pool, &r->word, word_next(word, 0, word_unused(word)));
	breaks_u64(pool, &r->word, word | REGION_RETIRED);
	for (int i = 0; i < 4; i++)
		raises_u64(pool, &r->generations[i]);
	/* Of one that stands on the list. */
	u16_store_relaxed(&r->links[word_head(word) + 1], 7);
	assert_false(seg_pool_is_valid(pool));
	u16_store_relaxed(&r->links[word_head(word) + 1], 0);
	assert_true(seg_pool_is_valid(pool));
	assert_int_equal(seg_release(pool, held[0]), 0);
	assert_int_equal(seg_release(pool, held[2]), 0);
	end_both(pool, b);
}

static void test_corruption_of_the_figures_is_found(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);
	struct class_pool *cp = &pool->node.pools[0];
	void *held = seg_alloc(pool, 1);
	uint64_t word = budget_look(b);

	(void)state;
	raises_u64(pool, &cp->allocations.stripe[0].value);
	raises_u64(pool, &cp->releases.stripe[7].value);
	raises_u64(pool, &cp->regions_mapped);
	raises_u64(pool, &cp->regions_retired);
	raises_u64(pool, &cp->deferred_bytes);
	breaks_u64(pool, &cp->cold_bytes, SEG_MIN_BYTES);
	raises_u64(pool, &cp->mapped.value);
	raises_u64(pool, &pool->allocator.mapped.value);
	/* Less charged than mapped; more charged than allowed. */
	breaks_u64(pool, &b->word, word - 1);
	breaks_u64(pool, &b->word, budget_word((word & UINT32_MAX) - 1,
					       word & UINT32_MAX));
	assert_int_equal(seg_release(pool, held), 0);
	end_both(pool, b);
}

static void test_corruption_of_table_and_hints_is_found(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);
	void *held = seg_alloc(pool, 1);
	struct region *r = region_at(pool, held);
	struct bands *bands = &pool->node.pools[0].bands;
	struct band_group *group = ptr_load_relaxed(&bands->group[0]);
	struct atomic_u64 *leaf = NULL;

	(void)state;
	region_table_remove(&pool->allocator.table, r);
	assert_false(seg_pool_is_valid(pool));
	assert_true(region_table_insert(&pool->allocator.table, r));
	assert_true(seg_pool_is_valid(pool));
	for (unsigned band = 0; band <= BAND_SPARE; band++)
		if (u64_load_relaxed(&group->set[band].leaf[0]))
			leaf = &group->set[band].leaf[0];
	assert_non_null(leaf);
	breaks_u64(pool, leaf, 0);
	assert_int_equal(seg_release(pool, held), 0);
	end_both(pool, b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_equations_hold_at_rest),
		cmocka_unit_test(test_figures_of_one_region),
		cmocka_unit_test(test_figures_of_other_versions),
		cmocka_unit_test(test_region_of),
		cmocka_unit_test(test_region_each),
		cmocka_unit_test(test_lines_word_for_word),
		cmocka_unit_test(test_lines_of_a_shared_budget),
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_corruption_of_a_region_is_found),
		cmocka_unit_test(test_corruption_of_the_figures_is_found),
		cmocka_unit_test(test_corruption_of_table_and_hints_is_found),
	};

	return run_group(tests);
}
