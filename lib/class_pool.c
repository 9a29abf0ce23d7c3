/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See class_pool.h.  open.c has the way in, retire.c the ways out, decommit.c
 * the cold slices. */
#include "class_pool.h"

#include "assert.h"
#include "os.h"
#include "poison.h"
#include "rcu.h"

void class_pool_init(struct class_pool *cp, struct allocator *a,
		     int class_index, size_t most_bytes)
{
	cp->allocator = a;
	cp->budget = a->budget;
	cp->class_index = class_index;
	cp->slice_bytes = (size_t)SEG_MIN_BYTES << class_index;
	cp->most_bytes = most_bytes;
}

bool class_pool_clear(struct class_pool *cp)
{
	return region_store_clear(&cp->store) && bands_clear(&cp->bands);
}

static void was_taken_from(struct class_pool *cp, struct region *r,
			   const struct word_change *change)
{
	bands_changed(&cp->bands, r, change->old, change->new);
	if (__builtin_expect(word_unused(change->new) < r->low, 0))
		class_pool_ask_ahead(cp, r);
}

/* Takes one slice of a region. */
static struct taken take_from(struct class_pool *cp, struct region *r)
{
	struct taken t = { .segment = NULL };
	struct word_change change;
	uint32_t slice;

	if (!region_take(r, 1, &slice, &t.fresh, &change))
		return t;
	was_taken_from(cp, r, &change);
	t.segment = region_slice(r, slice);
	taken_show(&t, cp->slice_bytes);
	return t;
}

/*
 * A hint that proves wrong is put right, so that each round either takes, or
 * mends a hint, or was overtaken by another thread that took.
 */
struct taken class_pool_take(struct class_pool *cp)
{
	struct taken t = { .segment = NULL };
	struct region *r;

	rcu_enter();
	while (!t.segment && (r = bands_pick(&cp->bands)) != NULL) {
		t = take_from(cp, r);
		if (!t.segment)
			bands_settle(&cp->bands, r->slot);
	}
	rcu_leave();
	if (t.segment)
		counter_add(&cp->allocations);
	return t;
}

uint32_t class_pool_take_unused(struct class_pool *cp, uint32_t want,
				uint32_t *ret_slices,
				struct region **ret_region)
{
	struct word_change change;
	uint32_t n = 0;
	struct region *r;

	rcu_enter();
	while (!n && (r = bands_pick(&cp->bands)) != NULL) {
		n = region_take_unused(r, want, ret_slices, &change);
		if (n)
			was_taken_from(cp, r, &change);
		else
			bands_settle(&cp->bands, r->slot);
		*ret_region = r;
	}
	rcu_leave();
	return n;
}

struct taken class_pool_hand_out(struct class_pool *cp, struct region *r,
				 uint32_t slice)
{
	struct taken t = { .segment = region_slice(r, slice) };

	t.fresh = region_hand_out(r, slice);
	counter_add(&cp->allocations);
	taken_show(&t, cp->slice_bytes);
	return t;
}

struct taken class_pool_take_unhinted(struct class_pool *cp)
{
	struct taken t = { .segment = NULL };
	uint32_t slots = bands_slots(&cp->bands);

	rcu_enter();
	for (uint32_t slot = 0; !t.segment && slot < slots; slot++) {
		struct region *r = bands_at(&cp->bands, slot);

		if (r)
			t = take_from(cp, r);
	}
	rcu_leave();
	if (t.segment)
		counter_add(&cp->allocations);
	return t;
}

struct taken class_pool_take_any(struct class_pool *cp)
{
	struct taken t = class_pool_take_unhinted(cp);

	return t.segment ? t : class_pool_take_any_cold(cp);
}

void class_pool_put_back(struct class_pool *cp, struct region *r,
			 const uint32_t *slices, uint32_t count)
{
	struct word_change change;

	seg_assert(rcu_inside());
	change = region_give_all(r, slices, count);
	bands_changed(&cp->bands, r, change.old, change.new);
}

void class_pool_give_all(struct class_pool *cp, struct region *r,
			 const uint32_t *slices, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		void *slice = region_slice(r, slices[i]);

		poison_released(slice, cp->slice_bytes,
				cp->allocator->tail_bytes);
	}
	class_pool_put_back(cp, r, slices, count);
	counter_add_many(&cp->releases, count);
}

void class_pool_give(struct class_pool *cp, struct region *r, uint32_t slice)
{
	class_pool_give_all(cp, r, &slice, 1);
}

void allocator_note_error(struct allocator *a, int error)
{
	/* relaxed: for the failure record */
	u32_store_relaxed(&a->error, (uint32_t)error);
	/* release -> record_error(), seg_pool_drain(): the error */
	u64_store_release(&a->error_ns, os_now_ns());
}

struct allocator_total allocator_total(const struct allocator *a)
{
	uint64_t word = budget_look(a->budget);

	return (struct allocator_total){
		.charged_kb = budget_word_charged(word) / 1024,
		.limit_kb = budget_word_limit(word) / 1024,
		.mapped_kb = gauge_value(&a->mapped) / 1024,
	};
}

struct class_sum class_pool_sum_regions(struct class_pool *cp)
{
	struct class_sum sum = { 0 };
	uint32_t slots = bands_slots(&cp->bands);

	rcu_enter();
	for (uint32_t slot = 0; slot < slots; slot++) {
		struct region *r = bands_at(&cp->bands, slot);
		uint64_t word = r ? region_look(r) : REGION_RETIRED;

		if (word_retired(word))
			continue;
		sum.regions++;
		sum.slices += r->slices;
		sum.unused += word_unused(word);
		sum.cold += region_cold(r);
		sum.spares += region_is_idle(r, word);
	}
	rcu_leave();
	return sum;
}

struct class_sum class_pool_sum(struct class_pool *cp)
{
	struct class_sum sum = class_pool_sum_regions(cp);
	struct stash_sum stashed;
	uint32_t strays;

	stashed = stashes_sum(&cp->allocator->stashes, cp, cp->class_index);
	strays = u32_load_relaxed(&cp->strays); /* relaxed: a number */
	stashed.parked += strays;
	stashed.parked += u32_load_relaxed(&cp->backing); /* relaxed: same */
	stashed.releases += strays;
	/* A moment's numbers of many words. */
	if (stashed.parked > sum.slices - sum.unused - sum.cold)
		stashed.parked = sum.slices - sum.unused - sum.cold;
	sum.cached = stashed.parked;
	sum.allocations = counter_sum(&cp->allocations) + stashed.allocations;
	sum.releases = counter_sum(&cp->releases) + stashed.releases;
	return sum;
}

/* The region is where table and hints say, and its own equations hold. */
static bool region_fits(struct class_pool *cp, struct region *r,
			uint64_t *parked)
{
	unsigned band = bands_of(r, region_look(r));
	struct region_table *table = &cp->allocator->table;
	const char *last = region_base(r) + r->bytes - 1;
	uint32_t here;
	bool valid = region_check(r, &here);

	*parked += here;
	return valid && r->pool == cp &&
	       r->bytes == r->slices * cp->slice_bytes &&
	       region_table_find(table, region_base(r), NULL) == r &&
	       region_table_find(table, last, NULL) == r &&
	       bands_has_hint(&cp->bands, r->slot) == (band != BAND_NONE) &&
	       bands_has(&cp->bands, BAND_COLD, r->slot) ==
		       (region_cold(r) != 0);
}

static bool sums_fit(struct class_pool *cp, uint64_t bytes, uint64_t parked)
{
	struct class_sum sum = class_pool_sum(cp);

	/* relaxed, all of these: counters, and nobody changes them */
	return sum.cached == parked &&
	       sum.allocations - sum.releases == class_sum_active(sum) &&
	       sum.regions == u64_load_relaxed(&cp->regions_mapped) -
				      u64_load_relaxed(&cp->regions_retired) &&
	       gauge_value(&cp->mapped) ==
		       bytes + u64_load_relaxed(&cp->deferred_bytes) &&
	       u64_load_relaxed(&cp->cold_bytes) ==
		       sum.cold * cp->slice_bytes +
			       u64_load_relaxed(&cp->deferred_cold_bytes);
}

bool class_pool_is_valid(struct class_pool *cp)
{
	uint32_t slots = bands_slots(&cp->bands);
	uint64_t bytes = 0, parked = 0;
	bool valid = true;

	rcu_enter();
	for (uint32_t slot = 0; slot < slots; slot++) {
		struct region *r = bands_at(&cp->bands, slot);

		if (!r)
			continue;
		bytes += r->bytes;
		valid = region_fits(cp, r, &parked) && valid;
	}
	valid = valid && sums_fit(cp, bytes, parked);
	rcu_leave();
	return valid;
}
