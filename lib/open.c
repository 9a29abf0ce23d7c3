/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * See class_pool.h: how regions come, for a thread that needs a slice now, or
 * ahead of that (ahead.c), and which pages the kernel may back them with.
 *
 * Huge pages make growing and giving back several times as fast, but back what
 * lies around the byte that is touched, too.  So there are none where a slice
 * is cold: what is backed is never more than what is charged.  A region that
 * gives slices up later keeps those that it has, and the kernel splits one of
 * which a part is discarded; it gets no more of them (decommit.c).
 */
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

enum { LOW_SHARE = 4 };		/* of its slices are left: it runs low */

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
	r->low = cp->allocator->ahead > SEG_AHEAD_NONE ?
			 r->slices / LOW_SHARE : 0;
	r->idle_word = 0;
	/* relaxed, all: published with the region */
	u32_store_relaxed(&r->small_pages, 0);
	u32_store_relaxed(&r->backed, 0);
	u64_store_relaxed(&r->split, 0);
	u32_store_relaxed(&r->asked_ahead, 0);
	u64_store_relaxed(&r->kept_since_ns, 0);
	u64_store_relaxed(&r->serial,
			  u64_add_relaxed(&cp->allocator->serials, 1) + 1);
}

/* With its slices mapped, the first so many taken; or NULL and errno. */
static struct region *new_region(struct class_pool *cp, size_t bytes,
				 uint32_t taken)
{
	struct region *r = region_store_get(
		&cp->store, (uint32_t)(bytes / cp->slice_bytes), taken);
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
				 uint32_t charged_slices, uint32_t taken)
{
	uint32_t slices = (uint32_t)(bytes / cp->slice_bytes);
	struct region *r = new_region(cp, bytes, taken);

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

static bool use_small_pages(struct region *r)
{
	int ret = os_use_small_pages(region_base(r), r->bytes);

	r->born_small = true;
	u32_store_relaxed(&r->small_pages, 1); /* relaxed: not yet published */
	errno = -ret;
	return !ret;
}

/* Where huge pages are refused, small ones are as good. */
static bool choose_pages(struct class_pool *cp, struct region *r)
{
	enum seg_huge_pages wanted = cp->allocator->huge_pages;

	if (region_cold(r) || wanted == SEG_HUGE_PAGES_NEVER)
		return use_small_pages(r);
	if (wanted == SEG_HUGE_PAGES_ASK && r->bytes >= REGION_ALIGN)
		(void)os_use_huge_pages(region_base(r), r->bytes);
	return true;
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

static struct region *map_or_uncharge(struct class_pool *cp, size_t bytes,
				      uint32_t charged_slices, uint32_t taken)
{
	struct region *r = region_map(cp, bytes, charged_slices, taken);

	if (!r) {
		budget_uncharge(cp->budget, charged_slices * cp->slice_bytes);
		budget_notify(cp->budget);
	}
	return r;
}

/* False: the kernel refused, errno says why; and the region goes. */
static bool show_region(struct class_pool *cp, struct region *r)
{
	if (choose_pages(cp, r) && region_publish(cp, r))
		return true;
	class_pool_defer_unmap(cp, r);
	return false;
}

static enum open_result map_and_publish(struct class_pool *cp, size_t bytes,
					uint32_t charged_slices,
					struct taken *ret_taken)
{
	struct region *r = map_or_uncharge(cp, bytes, charged_slices, 1);
	void *first;

	if (!r)
		return OPEN_NO_MEMORY;
	/* Ours since region_init(), and what keeps the region alive. */
	first = region_slice(r, 0);
	poison_handed_out_zero(first, cp->slice_bytes);
	if (!show_region(cp, r))
		return OPEN_NO_MEMORY;
	*ret_taken = (struct taken){ .segment = first, .fresh = true };
	return OPEN_DONE;
}

static void was_opened(struct class_pool *cp, size_t bytes)
{
	log_opened(cp, bytes);
	budget_notify(cp->budget);
	keeper_kick();
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
	was_opened(cp, bytes);
	return OPEN_DONE;
}

/* Once it is shown, others may take all of it, and even retire it. */
static bool show_spare(struct class_pool *cp, size_t bytes, uint32_t *ret_slot)
{
	uint32_t slices = (uint32_t)(bytes / cp->slice_bytes);
	struct region *r = map_or_uncharge(cp, bytes, slices, 0);

	if (!r || !show_region(cp, r))
		return false;
	*ret_slot = r->slot;	/* only the keeper, which we are, unmaps it */
	u64_add_relaxed(&cp->regions_ahead, 1); /* relaxed: counter */
	return true;
}

enum open_result class_pool_open_spare(struct class_pool *cp, size_t bytes,
				       uint32_t *ret_slot)
{
	bool shown;

	if (!budget_charge(cp->budget, bytes))
		return OPEN_NO_BUDGET;
	moves_begin(&cp->allocator->moves);
	shown = show_spare(cp, bytes, ret_slot);
	moves_end(&cp->allocator->moves);
	if (!shown)
		return OPEN_NO_MEMORY;
	was_opened(cp, bytes);
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
