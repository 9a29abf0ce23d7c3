/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Unused slices of a class pool give up their backing and their charge, and
 * are charged again before they are handed out.  cold.h has the protocol and
 * its argument, this file what is done in its order: withdraw, discard,
 * uncharge, push; charge, pop.
 *
 * A discard goes in runs.  Slices that were never handed out have no backing:
 * nothing is asked of the kernel for them, but where a huge page may have
 * backed them along with a neighbour, or the region was backed ahead of use.
 * A huge page of which a part is discarded is split first: the kernel would
 * keep that part, though it belongs to nobody, as long as the rest is in use.
 * A region of which the kernel discards nothing (locked memory) rests for a
 * while.  Each try takes its slices out of reach for a moment and so has to
 * wake those who wait, itself included: without a rest they kept each other
 * awake.
 * A region that is all cold stays for who needs the class next, until it is
 * idle for long enough: were it unmapped at once, nothing would hold back those
 * who map and decommit faster than the keeper unmaps, since it charges nothing.
 */
#include "class_pool.h"

#include <string.h>

#include "cold.h"
#include "os.h"
#include "poison.h"
#include "rcu.h"

enum {
	STEP_BYTES = 4 << 20,	/* in a hand at most: lost if that stops */
	REST_NS = 10 * 1000 * 1000,	/* of a region after a refusal */
};

/* ---- out ---- */

/* What was handed out once may be backed. */
static bool was_touched(const struct region *r, uint32_t slice)
{
	return region_generation(r, slice) != 0;
}

/* Regions are aligned as huge pages are. */
static bool block_was_touched(const struct region *r, uint32_t slice)
{
	uint32_t per_block = (uint32_t)(REGION_ALIGN / r->slice_bytes);
	uint32_t at = slice / per_block * per_block;
	uint32_t end = at + per_block < r->slices ? at + per_block : r->slices;

	while (at < end && !was_touched(r, at))
		at++;
	return at < end;
}

static bool may_be_backed(const struct region *r, uint32_t slice)
{
	/* relaxed: released by the give, after ahead.c backed it */
	return was_touched(r, slice) || u32_load_relaxed(&r->backed) ||
	       (!r->born_small && block_was_touched(r, slice));
}

/* One line, however often it is refused until it is not. */
static void refused(struct class_pool *cp, struct region *r, int error)
{
	/* relaxed, both: hints, and what is told */
	bool again = u64_load_relaxed(&r->kept_since_ns) != 0;

	allocator_note_error(cp->allocator, error);
	/* relaxed: as above */
	u32_store_relaxed(&r->kept_error, (uint32_t)error);
	/* release -> is_resting(): the reason */
	u64_store_release(&r->kept_since_ns, os_now_ns());
	if (again)
		return;
	log_event(&cp->allocator->log, SEG_LOG_ERROR,
		  "Cannot discard unused slices of pool %d: %s; kept charged",
		  cp->class_index, strerror(error));
}

static void not_refused(struct region *r)
{
	/* relaxed, both: hints */
	if (u64_load_relaxed(&r->kept_since_ns))
		u64_store_relaxed(&r->kept_since_ns, 0); /* relaxed: hint */
}

/* Who finds nothing else is told why. */
static bool is_resting(struct class_pool *cp, struct region *r)
{
	/* acquire <- refused() */
	uint64_t since_ns = u64_load_acquire(&r->kept_since_ns);
	uint32_t error = u32_load_relaxed(&r->kept_error); /* relaxed: a hint */

	if (!since_ns || os_now_ns() >= since_ns + REST_NS)
		return false;
	allocator_note_error(cp->allocator, (int)error);
	return true;
}

/* From now on touching a slice backs that one only. */
static int use_small_pages(struct region *r)
{
	int ret = 0;

	/* acquire <- below: what the kernel did comes before our discard */
	if (u32_load_acquire(&r->small_pages))
		return 0;
	ret = os_use_small_pages(region_base(r), r->bytes);
	if (!ret)
		u32_store_release(&r->small_pages, 1); /* release -> above */
	return ret;
}

/* The end of the run that begins with a member. */
static uint32_t run_end(const struct region *r, const struct slice_set *set,
			uint32_t at)
{
	while (at < r->slices && slice_set_has(set, at) && may_be_backed(r, at))
		at++;
	return at;
}

/* In its first page there, which is about to be discarded. */
static void split_block(struct region *r, size_t at)
{
	uint64_t bit = (uint64_t)1 << at / REGION_ALIGN;

	/* acquire <- below: what the kernel did comes before our discard */
	if (u64_load_acquire(&r->split) & bit)
		return;
	(void)os_split_huge_page(region_base(r) + at);
	u64_or_seq_cst(&r->split, bit); /* seq_cst: release -> above */
}

/* Where only a part of a huge page goes, at the ends of a run. */
static void split_ends(struct region *r, uint32_t first, uint32_t end)
{
	size_t from = first * r->slice_bytes, to = end * r->slice_bytes;
	size_t last = (to - 1) / REGION_ALIGN * REGION_ALIGN;

	if (r->born_small || r->bytes < REGION_ALIGN)
		return;
	if (from % REGION_ALIGN || to - from < REGION_ALIGN)
		split_block(r, from);
	if (to % REGION_ALIGN && last > from)
		split_block(r, last);
}

static int discard_run(struct region *r, uint32_t first, uint32_t end)
{
	split_ends(r, first, end);
	return os_discard(region_slice(r, first),
			  (end - first) * r->slice_bytes);
}

/* The members that are not backed any more; *ret_count is how many. */
static int discard(struct region *r, const struct slice_set *set,
		   struct slice_set *ret_cold, uint32_t *ret_count)
{
	int ret = use_small_pages(r);
	uint32_t at = 0;

	*ret_cold = (struct slice_set){ .bits = { 0 } };
	*ret_count = 0;
	while (!ret && (at = slice_set_next(set, at)) != REGION_MAX_SLICES) {
		uint32_t end = run_end(r, set, at);

		for (uint32_t i = at; i < end; i++)
			poison_discarded(region_slice(r, i));
		if (end > at)
			ret = discard_run(r, at, end);
		else
			end = at + 1;
		for (; !ret && at < end; at++, ++*ret_count)
			slice_set_add(ret_cold, at);
	}
	return ret;
}

/* As they were: unused and charged. */
static void put_back(struct region *r, const struct slice_set *set,
		     const struct slice_set *cold)
{
	for (uint32_t i = 0; (i = slice_set_next(set, i)) != REGION_MAX_SLICES;
	     i++)
		if (!slice_set_has(cold, i))
			region_give(r, i);
}

static void make_cold(struct class_pool *cp, struct region *r,
		      const struct slice_set *cold, uint32_t count)
{
	uint64_t bytes = count * r->slice_bytes;

	/* relaxed, both: counters */
	u64_add_relaxed(&cp->cold_bytes, bytes);
	u64_add_relaxed(&cp->decommitted_bytes, bytes);
	budget_uncharge(cp->budget, bytes);
	cold_push(r, cold, count);
}

/* Up to so many slices of a region; how many. */
static uint32_t decommit_some(struct class_pool *cp, struct region *r,
			      uint32_t want)
{
	struct slice_set set, cold;
	uint32_t count;
	int ret;

	if (is_resting(cp, r) || !cold_withdraw(r, want, &set))
		return 0;
	ret = discard(r, &set, &cold, &count);
	if (count)
		make_cold(cp, r, &cold, count);
	if (ret)
		put_back(r, &set, &cold);
	bands_settle(&cp->bands, r->slot);
	bands_settle_cold(&cp->bands, r->slot);
	budget_notify(cp->budget);
	if (ret)
		refused(cp, r, -ret);
	else
		not_refused(r);
	return count;
}

static bool cool(struct class_pool *cp, struct region *r, uint32_t slice)
{
	struct slice_set set = { .bits = { 0 } }, cold;
	uint32_t count;
	int ret;

	/* Another thread may have released it by mistake. */
	if (!region_disown(r, slice))
		return true;
	poison_released(region_slice(r, slice), cp->slice_bytes,
			cp->allocator->tail_bytes);
	counter_add(&cp->releases);
	slice_set_add(&set, slice);
	ret = discard(r, &set, &cold, &count);
	if (count)
		make_cold(cp, r, &cold, count);
	if (ret) {
		/* relaxed: released by the give, for whoever takes it */
		u32_store_relaxed(&cp->unplaced, 1);
		put_back(r, &set, &cold);
	}
	bands_settle(&cp->bands, r->slot);
	bands_settle_cold(&cp->bands, r->slot);
	budget_notify(cp->budget);
	return !ret;
}

bool class_pool_cool(struct class_pool *cp, void *segment)
{
	struct region *r;
	bool cold = true;

	rcu_enter();
	r = region_table_find(&cp->allocator->table, segment, NULL);
	if (r)
		cold = cool(cp, r, (uint32_t)((size_t)((char *)segment -
						       region_base(r)) /
					      r->slice_bytes));
	rcu_leave();
	return cold;
}

static uint32_t slices_for(const struct class_pool *cp, uint64_t bytes)
{
	uint64_t most = STEP_BYTES / cp->slice_bytes;
	uint64_t slices = bytes / cp->slice_bytes +
			  (bytes % cp->slice_bytes != 0);

	return (uint32_t)(slices < most ? slices : most);
}

/* A section for each step, so that it delays no unmapping for long. */
uint64_t class_pool_decommit(struct class_pool *cp, unsigned band,
			     uint64_t bytes)
{
	uint64_t given = 0;
	uint32_t slot = 0;

	while (given < bytes &&
	       (slot = bands_next(&cp->bands, band, slot)) != UINT32_MAX) {
		struct region *r;
		uint64_t more = 0;

		rcu_enter();
		r = bands_at(&cp->bands, slot);
		if (r)
			more = decommit_some(cp, r, slices_for(cp, bytes -
							       given)) *
			       cp->slice_bytes;
		rcu_leave();
		given += more;
		slot += !more;
	}
	return given;
}

/* ---- and in again ---- */

/* A look for a cold slice; it charges for one when it is at one. */
struct search {
	struct class_pool *cp;
	bool charged;
	bool no_room;
	void *segment;
};

static bool charge(struct search *s)
{
	if (!s->charged)
		s->charged = budget_charge(s->cp->budget,
					   s->cp->slice_bytes);
	s->no_room = !s->charged;
	return s->charged;
}

static void look_into(struct search *s, struct region *r)
{
	struct bands *b = &s->cp->bands;
	uint32_t slice;

	if (cold_can_pop(r) && charge(s) && cold_pop(r, &slice)) {
		s->segment = region_slice(r, slice);
		bands_settle(b, r->slot);
	}
	if (!s->no_room)
		bands_settle_cold(b, r->slot);
}

static bool is_over(const struct search *s)
{
	return s->segment || s->no_room;
}

/* Sparse regions shall drain: in those only if they are let. */
static void look_by_hints(struct search *s, bool sparse_too)
{
	struct bands *b = &s->cp->bands;
	uint32_t slot = 0;

	while (!is_over(s) &&
	       (slot = bands_next(b, BAND_COLD, slot)) != UINT32_MAX) {
		struct region *r = bands_at(b, slot++);

		if (r && (sparse_too || !bands_is_sparse(r, region_look(r))))
			look_into(s, r);
	}
}

static void look_everywhere(struct search *s)
{
	struct bands *b = &s->cp->bands;
	uint32_t slots = bands_slots(b);

	for (uint32_t slot = 0; !is_over(s) && slot < slots; slot++) {
		struct region *r = bands_at(b, slot);

		if (r && region_cold(r))
			look_into(s, r);
	}
}

static struct taken result_of(const struct search *s)
{
	struct class_pool *cp = s->cp;
	struct seg_budget *budget = cp->budget;

	if (s->segment) {
		/* relaxed, both: counters */
		u64_sub_relaxed(&cp->cold_bytes, cp->slice_bytes);
		u64_add_relaxed(&cp->recommitted_bytes, cp->slice_bytes);
		counter_add(&cp->allocations);
		poison_handed_out_zero(s->segment, cp->slice_bytes);
	} else if (s->charged) {
		budget_uncharge(budget, cp->slice_bytes);
		budget_notify(budget);
	}
	return (struct taken){ .segment = s->segment,
			       .fresh = s->segment != NULL };
}

struct taken class_pool_take_cold(struct class_pool *cp)
{
	struct search s = { .cp = cp };

	rcu_enter();
	look_by_hints(&s, false);
	look_by_hints(&s, true);
	rcu_leave();
	return result_of(&s);
}

struct taken class_pool_take_any_cold(struct class_pool *cp)
{
	struct search s = { .cp = cp };

	rcu_enter();
	look_everywhere(&s);
	rcu_leave();
	return result_of(&s);
}
