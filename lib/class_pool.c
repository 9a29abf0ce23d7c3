/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See class_pool.h. */
#include "class_pool.h"

#include <errno.h>
#include <string.h>

#include "assert.h"
#include "keeper.h"
#include "os.h"
#include "poison.h"
#include "rcu.h"

void class_pool_init(struct class_pool *cp, struct allocator *a,
		     int class_index, size_t most_bytes)
{
	cp->allocator = a;
	cp->class_index = class_index;
	cp->slice_bytes = (size_t)SEG_MIN_BYTES << class_index;
	cp->most_bytes = most_bytes;
}

bool class_pool_clear(struct class_pool *cp)
{
	return bands_clear(&cp->bands);
}

/* Takes one slice of a region, and tells the checkers. */
static struct taken take_from(struct class_pool *cp, struct region *r)
{
	struct taken t = { .segment = NULL };
	struct word_change change;
	uint32_t slice;

	if (!region_take(r, 1, &slice, &t.fresh, &change))
		return t;
	bands_changed(&cp->bands, r, change.old, change.new);
	t.segment = region_slice(r, slice);
	if (t.fresh)
		poison_handed_out_zero(t.segment, cp->slice_bytes);
	else
		poison_handed_out(t.segment, cp->slice_bytes);
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

struct taken class_pool_take_any(struct class_pool *cp)
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

void class_pool_give(struct class_pool *cp, struct region *r, uint32_t slice)
{
	struct word_change change;

	seg_assert(rcu_inside());
	poison_released(region_slice(r, slice), cp->slice_bytes);
	change = region_give(r, slice);
	bands_changed(&cp->bands, r, change.old, change.new);
	counter_add(&cp->releases);
}

/* The end of both region lines: what the budget says now. */
struct total {
	unsigned long long charged_kb, limit_kb, mapped_kb;
};

static struct total total_now(const struct allocator *a)
{
	uint64_t word = budget_look(a->budget);

	return (struct total){
		.charged_kb = budget_word_charged(word) / 1024,
		.limit_kb = budget_word_limit(word) / 1024,
		.mapped_kb = gauge_value(&a->mapped) / 1024,
	};
}

static void log_opened(struct class_pool *cp, size_t bytes)
{
	struct total t;

	if (!log_wants(&cp->allocator->log, SEG_LOG_REGION))
		return;
	t = total_now(cp->allocator);
	log_event(&cp->allocator->log, SEG_LOG_REGION,
		  "Allocated new region for pool %d (size %zu): %zu KB with "
		  "%zu slices (total mapped now: %llu KB of %llu KB, address "
		  "space %llu KB)", cp->class_index, cp->slice_bytes,
		  bytes / 1024, bytes / cp->slice_bytes, t.charged_kb,
		  t.limit_kb, t.mapped_kb);
}

static void log_freed(struct class_pool *cp, size_t bytes)
{
	struct total t;

	if (!log_wants(&cp->allocator->log, SEG_LOG_REGION))
		return;
	t = total_now(cp->allocator);
	log_event(&cp->allocator->log, SEG_LOG_REGION,
		  "Freed region from pool %d: %zu KB (total mapped now: %llu "
		  "KB of %llu KB, address space %llu KB)", cp->class_index,
		  bytes / 1024, t.charged_kb, t.limit_kb, t.mapped_kb);
}

static void unmap_refused(struct class_pool *cp, struct region *r, int error)
{
	if (!r->stuck)
		budget_stick(cp->allocator->budget, r->charged_bytes);
	r->stuck = true;
	log_event(&cp->allocator->log, SEG_LOG_ERROR,
		  "Cannot unmap region of pool %d: %s; kept charged, will be "
		  "tried again", cp->class_index, strerror(error));
}

static bool unmap_slices(struct class_pool *cp, struct region *r)
{
	struct allocator *a = cp->allocator;
	int ret;

	poison_region_unmapped(r->base, r->bytes, r->slice_bytes);
	ret = os_unmap(r->base, r->bytes);
	if (ret) {
		unmap_refused(cp, r, -ret);
		return false;
	}
	if (r->stuck)
		budget_unstick(a->budget, r->charged_bytes);
	r->base = NULL;
	gauge_sub(&cp->mapped, r->bytes);
	gauge_sub(&a->mapped, r->bytes);
	budget_uncharge_deferred(a->budget, r->charged_bytes);
	budget_notify(a->budget);
	return true;
}

/* The keeper's part, after the grace period. */
static bool region_unmap(struct work *work)
{
	struct region *r = (struct region *)((char *)work -
					     offsetof(struct region, unmap));
	struct class_pool *cp = r->pool;
	size_t bytes = r->bytes;

	if (r->base) {
		if (!unmap_slices(cp, r))
			return false;
		/* relaxed, both: counters */
		u64_sub_relaxed(&cp->deferred_bytes, bytes);
		u64_add_relaxed(&cp->regions_unmapped, 1);
		log_freed(cp, bytes);
	}
	bytes = r->own_bytes;
	if (os_unmap(r, bytes))
		return false;
	u64_sub_relaxed(&cp->own_bytes, bytes); /* relaxed: counter */
	return true;
}

/* Nobody knows the region, so there is no grace period to wait for. */
static void discard(struct region *r)
{
	int saved = errno;

	if (!region_unmap(&r->unmap))
		keeper_defer(&r->unmap);
	errno = saved;
}

/* A region that nobody knows yet, or NULL; the charge is made. */
static struct region *region_map(struct class_pool *cp, size_t bytes)
{
	uint32_t slices = (uint32_t)(bytes / cp->slice_bytes);
	struct region *r = os_map(region_own_bytes(slices), CACHE_LINE);

	if (!r)
		return NULL;
	region_init(r, slices, 1);
	r->bytes = bytes;
	r->slice_bytes = cp->slice_bytes;
	r->charged_bytes = bytes;
	r->pool = cp;
	r->unmap.run = region_unmap;
	/* relaxed: only unique */
	r->serial = u64_add_relaxed(&cp->allocator->serials, 1) + 1;
	/* relaxed: counter */
	u64_add_relaxed(&cp->own_bytes, r->own_bytes);
	r->base = os_map(bytes, REGION_ALIGN);
	if (!r->base) {
		discard(r);
		return NULL;
	}
	gauge_add(&cp->mapped, bytes);
	gauge_add(&cp->allocator->mapped, bytes);
	u64_add_relaxed(&cp->regions_mapped, 1); /* relaxed: counter */
	poison_region_mapped(r->base, bytes);
	return r;
}

/* First the table, since a slice may be released as soon as it is taken. */
static bool region_publish(struct class_pool *cp, struct region *r)
{
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

/* Deferred bytes stay charged until the keeper has unmapped them. */
static void defer_unmap(struct class_pool *cp, struct region *r)
{
	/* relaxed, both: counters */
	u64_add_relaxed(&cp->deferred_bytes, r->bytes);
	u64_add_relaxed(&cp->regions_retired, 1);
	budget_defer(cp->allocator->budget, r->charged_bytes);
	keeper_defer(&r->unmap);
}

/* True for the one that retired it, if it was all unused as seen. */
static bool retire(struct class_pool *cp, struct region *r, uint64_t seen)
{
	if (!region_retire(r, seen))
		return false;
	bands_remove(&cp->bands, r);
	region_table_remove(&cp->allocator->table, r);
	defer_unmap(cp, r);
	return true;
}

void class_pool_log_refusal(struct class_pool *cp, int error)
{
	log_event(&cp->allocator->log, SEG_LOG_ERROR,
		  "Cannot map region for pool %d: %s", cp->class_index,
		  strerror(error));
}

static enum open_result map_and_publish(struct class_pool *cp, size_t bytes,
					struct taken *ret_taken)
{
	struct seg_budget *budget = cp->allocator->budget;
	struct region *r = region_map(cp, bytes);

	if (!r) {
		budget_uncharge(budget, bytes);
		budget_notify(budget);
		return OPEN_NO_MEMORY;
	}
	/* Ours since region_init(), and what keeps the region alive. */
	ret_taken->segment = region_slice(r, 0);
	ret_taken->fresh = true;
	poison_handed_out_zero(ret_taken->segment, cp->slice_bytes);
	if (!region_publish(cp, r)) {
		ret_taken->segment = NULL;
		errno = ENOMEM;
		defer_unmap(cp, r);
		return OPEN_NO_MEMORY;
	}
	return OPEN_DONE;
}

enum open_result class_pool_open(struct class_pool *cp, size_t bytes,
				 struct taken *ret_taken)
{
	struct allocator *a = cp->allocator;
	enum open_result result;

	ret_taken->segment = NULL;
	if (!budget_charge(a->budget, bytes))
		return OPEN_NO_BUDGET;
	result = map_and_publish(cp, bytes, ret_taken);
	if (result != OPEN_DONE)
		return result;
	counter_add(&cp->allocations);
	log_opened(cp, bytes);
	budget_notify(a->budget);
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

/* Retires the idle regions of one set until the bytes are reached. */
static uint64_t shed_set(struct class_pool *cp, unsigned set, uint64_t bytes)
{
	uint64_t shed = 0;
	uint32_t slot = 0;

	while (shed < bytes && (slot = bands_next(&cp->bands, set, slot)) !=
				       UINT32_MAX) {
		struct region *r = bands_at(&cp->bands, slot++);

		if (r && retire(cp, r, region_look(r)))
			shed += r->bytes;
	}
	return shed;
}

/* What was idle for long first; twice, since the keeper may just have moved a
 * region from the one set to the other. */
uint64_t class_pool_shed(struct class_pool *cp, uint64_t bytes)
{
	static const unsigned sets[] = { BAND_SPARE, BAND_SPARSEST,
					 BAND_SPARE };
	uint64_t shed = 0;

	rcu_enter();
	for (unsigned i = 0; i < 3 && shed < bytes; i++)
		shed += shed_set(cp, sets[i], bytes - shed);
	rcu_leave();
	return shed;
}

uint64_t class_pool_trim(struct class_pool *cp)
{
	uint32_t slots = bands_slots(&cp->bands);
	uint64_t trimmed = 0;

	rcu_enter();
	for (uint32_t slot = 0; slot < slots; slot++) {
		struct region *r = bands_at(&cp->bands, slot);

		if (r && retire(cp, r, region_look(r)))
			trimmed += r->bytes;
	}
	rcu_leave();
	return trimmed;
}

/*
 * A word that did not change means that nothing happened to the region since:
 * each change raises the tag.  So idleness costs allocate and release nothing.
 */
static void decay_region(struct class_pool *cp, struct region *r,
			 uint64_t now_ns, uint64_t idle_ns)
{
	uint64_t word = region_look(r);

	if (bands_of(word, r->slices) != BAND_SPARE)
		return;
	if (r->idle_word != word) {
		r->idle_word = word;
		r->idle_since_ns = now_ns;
		bands_settle(&cp->bands, r->slot);
	} else if (now_ns - r->idle_since_ns >= idle_ns) {
		retire(cp, r, word);
	}
}

static void decay_set(struct class_pool *cp, unsigned set, uint64_t now_ns,
		      uint64_t idle_ns)
{
	uint32_t slot = 0;

	while ((slot = bands_next(&cp->bands, set, slot)) != UINT32_MAX) {
		struct region *r = bands_at(&cp->bands, slot++);

		if (r)
			decay_region(cp, r, now_ns, idle_ns);
	}
}

bool class_pool_decay(struct class_pool *cp, uint64_t now_ns, uint64_t idle_ns)
{
	rcu_enter();
	decay_set(cp, BAND_SPARE, now_ns, idle_ns);
	decay_set(cp, BAND_SPARSEST, now_ns, idle_ns);
	rcu_leave();
	/* relaxed: a region opened since kicks the keeper */
	return u64_load_relaxed(&cp->regions_mapped) !=
	       u64_load_relaxed(&cp->regions_retired); /* relaxed: as above */
}

struct class_sum class_pool_sum(struct class_pool *cp)
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
		sum.spares += word_unused(word) == r->slices;
	}
	rcu_leave();
	return sum;
}

/* The region is where table and hints say, and its own equations hold. */
static bool region_fits(struct class_pool *cp, struct region *r)
{
	unsigned band = bands_of(region_look(r), r->slices);

	return region_is_valid(r) && r->pool == cp &&
	       r->charged_bytes == r->bytes &&
	       region_table_find(&cp->allocator->table, r->base, NULL) == r &&
	       region_table_find(&cp->allocator->table,
				 r->base + r->bytes - 1, NULL) == r &&
	       bands_has_hint(&cp->bands, r->slot) == (band != BAND_NONE);
}

static bool sums_fit(struct class_pool *cp, uint64_t bytes)
{
	struct class_sum sum = class_pool_sum(cp);
	uint64_t active = counter_sum(&cp->allocations) -
			  counter_sum(&cp->releases);

	/* relaxed, all of these: counters, and nobody changes them */
	return active == sum.slices - sum.unused &&
	       sum.regions == u64_load_relaxed(&cp->regions_mapped) -
				      u64_load_relaxed(&cp->regions_retired) &&
	       gauge_value(&cp->mapped) ==
		       bytes + u64_load_relaxed(&cp->deferred_bytes);
}

bool class_pool_is_valid(struct class_pool *cp)
{
	uint32_t slots = bands_slots(&cp->bands);
	uint64_t bytes = 0;
	bool valid = true;

	rcu_enter();
	for (uint32_t slot = 0; slot < slots; slot++) {
		struct region *r = bands_at(&cp->bands, slot);

		if (!r)
			continue;
		bytes += r->bytes;
		valid = valid && region_fits(cp, r);
	}
	valid = valid && sums_fit(cp, bytes);
	rcu_leave();
	return valid;
}
