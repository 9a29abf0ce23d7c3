/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * See class_pool.h: how regions go, at once under pressure, after a time by the
 * keeper's looks, all of them by a trim.
 */
#include <string.h>

#include "class_pool.h"
#include "keeper.h"
#include "os.h"
#include "poison.h"
#include "rcu.h"

static void log_freed(struct class_pool *cp, size_t bytes)
{
	struct allocator_total t;

	if (!log_wants(&cp->allocator->log, SEG_LOG_REGION))
		return;
	t = allocator_total(cp->allocator);
	log_event(&cp->allocator->log, SEG_LOG_REGION,
		  "Freed region from pool %d: %zu KB (total mapped now: %llu "
		  "KB of %llu KB, address space %llu KB)", cp->class_index,
		  bytes / 1024, t.charged_kb, t.limit_kb, t.mapped_kb);
}

static void unmap_refused(struct class_pool *cp, struct region *r, int error)
{
	if (!r->stuck)
		budget_stick(cp->budget, region_charged(r));
	r->stuck = true;
	allocator_note_error(cp->allocator, error);
	log_event(&cp->allocator->log, SEG_LOG_ERROR,
		  "Cannot unmap region of pool %d: %s; kept charged, will be "
		  "tried again", cp->class_index, strerror(error));
}

static bool unmap_slices(struct class_pool *cp, struct region *r)
{
	int ret;

	poison_region_unmapped(region_base(r), r->bytes, r->slice_bytes);
	ret = os_unmap(region_base(r), r->bytes +
				       allocator_tail_map(cp->allocator));
	if (ret) {
		unmap_refused(cp, r, -ret);
		return false;
	}
	region_set_base(r, NULL);
	return true;
}

static void count_unmapped(struct class_pool *cp, struct region *r)
{
	uint64_t charged = region_charged(r);

	gauge_sub(&cp->mapped, r->bytes);
	gauge_sub(&cp->allocator->mapped, r->bytes);
	/* relaxed, all: counters */
	u64_sub_relaxed(&cp->deferred_bytes, r->bytes);
	u64_sub_relaxed(&cp->deferred_cold_bytes, r->bytes - charged);
	u64_sub_relaxed(&cp->cold_bytes, r->bytes - charged);
	if (r->stuck)
		budget_unstick(cp->budget, charged);
	budget_uncharge_deferred(cp->budget, charged);
	budget_notify(cp->budget);
}

/* Their owners released these slices, too: claim.c reports it. */
static void drop_strays(struct class_pool *cp, struct region *r)
{
	uint32_t lost = region_drop_strays(r);

	if (!lost)
		return;
	/* relaxed, all: hints, and numbers */
	u32_add_relaxed(&r->strays, 0 - lost);
	u32_add_relaxed(&cp->strays, 0 - lost);
	u32_add_relaxed(&cp->allocator->stashes.lost, lost);
}

/* The keeper's part, after the grace period. */
bool class_pool_unmap(struct work *work)
{
	struct region *r = (struct region *)((char *)work -
					     offsetof(struct region, unmap));
	struct class_pool *cp = r->pool;
	size_t bytes = r->bytes;

	if (!unmap_slices(cp, r))
		return false;
	moves_begin(&cp->allocator->moves);
	count_unmapped(cp, r);
	drop_strays(cp, r);
	region_store_put(&cp->store, r);
	/* seq_cst: release -> all_unmapped(): nothing is left to do here */
	u64_add_seq_cst(&cp->regions_unmapped, 1);
	moves_end(&cp->allocator->moves);
	log_freed(cp, bytes);
	return true;
}

bool class_pool_is_unmapped(struct class_pool *cp)
{
	/* relaxed: by contract nobody opens one meanwhile */
	uint64_t mapped = u64_load_relaxed(&cp->regions_mapped);

	/* acquire <- class_pool_unmap() */
	return u64_load_acquire(&cp->regions_unmapped) == mapped;
}

/* Deferred bytes stay charged until the keeper has unmapped them. */
void class_pool_defer_unmap(struct class_pool *cp, struct region *r)
{
	/* relaxed, all: counters */
	u64_add_relaxed(&cp->deferred_bytes, r->bytes);
	u64_add_relaxed(&cp->deferred_cold_bytes, r->bytes - region_charged(r));
	u64_add_relaxed(&cp->regions_retired, 1);
	budget_defer(cp->budget, region_charged(r));
	keeper_defer(&r->unmap);
}

bool class_pool_retire(struct class_pool *cp, struct region *r, uint64_t seen)
{
	if (!region_is_idle(r, seen))
		return false;
	if (!region_retire(r, seen)) {
		/* Its cold slices may have been out of reach. */
		budget_notify(cp->budget);
		return false;
	}
	bands_remove(&cp->bands, r);
	region_table_remove(&cp->allocator->table, r);
	class_pool_defer_unmap(cp, r);
	return true;
}

/* Retires the idle regions of one set until the bytes are reached. */
static uint64_t shed_set(struct class_pool *cp, unsigned set, uint64_t bytes)
{
	uint64_t shed = 0;
	uint32_t slot = 0;

	while (shed < bytes && (slot = bands_next(&cp->bands, set, slot)) !=
				       UINT32_MAX) {
		struct region *r = bands_at(&cp->bands, slot++);

		if (r && class_pool_retire(cp, r, region_look(r)))
			shed += region_charged(r);
	}
	return shed;
}

/*
 * One that is all cold, which brings no charge, but address space if that is
 * what is missing.  One at a time: as long as it is deferred, the others stay.
 */
static void shed_all_cold(struct class_pool *cp)
{
	uint32_t slot = 0;

	/* relaxed: a hint */
	while (!u64_load_relaxed(&cp->deferred_cold_bytes) &&
	       (slot = bands_next(&cp->bands, BAND_COLD, slot)) != UINT32_MAX) {
		struct region *r = bands_at(&cp->bands, slot++);

		if (r)
			class_pool_retire(cp, r, region_look(r));
	}
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
	if (shed < bytes)
		shed_all_cold(cp);
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

		if (r && class_pool_retire(cp, r, region_look(r)))
			trimmed += region_charged(r);
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

	if (word_retired(word) || !region_is_idle(r, word))
		return;
	if (r->idle_word != word) {
		r->idle_word = word;
		r->idle_since_ns = now_ns;
		bands_settle(&cp->bands, r->slot);
	} else if (now_ns - r->idle_since_ns >= idle_ns) {
		class_pool_retire(cp, r, word);
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
	moves_begin(&cp->allocator->moves);
	rcu_enter();
	decay_set(cp, BAND_SPARE, now_ns, idle_ns);
	decay_set(cp, BAND_SPARSEST, now_ns, idle_ns);
	decay_set(cp, BAND_COLD, now_ns, idle_ns);
	rcu_leave();
	moves_end(&cp->allocator->moves);
	/* relaxed: a region opened since kicks the keeper */
	return u64_load_relaxed(&cp->regions_mapped) !=
	       u64_load_relaxed(&cp->regions_retired); /* relaxed: as above */
}
