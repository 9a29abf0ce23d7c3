/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See class_pool.h.  retire.c has the ways out, decommit.c the cold slices. */
#include "class_pool.h"

#include <errno.h>
#include <string.h>

#include "assert.h"
#include "cold.h"
#include "keeper.h"
#include "os.h"
#include "poison.h"
#include "rcu.h"
#include "topology.h"

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

/* Tells the checkers. */
static void show(struct class_pool *cp, const struct taken *t)
{
	if (t->fresh)
		poison_handed_out_zero(t->segment, cp->slice_bytes);
	else
		poison_handed_out(t->segment, cp->slice_bytes);
}

/* Takes one slice of a region. */
static struct taken take_from(struct class_pool *cp, struct region *r)
{
	struct taken t = { .segment = NULL };
	struct word_change change;
	uint32_t slice;

	if (!region_take(r, 1, &slice, &t.fresh, &change))
		return t;
	bands_changed(&cp->bands, r, change.old, change.new);
	t.segment = region_slice(r, slice);
	show(cp, &t);
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
			bands_changed(&cp->bands, r, change.old, change.new);
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
	show(cp, &t);
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

static void log_opened(struct class_pool *cp, size_t bytes)
{
	struct allocator_total t;

	if (!log_wants(&cp->allocator->log, SEG_LOG_REGION))
		return;
	t = allocator_total(cp->allocator);
	log_event(&cp->allocator->log, SEG_LOG_REGION,
		  "Allocated new region for pool %d (size %zu): %zu KB with "
		  "%zu slices (total mapped now: %llu KB of %llu KB, address "
		  "space %llu KB)", cp->class_index, cp->slice_bytes,
		  bytes / 1024, bytes / cp->slice_bytes, t.charged_kb,
		  t.limit_kb, t.mapped_kb);
}

/* Once for each struct: wrong releases read these. */
static void set_constants(struct class_pool *cp, struct region *r, size_t bytes)
{
	r->bytes = bytes;
	r->slice_bytes = cp->slice_bytes;
	r->slice_bits = (uint16_t)__builtin_ctzl(cp->slice_bytes);
	r->class_index = (uint16_t)cp->class_index;
	r->magazine_at = (uint32_t)((size_t)cp->class_index *
				    sizeof(struct magazine));
	r->pool = cp;
	r->unmap.run = class_pool_unmap;
}

/* What a region before it has left there is reset. */
static void reset(struct class_pool *cp, struct region *r)
{
	r->born_small = false;
	r->stuck = false;
	r->idle_word = 0;
	/* relaxed, all: published with the region */
	u32_store_relaxed(&r->small_pages, 0);
	u64_store_relaxed(&r->kept_since_ns, 0);
	u64_store_relaxed(&r->serial,
			  u64_add_relaxed(&cp->allocator->serials, 1) + 1);
}

/* With its slices mapped, the first of them taken; or NULL and errno. */
static struct region *new_region(struct class_pool *cp, size_t bytes)
{
	struct region *r = region_store_get(
		&cp->store, (uint32_t)(bytes / cp->slice_bytes), 1);
	void *base;

	if (!r)
		return NULL;
	if (!r->pool)
		set_constants(cp, r, bytes);
	base = os_map(bytes + allocator_tail_map(cp->allocator), REGION_ALIGN);
	if (!base) {
		int saved = errno;

		region_store_put(&cp->store, r);
		errno = saved;
		return NULL;
	}
	reset(cp, r);
	region_set_base(r, base);
	return r;
}

/* A region that nobody knows yet, or NULL; the charge is made. */
static struct region *region_map(struct class_pool *cp, size_t bytes,
				 uint32_t charged_slices)
{
	uint32_t slices = (uint32_t)(bytes / cp->slice_bytes);
	struct region *r = new_region(cp, bytes);

	if (!r)
		return NULL;
	if (charged_slices < slices)
		cold_init(r, charged_slices);
	/* Advice: each slice is looked at when it is first handed out. */
	r->away = topology_away(cp->node_index);
	if (topology_has_many())
		(void)topology_system()->bind(region_base(r), bytes,
					      cp->node_id);
	gauge_add(&cp->mapped, bytes);
	gauge_add(&cp->allocator->mapped, bytes);
	/* relaxed, both: counters */
	u64_add_relaxed(&cp->cold_bytes, bytes - region_charged(r));
	u64_add_relaxed(&cp->regions_mapped, 1);
	poison_region_mapped(region_base(r), bytes);
	for (uint32_t i = 0; i < slices; i++)
		poison_show_tail(region_slice(r, i),
				 cp->allocator->tail_bytes);
	return r;
}

/*
 * A huge page would back cold slices, too.  So a region that has some never
 * gets one.
 */
static bool keep_cold(struct region *r)
{
	int ret;

	if (!region_cold(r))
		return true;
	r->born_small = true;
	u32_store_relaxed(&r->small_pages, 1); /* relaxed: not yet published */
	ret = os_use_small_pages(region_base(r), r->bytes);
	errno = -ret;
	return !ret;
}

/* First the table, since a slice may be released as soon as it is taken. */
static bool region_publish(struct class_pool *cp, struct region *r)
{
	errno = ENOMEM;
	if (!bands_claim(&cp->bands, &r->slot))
		return false;
	if (!region_table_insert(&cp->allocator->table, r)) {
		bands_vacate(&cp->bands, r->slot);
		return false;
	}
	/* In a section: should a wrong release in another thread give our slice
	 * back meanwhile, the region may go, but not its memory. */
	rcu_enter();
	bands_publish(&cp->bands, r);
	rcu_leave();
	return true;
}

void class_pool_log_refusal(struct class_pool *cp, int error)
{
	allocator_note_error(cp->allocator, error);
	log_event(&cp->allocator->log, SEG_LOG_ERROR,
		  "Cannot map region for pool %d: %s", cp->class_index,
		  strerror(error));
}

static enum open_result map_and_publish(struct class_pool *cp, size_t bytes,
					uint32_t charged_slices,
					struct taken *ret_taken)
{
	struct seg_budget *budget = cp->budget;
	struct region *r = region_map(cp, bytes, charged_slices);

	if (!r) {
		budget_uncharge(budget, charged_slices * cp->slice_bytes);
		budget_notify(budget);
		return OPEN_NO_MEMORY;
	}
	/* Ours since region_init(), and what keeps the region alive. */
	ret_taken->segment = region_slice(r, 0);
	ret_taken->fresh = true;
	poison_handed_out_zero(ret_taken->segment, cp->slice_bytes);
	if (!keep_cold(r) || !region_publish(cp, r)) {
		ret_taken->segment = NULL;
		class_pool_defer_unmap(cp, r);
		return OPEN_NO_MEMORY;
	}
	return OPEN_DONE;
}

enum open_result class_pool_open(struct class_pool *cp, size_t bytes,
				 uint32_t charged_slices,
				 struct taken *ret_taken)
{
	enum open_result result;

	seg_assert(charged_slices && charged_slices <= bytes / cp->slice_bytes);
	ret_taken->segment = NULL;
	if (!budget_charge(cp->budget, charged_slices * cp->slice_bytes))
		return OPEN_NO_BUDGET;
	result = map_and_publish(cp, bytes, charged_slices, ret_taken);
	if (result != OPEN_DONE)
		return result;
	counter_add(&cp->allocations);
	log_opened(cp, bytes);
	budget_notify(cp->budget);
	keeper_kick();
	return OPEN_DONE;
}

bool class_pool_begin_open(struct class_pool *cp)
{
	uint32_t nobody = 0;

	/* relaxed: guards nothing, it only keeps others from mapping too */
	return u32_cas_strong_relaxed(&cp->opening, &nobody, 1);
}

void class_pool_end_open(struct class_pool *cp)
{
	u32_store_relaxed(&cp->opening, 0); /* relaxed: as begin */
}

struct class_sum class_pool_sum(struct class_pool *cp)
{
	struct class_sum sum = { 0 };
	struct stash_sum stashed;
	uint32_t strays;
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
	stashed = stashes_sum(&cp->allocator->stashes, cp, cp->class_index);
	strays = u32_load_relaxed(&cp->strays); /* relaxed: a number */
	stashed.parked += strays;
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
