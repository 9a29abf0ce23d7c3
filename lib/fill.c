/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See fill.h, and stash.h for the protocol and its argument. */
#include "fill.h"

#include "inbox.h"
#include "load.h"
#include "rcu.h"

static bool grow(struct stash *st, struct class_pool *cp)
{
	return stash_grow(&st->allocator->stashes, st, cp->class_index,
			  cp->slice_bytes, budget_limit(cp->budget));
}

/* In a section, open: how many slices the thread may have more.  An empty
 * magazine was too small, or is another pool's. */
static uint32_t make_room(struct stash *st, struct class_pool *cp)
{
	struct magazine *m = &st->magazine[cp->class_index];
	uint32_t count = stash_count(st, cp->class_index);

	if (!count && magazine_pool(m) != cp)
		magazine_bind(m, cp);
	if (magazine_pool(m) != cp)
		return 0;
	if (!count)
		grow(st, cp);
	return m->room - count;
}

static uint32_t ask_room(struct stash *st, struct class_pool *cp)
{
	uint32_t room = 0;

	section_enter(&st->section);
	if (stash_is_open(st))
		room = make_room(st, cp);
	section_leave(&st->section);
	return room < STASH_BATCH ? room : STASH_BATCH;
}

/* Its generation is even: not 0, but for the first life. */
static struct parked parked_of(struct region *r, uint32_t slice)
{
	uint64_t generation = region_generation(r, slice);

	if (!generation)
		/* relaxed: the slice is ours */
		u64_store_relaxed(&r->generations[slice], r->floor);
	return (struct parked){
		.segment = region_slice(r, slice),
		.generation = &r->generations[slice],
		.out = generation ? PARKED_USED : PARKED_FRESH,
	};
}

/* In a section, open: how many there was room for.  The last comes first. */
static uint32_t push_all(struct stash *st, struct class_pool *cp,
			 struct region *r, const struct parked *parked,
			 uint32_t count)
{
	struct magazine *m = &st->magazine[cp->class_index];
	uint32_t at = stash_count(st, cp->class_index);
	uint32_t room = magazine_pool(m) == cp ? m->room - at : 0;
	struct parked *to = stash_place(st, stash_bottom(cp->class_index)) + 1;

	count = count < room ? count : room;
	for (uint32_t i = 0; i < count; i++) {
		const struct parked *from = &parked[count - 1 - i];

		/* relaxed: released by stash_hand_out() */
		u16_store_relaxed(&r->owners[parked_slice(r, from)],
				  (uint16_t)st->number);
		to[at + i] = *from;
	}
	if (count)
		stash_set_count(st, cp->class_index, at + count);
	return count;
}

static void park_all(struct stash *st, struct class_pool *cp, struct region *r,
		     struct parked *parked, uint32_t count)
{
	uint32_t done = 0;

	section_enter(&st->section);
	if (stash_is_open(st))
		done = push_all(st, cp, r, parked, count);
	section_leave(&st->section);
	load_give(st->allocator, parked + done, count - done);
	if (count > done)	/* who waits may have missed them in our hand */
		budget_notify(cp->budget);
}

/* The first is the caller's, the others are parked. */
static struct taken take_some(struct stash *st, struct class_pool *cp,
			      uint32_t want)
{
	struct parked parked[STASH_BATCH];
	uint32_t slices[STASH_BATCH + 1];
	struct taken t = { .segment = NULL };
	struct region *r;
	uint32_t n = class_pool_take_unused(cp, want, slices, &r);

	if (!n)
		return t;
	t = class_pool_hand_out(cp, r, slices[0]);
	for (uint32_t i = 1; i < n; i++)
		parked[i - 1] = parked_of(r, slices[i]);
	park_all(st, cp, r, parked, n - 1);
	return t;
}

/* In a section, open: whether there is room for one more of that pool's. */
static bool has_room(struct stash *st, struct class_pool *cp)
{
	struct magazine *m = &st->magazine[cp->class_index];
	uint32_t count = stash_count(st, cp->class_index);

	if (!count && magazine_pool(m) != cp)
		magazine_bind(m, cp);
	return magazine_pool(m) == cp && (count < m->room || grow(st, cp));
}

/* In a section, open: a slice that another thread released, unless it is of
 * another node than what the thread is about to take. */
static bool park_won(struct stash *st, const struct class_pool *near,
		     const struct claim *c)
{
	struct region *r = ptr_load_relaxed(&c->region); /* relaxed: ours */
	struct magazine *m = &st->magazine[r->pool->class_index];
	void *segment = region_slice(r, c->slice);

	if (r->pool->node_index != near->node_index || !has_room(st, r->pool))
		return false;
	stash_hide(st, m, segment);
	/* relaxed: our own */
	stash_push(st, m, u32_load_relaxed(&m->top), segment,
		   &r->generations[c->slice]);
	magazine_count_release(m);
	return true;
}

/* Who claimed them has their lines: all are fetched at once. */
static void prefetch(const struct claim *claims, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		/* relaxed: ours */
		const struct region *r = ptr_load_relaxed(&claims[i].region);

		__builtin_prefetch(&r->generations[claims[i].slice], 1);
	}
}

/* What others brought is parked; what does not fit goes to its regions. */
static bool unpack(struct stash *st, const struct class_pool *near)
{
	struct claim claim[STASH_BATCH], lost[STASH_BATCH];
	uint32_t count = 0, rest = 0, losses = 0;

	section_enter(&st->section);
	if (stash_is_open(st))
		count = inbox_take(&near->allocator->stashes, &st->inbox,
				   inbox_full(&st->inbox), claim);
	prefetch(claim, count);
	for (uint32_t i = 0; i < count; i++) {
		if (!claim_is_won(&claim[i]))
			lost[losses++] = claim[i];
		else if (!park_won(st, near, &claim[i]))
			claim[rest++] = claim[i];
	}
	section_leave(&st->section);
	claims_give(claim, rest);
	if (rest)	/* as in park_all() */
		budget_notify(near->budget);
	claims_report_lost(st->allocator, lost, losses);
	return count != 0;
}

/* What others released last, or nothing. */
static struct taken take_brought(struct stash *st, struct class_pool *cp)
{
	struct taken t = { .segment = NULL };

	while (!t.segment && unpack(st, cp))
		t = stash_take(st, cp, cp->class_index);
	if (t.segment)
		taken_show(&t, cp->slice_bytes);
	return t;
}

/* Where others wait, nobody takes more than it needs. */
struct taken fill_take(struct class_pool *cp)
{
	struct stash *st = stash_make(&cp->allocator->stashes);
	struct taken t = { .segment = NULL };
	uint32_t room = 0;

	if (st && !budget_has_waiters(cp->budget)) {
		t = take_brought(st, cp);
		room = t.segment ? 0 : ask_room(st, cp);
	}
	if (t.segment)
		return t;
	return room ? take_some(st, cp, room + 1) : class_pool_take(cp);
}

/* ---- parking ---- */

/* In a section, open: whether it is parked; else there may be a load. */
static bool make_room_and_push(struct stash *st, struct class_pool *cp,
			       struct region *r, uint32_t slice,
			       struct load *load)
{
	int c = cp->class_index;
	struct magazine *m = &st->magazine[c];

	if (!has_room(st, cp)) {
		if (magazine_pool(m) != cp || !m->room)
			return false;
		load_slices(load, st, c, (m->room + 1) / 2);
	}
	/* relaxed: our own */
	stash_push(st, m, u32_load_relaxed(&m->top),
		   region_slice(r, slice), &r->generations[slice]);
	/* relaxed, both: our own; it was released as a region's */
	u64_store_relaxed(&m->filled, u64_load_relaxed(&m->filled) + 1);
	return true;
}

void fill_park(struct stash *st, struct region *r, uint32_t slice)
{
	struct load load;
	bool done = false;

	load.count = 0;
	if (st) {
		section_enter(&st->section);
		/* relaxed: released by stash_hand_out() */
		u16_store_relaxed(&r->owners[slice], (uint16_t)st->number);
		done = stash_is_open(st) &&
		       make_room_and_push(st, r->pool, r, slice, &load);
		section_leave(&st->section);
	}
	load_give(r->pool->allocator, load.parked, load.count);
	if (done)
		return;
	rcu_enter();
	class_pool_put_back(r->pool, r, &slice, 1);
	rcu_leave();
}
